"""Named payloads: the arguments of a command that carries serialized objects, each under a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.payload import ISerialized, Serialized


def pack_named(namespace: Mapping[str, ISerialized], **extra: Any) -> list[Buffer]:
    """Named objects' bytes as the buffers of one payload: a JSON head, then all buffers."""
    head = {"names": {name: len(value.buffers) for name, value in namespace.items()}, **extra}
    buffers: list[Buffer] = [messages.pack_json(head)]
    for value in namespace.values():
        buffers.extend(value.buffers)
    return buffers


def unpack_named(buffers: Sequence[Buffer]) -> tuple[dict[str, Serialized], dict[str, Any]]:
    """What :func:`pack_named` packed: the objects' bytes, and the head."""
    head = messages.unpack_json(buffers[0])
    named: dict[str, Serialized] = {}
    position = 1
    for name, count in head["names"].items():
        named[name] = Serialized(tuple(buffers[position : position + count]))
        position += count
    if position != len(buffers):
        raise ProtocolError("named objects and their buffers do not add up")
    return named, head
