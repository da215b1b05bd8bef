"""Mappers: an object with ``map``, made once with all options, from either kind of client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface import Interface, implementer


class IMapper(Interface):
    """Something that maps a function over sequences."""

    def map(func: Callable[..., Any], *sequences: Any) -> Any:
        """Like the built-in ``map``, in parallel; a list (or what stands for one, when not blocking)."""


class IMultiEngineMapperFactory(Interface):
    """Makes mappers on explicit engines."""

    def mapper(dist: str = "b", targets: Any = "all", block: bool | None = None) -> IMapper:
        """A mapper with these options."""


@implementer(IMapper)
class MultiEngineMapper:
    """Maps on explicit engines.

    :param client: a MultiEngine client, blocking or not.
    """

    def __init__(
        self, client: Any, dist: str = "b", targets: Any = "all", block: bool | None = None
    ) -> None:
        self.client = client
        self.dist = dist
        self.targets = targets
        self.block = block

    def map(self, func: Callable[..., Any], *sequences: Any) -> Any:
        return self.client.raw_map(func, sequences, self.dist, self.targets, self.block)
