"""Distributions: how a sequence is cut into one part per engine, and how the parts are put together again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import chain
from typing import Any, Protocol

from ipython1.kernel.basics.error import ClientError


class Distribution(Protocol):
    """A way to distribute a sequence over ``n`` engines."""

    def partition(self, sequence: Any, n: int) -> list[Any]:
        """``n`` parts of ``sequence`` (some may be empty)."""

    def join(self, parts: Sequence[Any]) -> Any:
        """The whole, from the parts in order."""


class Block:
    """Contiguous blocks whose lengths differ by at most one; the first ones are the longer."""

    def partition(self, sequence: Any, n: int) -> list[Any]:
        sequence = as_sequence(sequence)
        length, longer = divmod(len(sequence), n)
        parts = []
        begin = 0
        for index in range(n):
            end = begin + length + (index < longer)
            parts.append(_concrete(sequence[begin:end]))
            begin = end
        return parts

    def join(self, parts: Sequence[Any]) -> Any:
        return concatenate(parts)


class RoundRobin:
    """Element ``i`` goes to part ``i % n``."""

    def partition(self, sequence: Any, n: int) -> list[Any]:
        sequence = as_sequence(sequence)
        return [_concrete(sequence[index::n]) for index in range(n)]

    def join(self, parts: Sequence[Any]) -> Any:
        if not parts:
            return []
        whole = concatenate(parts)
        if len(parts) == 1 or not all(hasattr(part, "__len__") for part in parts):
            return whole
        # The position that each element of the concatenation has in the whole.
        order = sorted(
            range(len(whole)),
            key=_positions(parts).__getitem__,
        )
        if is_array(whole):
            return whole[order]
        picked = [whole[index] for index in order]
        if isinstance(whole, str):
            return "".join(picked)
        if isinstance(whole, (bytes, bytearray)):
            return type(whole)(picked)
        return tuple(picked) if isinstance(whole, tuple) else picked


def _positions(parts: Sequence[Any]) -> list[int]:
    n = len(parts)
    return list(
        chain.from_iterable(
            range(index, index + n * len(part), n) for index, part in enumerate(parts)
        )
    )


_distributions: dict[str, Distribution] = {"b": Block(), "r": RoundRobin()}


def register_distribution(name: str, distribution: Distribution) -> None:
    """Make ``distribution`` available as ``dist=name``."""
    _distributions[name] = distribution


def get_distribution(name: str) -> Distribution:
    """:raises ClientError: naming those that there are."""
    try:
        return _distributions[name]
    except (KeyError, TypeError):
        known = ", ".join(repr(key) for key in _distributions)
        raise ClientError(
            f"unknown distribution {name!r}; the distributions are: {known}"
        ) from None


def concatenate(parts: Sequence[Any]) -> Any:
    """The parts end to end: arrays along axis 0; strings, bytes, tuples as such; anything else as a list.

    Parts that are single objects (from a scatter with ``flatten``) become the elements of a list.
    """
    parts = list(parts)
    if not parts:
        return []
    if any(is_array(part) and part.ndim for part in parts):
        import numpy

        return numpy.concatenate([numpy.atleast_1d(part) for part in parts])
    first = type(parts[0])
    if all(type(part) is first for part in parts) and first in (str, bytes, bytearray):
        return first().join(parts)
    if all(isinstance(part, tuple) for part in parts):
        return tuple(chain.from_iterable(parts))
    whole: list[Any] = []
    for part in parts:
        if isinstance(part, (list, tuple, range)):
            whole.extend(part)
        else:
            whole.append(part)
    return whole


def as_sequence(sequence: Any) -> Any:
    """What can be cut by slices: the sequence itself, or a list of what an iterable gives.

    :raises TypeError: for what has no order.
    """
    if hasattr(sequence, "__getitem__") and hasattr(sequence, "__len__"):
        if isinstance(sequence, dict):
            raise TypeError("a dict cannot be distributed; use a list of its items")
        return sequence
    if hasattr(sequence, "__iter__"):
        return list(sequence)
    raise TypeError(f"an object of type {type(sequence).__name__} is not a sequence")


def _concrete(part: Any) -> Any:
    """A part as the engines shall see it: a range becomes a list, as the tutorials show."""
    return list(part) if isinstance(part, range) else part


def is_array(value: object) -> bool:
    """Whether it is a numpy array; does not import numpy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)
