"""IPython's ``%px``, ``%%px``, ``%autopx``, ``%result``, ``%pxresult`` and ``%pxconfig``."""

from ipython1.kernel.clients.active import activate
from ipython1.kernel.clients.magic import (
    ParallelMagics,
    load_ipython_extension,
    unload_ipython_extension,
)

__all__ = [
    "ParallelMagics",
    "activate",
    "load_ipython_extension",
    "unload_ipython_extension",
]
