"""What a task says of the tasks that it waits for, packed.

It travels among the options of a ``SUBMIT`` frame, so tasks that wait for the same tasks share it, and a task that
waits for none has nothing of it.  It is a row of *ties*: a byte of flags, how many ranges of ids follow, and for each
of these the distance from the end of the one before and its length less one, as numbers of as few bytes as they need.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.wire.frames import Buffer

SUCCESS: Final = 1
"""Flag of a tie: the task may run when one of the others has succeeded."""

FAILURE: Final = 2
"""Flag of a tie: the task may run when one of the others has failed."""

FOLLOW: Final = 4
"""Flag of a tie: the task runs on an engine that has run one of the others."""

_FLAGS: Final = (SUCCESS | FAILURE, FOLLOW)

MOST_LINKS: Final = 2**15 - 1
"""Bytes of the packed form, at most."""


class Tie(NamedTuple):
    """Tasks that are waited for in the same way.

    :ivar flags: :data:`SUCCESS`, :data:`FAILURE` or both, and perhaps :data:`FOLLOW`.
    :ivar ranges: their ids, as rising ranges (start, stop).
    """

    flags: int
    ranges: tuple[tuple[int, int], ...]


class Links(bytes):
    """The packed form; equal ones mean the same.

    :ivar ties: what it says.
    :ivar follows: whether it says where the task is to run.
    """

    ties: tuple[Tie, ...]
    follows: bool

    @classmethod
    def pack(cls, ties: Iterable[tuple[int, Iterable[int]]]) -> Links:
        """Pack (flags, ids) pairs; b"" if there are no ids."""
        made = [Tie(flags, ranges) for flags, ids in ties if (ranges := _ranges_of(ids))]
        parts = bytearray()
        for tie in made:
            parts.append(tie.flags)
            _add_number(parts, len(tie.ranges))
            position = 0
            for start, stop in tie.ranges:
                _add_number(parts, start - position)
                _add_number(parts, stop - start - 1)
                position = stop
        return cls._of(parts, tuple(made))

    @classmethod
    def unpack(cls, data: Buffer) -> Links:
        """:raises ProtocolError: when it is malformed."""
        return cls._of(data, tuple(_unpacked(data)))

    @classmethod
    def _of(cls, data: Buffer, ties: tuple[Tie, ...]) -> Links:
        links = cls(data)
        links.ties = ties
        links.follows = any(tie.flags & FOLLOW for tie in ties)
        return links


def _ranges_of(ids: Iterable[int]) -> tuple[tuple[int, int], ...]:
    ranges: list[tuple[int, int]] = []
    start = stop = -1
    for task_id in sorted(set(ids)):
        if task_id != stop:
            if start >= 0:
                ranges.append((start, stop))
            start = task_id
        stop = task_id + 1
    if start >= 0:
        ranges.append((start, stop))
    return tuple(ranges)


def _add_number(parts: bytearray, number: int) -> None:
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)


def _numbers(data: Buffer) -> Iterator[int]:
    number = shift = 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield number
            number = shift = 0
        elif shift > 63:
            break
    if shift:
        raise ProtocolError("what a task waits for is malformed: a number has no end")


def _unpacked(data: Buffer) -> Iterator[Tie]:
    numbers: Sequence[int] = list(_numbers(data))
    position = 0
    while position < len(numbers):
        flags = numbers[position]
        count = numbers[position + 1] if position + 1 < len(numbers) else 0
        end = position + 2 + 2 * count
        if not flags & _FLAGS[0] or flags & ~sum(_FLAGS) or not count or end > len(numbers):
            raise ProtocolError("what a task waits for is malformed")
        ranges = []
        last = 0
        for index in range(position + 2, end, 2):
            start = last + numbers[index]
            last = start + numbers[index + 1] + 1
            if last > 2**63:
                raise ProtocolError("what a task waits for is malformed: there is no such id")
            ranges.append((start, last))
        yield Tie(flags, tuple(ranges))
        position = end
