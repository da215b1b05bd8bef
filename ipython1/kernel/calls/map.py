"""Distributions: how a sequence is partitioned into one part per engine, and how the parts are joined again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import chain
from typing import Any, Protocol

from ipython1.kernel.basics.error import ClientError


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
    """Round-robin: element ``i`` goes to part ``i % n``."""

    def partition(self, sequence: Any, n: int) -> list[Any]:
        sequence = as_sequence(sequence)
        return [_concrete(sequence[index::n]) for index in range(n)]

    def join(self, parts: Sequence[Any]) -> Any:
        if not parts:
            return []
        whole = concatenate(parts)
        if len(parts) == 1 or not all(hasattr(part, "__len__") for part in parts):
            return whole
        # The positions of the concatenation's elements in the whole sequence.
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
    """Register a distribution.

    :param name: the name, for the parameter ``dist`` of client methods.
    :param distribution: an object with the methods of :class:`Distribution`.
    """
    _distributions[name] = distribution


def get_distribution(name: str) -> Distribution:
    """Return the distribution that is registered under ``name``.

    :raises ClientError: if there is none.
    """
    try:
        return _distributions[name]
    except (KeyError, TypeError):
        known = ", ".join(repr(key) for key in _distributions)
        raise ClientError(
            f"unknown distribution {name!r}; the distributions are: {known}"
        ) from None


def concatenate(parts: Sequence[Any]) -> Any:
    """Concatenate parts.

    Parts that are single objects (from a scatter with ``flatten``) become the elements of a list.

    :returns: arrays joined along axis 0; a string, bytes or tuple if all parts are of that type; else a list.
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
    """Return an object that can be sliced: ``sequence`` itself, or a list of the items of an iterable.

    :raises TypeError: if ``sequence`` is a dict or not iterable.
    """
    if hasattr(sequence, "__getitem__") and hasattr(sequence, "__len__"):
        if isinstance(sequence, dict):
            raise TypeError("a dict cannot be distributed; use a list of its items")
        return sequence
    if hasattr(sequence, "__iter__"):
        return list(sequence)
    raise TypeError(f"an object of type {type(sequence).__name__} is not a sequence")


def _concrete(part: Any) -> Any:
    """Return a part as the engines receive it: a range is converted to a list, as documented."""
    return list(part) if isinstance(part, range) else part


def is_array(value: object) -> bool:
    """Return whether ``value`` is a numpy array; does not import numpy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)
