"""What the user's ssh configuration says of a host."""

from __future__ import annotations

import contextlib
import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from ipython1.daemon.companion import companion_command
from ipython1.daemon.pythoncommand import package_root

_LIMIT = 3.0
"""Seconds that ``ssh`` may take to read its configuration."""

_CONNECT_TIMEOUT = re.compile(rb"^connecttimeout (\d+)\r?$", re.MULTILINE)


class _Reader(ProcessProtocol):
    def __init__(self) -> None:
        self.output = b""
        self.ended: Deferred[None] = Deferred(lambda _: self.kill())

    def outReceived(self, data: bytes) -> None:
        self.output = (self.output + data)[-65536:]

    def processEnded(self, reason: Failure) -> None:
        if not self.ended.called:
            self.ended.callback(None)

    def kill(self) -> None:
        with contextlib.suppress(ProcessExitedAlready):
            if self.transport is not None:
                self.transport.signalProcess("KILL")


async def connect_timeout(command: tuple[str, ...], host: str, reactor: Any) -> float:
    """Return the user's ``ConnectTimeout`` for a host, in seconds; 0 if there is none, or ``ssh`` does not tell.

    :param command: ``ssh`` and the user's options.
    :raises CancelledError: if the Deferred that waits for this was cancelled.
    """
    program, *options = command
    reader = _Reader()
    argv = companion_command(package_root(), [program, *options, "-G", "--", host])
    reactor.spawnProcess(reader, argv[0], argv, env=None)
    limit = reactor.callLater(_LIMIT, reader.kill)
    try:
        await reader.ended
    finally:
        if limit.active():
            limit.cancel()
    found = _CONNECT_TIMEOUT.search(reader.output)
    return float(found[1]) if found else 0.0
