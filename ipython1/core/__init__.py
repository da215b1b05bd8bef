"""An engine's session: it runs commands and tasks, captures what they print, and turns what they raise into plain data.

Nothing here knows of the kernel around it.  Start at :mod:`ipython1.core.interpreter`.
"""
