"""A TCP proxy in this process; a test can reset, silence, delay, slow down or half-close its connections.

It cannot lose single packets, since TCP hides them; the testbed ``netns`` can.  It also acknowledges what it holds, so
what one side sees of a silenced proxy is a living peer that says nothing.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

_CHUNK = 1 << 16
_HELD_CHUNKS = 16
_BUFFER = 1 << 18


@dataclass
class Direction:
    """What happens to data that flows in one direction, in all connections.

    :ivar delay: seconds that it takes.
    :ivar rate: bytes per second at most; 0 for as many as come.
    :ivar carried: bytes that have passed.
    """

    delay: float = 0.0
    rate: float = 0.0
    carried: int = 0
    _passing: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._passing.set()

    def silence(self) -> None:
        """Forward nothing until :meth:`speak`; what comes is held, and lost if the connection is reset."""
        self._passing.clear()

    def speak(self) -> None:
        """Forward what is held, and what comes."""
        self._passing.set()

    def admit(self, size: int, due: float) -> None:
        """Wait until ``size`` bytes may pass that arrived ``delay`` seconds before ``due``."""
        self._passing.wait()
        if (early := due - time.monotonic()) > 0:
            time.sleep(early)
        if self.rate:
            time.sleep(size / self.rate)
        self.carried += size


class _Connection:
    """The two sockets of a connection that is forwarded."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near, self.far = near, far
        self.is_reset = False

    def reset(self) -> None:
        self.is_reset = True
        for each in (self.near, self.far):
            _reset(each)

    def finish(self, sink: socket.socket) -> None:
        """The other side sends no more."""
        if not self.is_reset:
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)


class Proxy:
    """Forwards connections to a port of this host; use it in a ``with`` statement.

    :param target: the port.
    :ivar port: where it listens.
    :ivar up: to the target.
    :ivar down: from the target.
    :ivar accepted: how many connections it has forwarded.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.up, self.down = Direction(), Direction()
        self.accepted = 0
        self._connections: list[_Connection] = []
        self._over = threading.Event()
        self._resetting: threading.Event | None = None
        self._start(self._accept)

    @staticmethod
    def _start(function: object, *args: object) -> None:
        threading.Thread(target=function, args=args, daemon=True).start()  # type: ignore[arg-type]

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                # Nobody listens there at the moment, which is what the near side is to see.
                _reset(near)
                continue
            self.accepted += 1
            for each in (near, far):
                # Small buffers: what the system holds is not held back.
                each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            connection = _Connection(near, far)
            self._connections.append(connection)
            self._start(self._pass_on, connection, near, far, self.up)
            self._start(self._pass_on, connection, far, near, self.down)

    def _pass_on(
        self,
        connection: _Connection,
        source: socket.socket,
        sink: socket.socket,
        direction: Direction,
    ) -> None:
        held: queue.Queue[tuple[float, bytes]] = queue.Queue(_HELD_CHUNKS)
        self._start(self._send, connection, held, sink, direction)
        data = b"more"
        while data:
            try:
                data = source.recv(_CHUNK)
            except OSError:
                data = b""
            held.put((time.monotonic() + direction.delay, data))

    def _send(
        self,
        connection: _Connection,
        held: queue.Queue[tuple[float, bytes]],
        sink: socket.socket,
        direction: Direction,
    ) -> None:
        while True:
            due, data = held.get()
            if not data:
                connection.finish(sink)
                return
            if not connection.is_reset:
                direction.admit(len(data), due)
                with contextlib.suppress(OSError):
                    sink.sendall(data)

    def silence(self) -> None:
        """Forward nothing in either direction until :meth:`speak`."""
        self.up.silence()
        self.down.silence()

    def speak(self) -> None:
        """Forward the data that has arrived, and new data."""
        self.up.speak()
        self.down.speak()

    def reset(self) -> None:
        """Break all connections, with a RST to either side; what is held is lost."""
        connections, self._connections = self._connections, []
        for each in connections:
            each.reset()

    def reset_every(self, seconds: float) -> None:
        """Break all connections again and again, until it is 0."""
        if self._resetting is not None:
            self._resetting.set()
            self._resetting = None
        if seconds:
            self._resetting = threading.Event()
            self._start(self._reset_often, seconds, self._resetting)

    def _reset_often(self, seconds: float, over: threading.Event) -> None:
        while not over.wait(seconds):
            self.reset()

    def half_close(self) -> None:
        """Tell both sides that the other one sends no more, as a shutdown of its sending side does."""
        for each in self._connections:
            each.finish(each.near)
            each.finish(each.far)

    def close(self) -> None:
        """Break all connections and stop listening."""
        self._over.set()
        self.reset_every(0)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()
        self.speak()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _reset(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # A thread that waits in recv keeps the socket open; this ends its wait, and sends nothing.
        each.shutdown(socket.SHUT_RD)
    each.close()
