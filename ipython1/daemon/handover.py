"""A connection between a process and one that it starts.

Where possible the new process inherits one of two connected sockets.  Elsewhere its starter listens at a port of
loopback, and the new process connects to it and proves by a token from its environment that it is the right one; the
token is used once, and nobody else is let in.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from ipython1 import system

TOKEN_VARIABLE: Final = "IPYTHON1_HANDOVER"
"""The environment variable with the token, if the number that the process was given is that of a port."""

LIMIT: Final = 60.0
"""Seconds that a new process has to connect."""

LOOK_EVERY: Final = 0.05
"""Seconds between looks whether the new process is still there."""


class Handover:
    """The side of the process that starts another one.

    :param spare_low: do not pass a descriptor with the number of a standard stream: in a program without such streams
        it may have one, and be redirected.
    :ivar number: what the new process is to pass to :func:`take`: that of a descriptor or of a port.
    """

    def __init__(self, *, spare_low: bool = False) -> None:
        self._ours: socket.socket | None = None
        self._token = ""
        if system.PASSES_DESCRIPTORS:
            self._ours, self._offered = socket.socketpair()
            if spare_low:
                self._move_up()
            self.number: int = self._offered.fileno()
        else:
            self._offered = system.listen_on_loopback()
            self._token = system.new_token()
            self.number = self._offered.getsockname()[1]

    def _move_up(self) -> None:
        from ipython1.core.lowlevel import set_high

        self._offered = socket.socket(fileno=set_high(self._offered.detach()))

    def start(
        self, command: list[str], environ: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start the process; no Ctrl-C of this terminal reaches it.

        :param options: others of :class:`subprocess.Popen`.
        """
        if self._token:
            environ = {**(os.environ if environ is None else environ), TOKEN_VARIABLE: self._token}
        else:
            options["pass_fds"] = (self.number,)
        process = subprocess.Popen(
            command, env=environ, stdin=subprocess.DEVNULL, **system.apart(), **options
        )
        if not self._token:
            self._offered.close()
        return process

    def connection(self, process: subprocess.Popen[bytes]) -> socket.socket:
        """Return the connection to the process, which may have to be waited for.

        If the process has ended before it connected, that is found out as with any connection: by its end.
        """
        if self._ours is None:
            self._ours = self._accept(lambda: process.poll() is None) or _ended_connection()
            self._offered.close()
        return self._ours

    def close(self) -> None:
        """Give the connection up."""
        self._offered.close()
        if self._ours is not None:
            self._ours.close()

    def _accept(self, awaited: Callable[[], bool]) -> socket.socket | None:
        door = Door(self._offered)
        until = time.monotonic() + LIMIT
        with system.SELECTOR() as selector:
            came: list[socket.socket] = []
            door.open(selector, lambda token, connection: self._check(token, connection, came))
            try:
                while awaited() and time.monotonic() < until:
                    for key, _ in selector.select(LOOK_EVERY):
                        key.data()
                    if came:
                        came[0].setblocking(True)
                        return came[0]
            finally:
                door.close()
        return None

    def _check(self, token: str, connection: socket.socket, came: list[socket.socket]) -> None:
        import hmac

        if came or not hmac.compare_digest(token.encode(), self._token.encode()):
            connection.close()
        else:
            came.append(connection)


def take(number: int) -> socket.socket:
    """Return the connection to the process that has started this one; call it once.

    :param number: :attr:`Handover.number`.
    :raises OSError: if there is none.
    """
    token = os.environ.pop(TOKEN_VARIABLE, "")
    if token:
        return connect_with_token(number, token)
    os.set_inheritable(number, False)
    return socket.socket(fileno=number)


def connect_with_token(port: int, token: str) -> socket.socket:
    """Connect to the :class:`Door` at a port of this host.

    :raises OSError: if nobody is there.
    """
    connection = socket.create_connection((system.LOOPBACK, port), timeout=LIMIT)
    try:
        connection.sendall(token.encode() + b"\n")
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        connection.close()
        raise
    return connection


def _ended_connection() -> socket.socket:
    ours, theirs = system.connected_pair()
    theirs.close()
    return ours


class Door:
    """Takes connections at a port of loopback, and what they show to be let in.

    :param listener: the socket that listens.
    """

    MOST_WAITING: Final = 64
    """Connections that have not shown anything yet; the oldest must go when there are more."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._waiting: dict[socket.socket, bytes] = {}

    @property
    def port(self) -> int:
        """Where it is."""
        port: int = self._listener.getsockname()[1]
        return port

    def open(
        self, selector: selectors.BaseSelector, on_token: Callable[[str, socket.socket], object]
    ) -> None:
        """Begin.

        :param selector: what the process waits with; it calls the data of what is ready.
        :param on_token: takes what a connection has shown, and the connection, which does not block.
        """
        self._selector, self._on_token = selector, on_token
        self._listener.setblocking(False)
        selector.register(self._listener, selectors.EVENT_READ, self._on_connection)

    def close(self) -> None:
        """Close it, and what waits there."""
        for connection in list(self._waiting):
            self._forget(connection)
            connection.close()
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(self._listener)
        self._listener.close()

    def _on_connection(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if len(self._waiting) >= self.MOST_WAITING:
            oldest = next(iter(self._waiting))
            self._forget(oldest)
            oldest.close()
        connection.setblocking(False)
        self._waiting[connection] = b""
        self._selector.register(
            connection, selectors.EVENT_READ, lambda: self._on_readable(connection)
        )

    def _on_readable(self, connection: socket.socket) -> None:
        # One byte after the other, as what follows the token is for somebody else.
        shown = self._waiting.get(connection)
        if shown is None:
            return
        try:
            while not shown.endswith(b"\n"):
                byte = connection.recv(1)
                if not byte or len(shown) > 100:
                    raise ConnectionResetError
                shown += byte
        except BlockingIOError:
            self._waiting[connection] = shown
            return
        except OSError:
            self._forget(connection)
            connection.close()
            return
        self._forget(connection)
        self._on_token(shown.decode("ascii", "replace").strip(), connection)

    def _forget(self, connection: socket.socket) -> None:
        del self._waiting[connection]
        self._selector.unregister(connection)
