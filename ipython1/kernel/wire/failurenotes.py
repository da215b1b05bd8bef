"""What an engine says in plain text of something that failed, so that those who look can be told.

The failure itself travels in payloads that only clients read.  A note is short, is text, and is only shown.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.wire.frames import Buffer

MOST_ERROR: Final = 400
"""Bytes of the error in a note."""

MOST_TRACEBACK: Final = 4096
"""Bytes of the traceback in a note."""

MOST_TEXTS: Final = 8
"""Notes with text in one frame; the others only count."""

_AGE: Final = struct.Struct("<d")
_NOTE: Final = struct.Struct("<HIHH")
_PAIR: Final = struct.Struct("<HH")
_CUT: Final = "[...]\n"


class Note(NamedTuple):
    """What failed.

    :ivar error: ``'ZeroDivisionError: division by zero'``.
    :ivar traceback: the engine's, without colours.
    :ivar items: how many items of a map failed, if that is what it is about; the error is that of the first.
    """

    error: str
    traceback: str
    items: int = 0


def _first(text: str, most: int) -> bytes:
    return text[:most].encode(errors="replace")[:most]


def _last(text: str, most: int) -> bytes:
    """The end of a text, from the beginning of a line on if it is cut."""
    data = text[-most - 1 :].encode(errors="replace")
    if len(text) <= most and len(data) <= most:
        return data
    rest = data[len(_CUT) - most :]
    begin = rest.find(b"\n") + 1
    return _CUT.encode() + rest[begin if begin < len(rest) else 0 :]


PlacedNote: TypeAlias = tuple[int, Note]
"""A place among some results, and what is told of the one that is there."""


def pack_note(note: Note) -> bytes:
    """One note by itself."""
    error, traceback = (
        _first(note.error, MOST_ERROR),
        _last(note.traceback, MOST_TRACEBACK),
    )
    return _PAIR.pack(len(error), len(traceback)) + error + traceback


def unpack_note(data: Buffer) -> Note:
    """What :func:`pack_note` packed.

    :raises ProtocolError: when it is malformed.
    """
    if len(data) < _PAIR.size:
        raise ProtocolError("a note about a failure is cut short")
    one, two = _PAIR.unpack_from(data, 0)
    end = _PAIR.size + one
    if len(data) != end + two:
        raise ProtocolError("a note about a failure does not add up")
    return Note(_text(data[_PAIR.size : end]), _text(data[end:]))


def _text(data: Buffer) -> str:
    return str(data, "utf-8", "replace")


def pack_notes(age: float, notes: Mapping[int, Note] | None = None) -> bytes:
    """What goes with results.

    :param age: seconds since the last of them was there.
    :param notes: by the place of the result among those.
    """
    head = _AGE.pack(max(0.0, age))
    if not notes:
        return head
    parts = [head]
    for number, (place, note) in enumerate(notes.items()):
        error = traceback = b""
        if number < MOST_TEXTS:
            error = _first(note.error, MOST_ERROR)
            traceback = _last(note.traceback, MOST_TRACEBACK)
        parts += (_NOTE.pack(place, note.items, len(error), len(traceback)), error, traceback)
    return b"".join(parts)


def unpack_notes(data: Buffer) -> tuple[float, Sequence[PlacedNote]]:
    """The age and the notes that :func:`pack_notes` packed; nothing is no age and no notes.

    :raises ProtocolError: when it is malformed.
    """
    if not len(data):
        return 0.0, ()
    if len(data) < _AGE.size:
        raise ProtocolError("the age of results is cut short")
    (age,) = _AGE.unpack_from(data, 0)
    if not 0.0 <= age < math.inf:
        raise ProtocolError("results have an impossible age")
    if len(data) == _AGE.size:
        return age, ()
    notes: list[PlacedNote] = []
    position = _AGE.size
    while position < len(data):
        if position + _NOTE.size > len(data):
            raise ProtocolError("a note about a failure is cut short")
        place, items, one, two = _NOTE.unpack_from(data, position)
        position += _NOTE.size
        middle, end = position + one, position + one + two
        if end > len(data):
            raise ProtocolError("a note about a failure is cut short")
        notes.append((place, Note(_text(data[position:middle]), _text(data[middle:end]), items)))
        position = end
    return age, notes
