"""A nanny's ends of the connections by which its processes report to it; see :mod:`ipython1.daemon.ready`."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
from collections.abc import Callable, Iterable
from typing import Protocol

from ipython1 import system
from ipython1.daemon.handover import Door


class ReadyEnd(Protocol):
    """What a process reports through."""

    def fileno(self) -> int:
        """Return what to wait for."""

    def read(self) -> bytes:
        """Return what has come; empty at the end.

        :raises BlockingIOError: if nothing has.
        """

    def order(self, number: int) -> bool:
        """Tell the process what a signal would tell it; False where signals do that."""

    def close(self) -> None:
        """Close it."""


class PipeEnd:
    """The end of a pipe that the process has inherited."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        system.set_blocking(descriptor, False)

    def fileno(self) -> int:
        """See :class:`ReadyEnd`."""
        return self._descriptor

    def read(self) -> bytes:
        """See :class:`ReadyEnd`."""
        try:
            return os.read(self._descriptor, 4096)
        except BlockingIOError:
            raise
        except OSError:
            return b""

    def order(self, number: int) -> bool:
        """See :class:`ReadyEnd`."""
        return False

    def close(self) -> None:
        """See :class:`ReadyEnd`."""
        os.close(self._descriptor)


class SocketEnd:
    """A connection that the process has made.  While it is open, the process knows that the nanny lives."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def fileno(self) -> int:
        """See :class:`ReadyEnd`."""
        return self._connection.fileno()

    def read(self) -> bytes:
        """See :class:`ReadyEnd`."""
        try:
            return self._connection.recv(4096)
        except BlockingIOError:
            raise
        except OSError:
            return b""

    def order(self, number: int) -> bool:
        """See :class:`ReadyEnd`."""
        with contextlib.suppress(OSError):
            self._connection.sendall(b"%d\n" % number)
            return True
        return False

    def close(self) -> None:
        """See :class:`ReadyEnd`."""
        system.close_quietly(self._connection)


class ReadyDoor:
    """Where processes that cannot inherit a pipe connect.

    :param selector: what the nanny waits with.
    :param tokens: gives the tokens of the processes that may still come.
    :param on_end: takes the token and the end of each that has come.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        tokens: Callable[[], Iterable[str]],
        on_end: Callable[[str, SocketEnd], object],
    ) -> None:
        self._tokens = tokens
        self._on_end = on_end
        self._door = Door(system.listen_on_loopback())
        self._door.open(selector, self._came)

    def _came(self, shown: str, connection: socket.socket) -> None:
        import hmac

        found = ""
        for token in self._tokens():
            if hmac.compare_digest(token.encode(), shown.encode()):
                found = token
        if found:
            self._on_end(found, SocketEnd(connection))
        else:
            connection.close()

    def place(self, token: str) -> str:
        """Return what a process needs to know to come: ``port:token``."""
        return f"{self._door.port}:{token}"

    def close(self) -> None:
        """Let nobody in any more."""
        self._door.close()
