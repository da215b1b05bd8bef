"""What a nanny is told once, when those who started it know it: it may have been started before they knew themselves.

This imports little, because it is needed before all else when a cluster is started.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from ipython1 import system

MOST_KEPT: Final = 16
"""Descriptors that a nanny can be told to keep open."""

_LENGTH: Final = struct.Struct("!I")


class Settings(NamedTuple):
    """See :class:`~ipython1.daemon.nanny.Nanny`."""

    silence: float = 0.0
    watch: float = 0.0
    log: str = ""
    title: str = ""
    keep: tuple[int, ...] = ()


def send_settings(
    connection: socket.socket, *, watch: float, log: str, keep: Sequence[int], title: str = ""
) -> None:
    """Tell the nanny at the other end of a connection; it gets copies of the descriptors to keep, where that works."""
    text = json.dumps([watch, log, title]).encode()
    data = _LENGTH.pack(len(text)) + text
    if keep and system.PASSES_DESCRIPTORS:
        sent = socket.send_fds(connection, [data], keep)
        data = data[sent:]
    connection.sendall(data)


def receive_settings(connection: socket.socket) -> Settings | None:
    """Wait for what :func:`send_settings` sends; None if it never comes, as who would send it is gone."""
    data, keep = b"", list[int]()
    if system.PASSES_DESCRIPTORS:
        data, keep, _, _ = socket.recv_fds(connection, _LENGTH.size, MOST_KEPT)
    data += _receive(connection, _LENGTH.size - len(data))
    if len(data) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(data)
    text = _receive(connection, length)
    if len(text) < length:
        return None
    watch, log, title = json.loads(text)
    return Settings(watch=watch, log=log, title=title, keep=tuple(keep))


def _receive(connection: socket.socket, length: int) -> bytes:
    """Return so many bytes, or less if the connection ends."""
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            break
        data += more
    return data
