"""A controller, its engines, and the clients that steer them.

Programs import :mod:`ipython1.kernel.client`.  The errors can be had from here, too.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    # Modules of the package are looked for here as well, each before its first import.
    if name[:1].isupper():
        from ipython1.kernel.basics import error

        if name in error.__all__:
            return getattr(error, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
