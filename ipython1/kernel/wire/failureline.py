"""How a task failed, in one line, at the head of its opaque result: what the controller tells of it to others."""

from __future__ import annotations

import struct
from typing import Final

from ipython1.kernel.wire.frames import Bytes

LINE: Final = 32
"""The first byte of a result whose first part is such a line."""

LONGEST_LINE: Final = 300
"""Bytes."""

_HEAD: Final = struct.Struct("<BH")


def pack_line(line: str) -> bytes:
    """The first part of a result.

    :param line: ``Type: message``, cut if it is long.
    """
    text = " ".join(line.split()).encode(errors="replace")
    if len(text) > LONGEST_LINE:
        text = text[: LONGEST_LINE - 3].decode(errors="ignore").encode() + b"..."
    return _HEAD.pack(LINE, len(text)) + text


def failure_line(payload: Bytes) -> str:
    """The line in the payload of a result; empty if there is none."""
    if len(payload) < _HEAD.size or payload[0] != LINE:
        return ""
    _, size = _HEAD.unpack_from(payload)
    return str(payload[_HEAD.size : _HEAD.size + size], "utf-8", "replace")


def after_line(payload: Bytes) -> Bytes:
    """A result without its line, if it has one."""
    if not payload or payload[0] != LINE:
        return payload
    _, size = _HEAD.unpack_from(payload)
    return payload[_HEAD.size + size :]
