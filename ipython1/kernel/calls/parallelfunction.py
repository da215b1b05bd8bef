"""``@parallel``: functions that are mapped over their arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from zope.interface import Interface, implementer

from ipython1.kernel.calls.mapper import IMapper


class IParallelFunction(Interface):
    """A function that runs in parallel."""

    def __call__(*sequences: Any) -> Any:
        """Apply the function to the items of ``sequences``, in parallel."""


class IMultiEngineParallelDecorator(Interface):
    """Creates parallel functions for explicitly named engines."""

    def parallel(
        dist: str = "b", targets: Any = None, block: bool | None = None
    ) -> Callable[[Callable[..., Any]], IParallelFunction]:
        """Return a decorator with these options."""


@implementer(IParallelFunction)
class ParallelFunction:
    """A function that is called with sequences instead of single arguments.

    The original function is available as ``__wrapped__``.

    :param func: the function.
    :param mapper: the object whose ``map`` runs it.
    """

    def __init__(self, func: Callable[..., Any], mapper: IMapper) -> None:
        self.func = func
        self.mapper = mapper
        functools.update_wrapper(self, func)

    def __call__(self, *sequences: Any) -> Any:
        return self.mapper.map(self.func, *sequences)
