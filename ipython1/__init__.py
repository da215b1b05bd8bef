"""Interactive parallel computing for Python: a controller, engines, and clients."""

from __future__ import annotations

from typing import Any

from ipython1.version import __version__ as __version__


def load_ipython_extension(shell: Any) -> None:
    """Register ``%px``, ``%autopx``, ``%result``, ``%pxresult`` and ``%pxconfig``; called by ``%load_ext ipython1``."""
    from ipython1.kernel.clients import magic

    magic.load_ipython_extension(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Remove the magics again; called by ``%unload_ext ipython1``."""
    from ipython1.kernel.clients import magic

    magic.unload_ipython_extension(shell)
