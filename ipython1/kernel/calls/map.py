"""Distributions: how a sequence is partitioned into one part per engine, and how the parts are joined again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ipython1.kernel.basics.error import ClientError
from ipython1.kernel.calls.sequences import as_sequence, concatenate, cut, interleave, length


class Distribution(Protocol):
    """A way to distribute a sequence over ``n`` engines."""

    def partition(self, sequence: Any, n: int) -> list[Any]:
        """Partition a sequence.

        :returns: ``n`` parts, some of which may be empty.
        """

    def join(self, parts: Sequence[Any]) -> Any:
        """Join parts to the whole sequence.

        :param parts: the parts, in the order of :meth:`partition`.
        """


class Block:
    """Contiguous blocks whose lengths differ by at most one; longer blocks come first."""

    def partition(self, sequence: Any, n: int) -> list[Any]:
        sequence = as_sequence(sequence)
        each, longer = divmod(length(sequence), n)
        parts = []
        begin = 0
        for index in range(n):
            end = begin + each + (index < longer)
            parts.append(cut(sequence, slice(begin, end)))
            begin = end
        return parts

    def join(self, parts: Sequence[Any]) -> Any:
        return concatenate(parts)


class RoundRobin:
    """Round-robin: element ``i`` goes to part ``i % n``."""

    def partition(self, sequence: Any, n: int) -> list[Any]:
        sequence = as_sequence(sequence)
        return [cut(sequence, slice(index, None, n)) for index in range(n)]

    def join(self, parts: Sequence[Any]) -> Any:
        return interleave(parts)


_distributions: dict[str, Distribution] = {"b": Block(), "r": RoundRobin()}


def register_distribution(name: str, distribution: Distribution) -> None:
    """Register a distribution.

    :param name: the name, for the parameter ``dist`` of client methods.
    :param distribution: an object with the methods of :class:`Distribution`.
    """
    _distributions[name] = distribution


def check_dist(name: str, dist: str) -> str:
    """Check the name of a distribution, as an attribute called ``name``.

    :raises ClientError: if there is no such distribution.
    """
    get_distribution(dist)
    return dist


def get_distribution(name: str) -> Distribution:
    """Return the distribution that is registered under ``name``.

    :raises ClientError: if there is none.
    """
    try:
        return _distributions[name]
    except (KeyError, TypeError):
        known = ", ".join(repr(key) for key in _distributions)
        raise ClientError(
            f"dist is an unknown distribution, {name!r}; the distributions are: {known}"
        ) from None
