"""Mappers: objects with a method ``map`` and fixed options, created by either kind of client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface import Interface, implementer

from ipython1.kernel.basics.attributes import CheckedAttributes, Setting, optional, yes_or_no
from ipython1.kernel.calls.calls import Targets, check_targets
from ipython1.kernel.calls.map import check_dist


class IMapper(Interface):
    """An object that maps a function over sequences."""

    def map(func: Callable[..., Any], *sequences: Any) -> Any:
        """Map ``func`` over ``sequences`` in parallel.

        :returns: a list, or a pending result if the mapper does not block.
        """


class IMultiEngineMapperFactory(Interface):
    """Creates mappers for explicitly named engines."""

    def mapper(dist: str = "b", targets: Any = "all", block: bool | None = None) -> IMapper:
        """Create a mapper with these options."""


@implementer(IMapper)
class MultiEngineMapper(CheckedAttributes):
    """Maps on explicitly named engines.

    :param client: a blocking or asynchronous MultiEngine client.
    :param dist: the distribution; default: ``'b'`` (contiguous blocks).
    :param targets: the engines; default: ``'all'``.
    :param block: whether ``map`` waits; default: the client's ``block``.

    All parameters are attributes as well, and are checked when they are set.
    """

    client: Any
    dist: Setting[str] = Setting("b", check_dist)
    targets: Setting[Targets] = Setting("all", optional(check_targets))
    block: Setting[bool | None] = Setting(None, optional(yes_or_no))

    def __init__(
        self, client: Any, dist: str = "b", targets: Targets = "all", block: bool | None = None
    ) -> None:
        self.client = client
        self.dist = dist
        self.targets = list(targets) if isinstance(targets, list) else targets
        self.block = block

    def map(self, func: Callable[..., Any], *sequences: Any) -> Any:
        return self.client.raw_map(func, sequences, self.dist, self.targets, self.block)
