"""The controller, the engines, and the clients that control them.

Programs import :mod:`ipython1.kernel.client`.  The errors can also be imported from here.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    # Python also calls this for submodules that have not been imported yet.
    if name[:1].isupper():
        from ipython1.kernel.basics import error

        if name in error.__all__:
            return getattr(error, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
