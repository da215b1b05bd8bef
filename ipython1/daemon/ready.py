"""What a program reports to the nanny that started it: that it is ready for use, that it lives, that it was to exit.

The nanny puts the number of a pipe into the environment, or where processes cannot inherit one, a port of loopback and
a token.  A program writes lines to it: ``ready TEXT`` once, an empty
line every :data:`BEAT_INTERVAL` seconds from wherever it serves others, and ``leave`` before a requested exit.  So a
nanny finds out that a program is stopped or spins, without asking it; and it can tell a requested exit from one by user
code, which can end a process with any status.  Over a connection the nanny also tells the program to end; when it
breaks, the nanny was killed, and the program ends at once.  If a program is started by hand, there is no such pipe,
and reports go nowhere.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable

from ipython1 import system
from ipython1.daemon import osprocess
from ipython1.daemon.handover import connect_with_token

READY_VARIABLE = "IPYTHON1_READY_FD"

BEAT_INTERVAL = 5.0
"""Seconds between two signs of life."""

SILENCE = 20.0
"""Seconds without a sign of life after which a program is said not to answer."""

READY = b"ready"
LEAVE = b"leave"


class NannyPipe:
    """The pipe to the nanny of this process.

    :param descriptor: its end for writing; -1 if there is no nanny.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = -1
        with contextlib.suppress(OSError):
            os.set_inheritable(descriptor, False)
            system.set_blocking(descriptor, False)
            self._identity = self._identify(descriptor)
            self._descriptor = descriptor

    @property
    def awaited(self) -> bool:
        """Whether a nanny waits for reports."""
        return self._descriptor >= 0

    def ready(self, text: str = "") -> None:
        """Report that this process is ready (that the controller listens).

        :param text: one line about it, shown in the cluster's status.
        """
        self._write(READY + b" " + text.replace("\n", " ").encode()[:500] + b"\n")

    def beat(self) -> None:
        """Report that this process lives."""
        self._write(b"\n")

    def leave(self) -> None:
        """Report that this process exits because it was asked to."""
        self._write(LEAVE + b"\n")

    def on_order(self, call: Callable[[int], object]) -> None:
        """Have ``call`` called, in another thread, with the number of each signal that the nanny cannot send.

        Without this, such a signal ends the process.
        """

    def _write(self, line: bytes) -> None:
        if self._descriptor < 0:
            return
        try:
            # User code may have closed the pipe and opened a file of its own, which then has this number.
            if self._identify(self._descriptor) != self._identity:
                raise OSError("not the pipe any more")
            os.write(self._descriptor, line)
        except BlockingIOError:
            pass  # the nanny is stopped and will find what is there
        except OSError:
            self._descriptor = -1

    @staticmethod
    def _identify(descriptor: int) -> tuple[int, int]:
        found = os.fstat(descriptor)
        return found.st_dev, found.st_ino


class NannyConnection(NannyPipe):
    """The same where processes do not inherit pipes: a connection, over which orders come as well.

    :param connection: to the nanny.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._descriptor = connection.fileno()
        self._call: Callable[[int], object] = osprocess.signal_myself
        threading.Thread(target=self._take_orders, name="ipython1-nanny", daemon=True).start()

    def on_order(self, call: Callable[[int], object]) -> None:
        """See :class:`NannyPipe`."""
        self._call = call

    def _write(self, line: bytes) -> None:
        try:
            # A nanny that is stopped for days does not read, and nobody may wait for it.
            self._connection.send(line, getattr(socket, "MSG_DONTWAIT", 0))
        except OSError:
            pass

    def _take_orders(self) -> None:
        rest = b""
        while True:
            try:
                data = self._connection.recv(100)
            except OSError:
                data = b""
            if not data:
                os._exit(1)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._call(int(line))


def take_pipe() -> NannyPipe:
    """Return the pipe to the nanny; call this once, before running user code."""
    number = os.environ.pop(READY_VARIABLE, "")
    port, _, token = number.partition(":")
    if token:
        with contextlib.suppress(OSError):  # it is gone, and this process will find no controller
            return NannyConnection(connect_with_token(int(port), token))
    return NannyPipe(int(number) if number.isdigit() else -1)
