"""The adapters: how each system does each piece of work in its own best usual way.

A module here loads its system only when it is started, so that the others know of it without having it.
"""
