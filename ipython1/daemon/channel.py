"""A nanny's side of the connection to its supervisor: a socket, or two pipes."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
from collections.abc import Callable
from typing import TypeAlias

from ipython1 import system
from ipython1.daemon.protocol import Failed, LineBuffer, Message, decode, encode
from ipython1.kernel.basics.error import ProtocolError

Wire: TypeAlias = int | socket.socket
"""A descriptor or a socket; they are different things on Windows."""


def _number(end: Wire) -> int:
    return end if isinstance(end, int) else end.fileno()


def _set_blocking(end: Wire, blocking: bool) -> None:
    if isinstance(end, int):
        system.set_blocking(end, blocking)
    else:
        end.setblocking(blocking)


def _read(end: Wire) -> bytes:
    return os.read(end, 1 << 16) if isinstance(end, int) else end.recv(1 << 16)


def _write(end: Wire, data: bytearray) -> int:
    return os.write(end, data) if isinstance(end, int) else end.send(data)


class Channel:
    """Reads requests and writes events, without ever waiting.

    :param selector: what the nanny waits with.
    :param reader: the descriptor for requests, or a socket.
    :param writer: the descriptor for events (the same for a socket).
    :param on_request: takes each request.
    :param on_end: called once when the supervisor is gone.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        reader: Wire,
        writer: Wire,
        on_request: Callable[[Message], object],
        on_end: Callable[[], object],
    ) -> None:
        self._selector = selector
        self.descriptors: tuple[int, ...] = tuple(map(_number, (reader, writer)))
        self._reader = reader
        self._writer = writer
        self._on_request = on_request
        self._on_end = on_end
        self._lines = LineBuffer()
        self._outbox = bytearray()
        self._lost = False

    def open(self) -> None:
        """Begin to read."""
        for end in (self._reader, self._writer):
            _set_blocking(end, False)
        self._selector.register(self._reader, selectors.EVENT_READ, self._on_readable)

    def send(self, message: Message) -> None:
        """Send an event; do nothing if the supervisor is gone."""
        if self._lost:
            return
        empty = not self._outbox
        self._outbox += encode(message)
        if empty:
            self._on_writable()

    def flush(self) -> None:
        """Wait until everything is sent."""
        with contextlib.suppress(OSError):
            _set_blocking(self._writer, True)
            while self._outbox and not self._lost:
                del self._outbox[: _write(self._writer, self._outbox)]

    def _on_readable(self) -> None:
        try:
            data = _read(self._reader)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(self._reader)
            self._end()
            return
        try:
            for line in self._lines.feed(data):
                self._on_request(decode(line))
        except ProtocolError as problem:
            self.send(Failed("", str(problem)))

    def _on_writable(self) -> None:
        try:
            del self._outbox[: _write(self._writer, self._outbox)]
        except BlockingIOError:
            pass
        except OSError:
            self._outbox.clear()
            self._end()
        self._watch_writable()

    def _end(self) -> None:
        self._lost = True
        self._on_end()

    def _watch_writable(self) -> None:
        wanted = selectors.EVENT_WRITE if self._outbox else 0
        if self._writer != self._reader:
            with contextlib.suppress(KeyError):
                self._selector.unregister(self._writer)
            if wanted:
                self._selector.register(self._writer, wanted, self._on_writable)
            return
        if self._reader not in self._selector.get_map():
            return

        def on_either() -> None:
            if self._outbox:
                self._on_writable()
            self._on_readable()

        callback = on_either if wanted else self._on_readable
        self._selector.modify(self._reader, selectors.EVENT_READ | wanted, callback)
