"""An engine's session: it runs commands and tasks, captures their output, and converts exceptions to plain data.

Nothing in this package depends on the kernel.  Start at :mod:`ipython1.core.interpreter`.
"""
