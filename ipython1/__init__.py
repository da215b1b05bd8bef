"""Interactive parallel computing for Python: a controller, engines, and clients."""

from __future__ import annotations

from typing import Any

from ipython1.version import __version__ as __version__


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext ipython1`` makes ``%px``, ``%autopx`` and ``%result`` known."""
    from ipython1.kernel.clients import magic

    magic.load_ipython_extension(shell)


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext ipython1`` undoes that."""
    from ipython1.kernel.clients import magic

    magic.unload_ipython_extension(shell)
