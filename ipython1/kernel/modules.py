"""Modules and files for engines."""

from ipython1.kernel.calls.modules import SyncImports, push_files, push_module, sync_imports

__all__ = [
    "SyncImports",
    "push_files",
    "push_module",
    "sync_imports",
]
