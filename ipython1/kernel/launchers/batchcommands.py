"""Running the commands of a batch system, none of which may hold anything up for long."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from ipython1.core.texts import clip
from ipython1.kernel.basics.error import ClusterError

COMMAND_LIMIT: Final = 60.0
"""Seconds that a command may take before it is killed."""

SAY_SLOW_AFTER: Final = 5.0
"""Seconds after which the user is told that a command takes long."""

MOST_TEXT: Final = 500
"""Characters of a command's output in a message."""


class NoAnswer(ClusterError):
    """A command has not answered in time; what it was to do may have been done."""


class _Running(ProcessProtocol):
    """A command that runs; ``done`` fires with its status and its output."""

    def __init__(self, stdin: bytes) -> None:
        self.done: Deferred[tuple[int, str]] = Deferred()
        self._stdin = stdin
        self._received: list[bytes] = []

    def connectionMade(self) -> None:
        if self._stdin:
            self._port.write(self._stdin)
        self._port.closeStdin()

    @property
    def _port(self) -> Any:
        return self.transport

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._received.append(data)

    def processEnded(self, reason: Failure) -> None:
        if not self.done.called:
            code = getattr(reason.value, "exitCode", 1)
            text = b"".join(self._received).decode(errors="replace")
            self.done.callback((1 if code is None else code, text))

    def kill(self) -> None:
        """End it, and what it holds of this process."""
        try:
            self._port.signalProcess("KILL")
        except ProcessExitedAlready:
            pass
        self._port.loseConnection()


async def run_command(
    reactor: Any,
    command: Sequence[str],
    stdin: bytes = b"",
    *,
    say: Callable[[str], object] = lambda text: None,
    limit: float = COMMAND_LIMIT,
) -> tuple[int, str]:
    """Run a command; return its exit status and all its output.

    :param say: shows a line to the user if it takes long.
    :param limit: seconds after which it is killed.
    :raises NoAnswer: if it takes longer.
    :raises ClusterError: if there is no such program.
    """
    name = command[0]
    program = shutil.which(name)
    if program is None:
        raise ClusterError(f"program {name!r} not found")
    running = _Running(stdin)
    reactor.spawnProcess(running, program, [name, *command[1:]], env=dict(os.environ))
    slow = reactor.callLater(
        SAY_SLOW_AFTER, lambda: say(f"{name} has not answered for {SAY_SLOW_AFTER:g} s")
    )
    late = reactor.callLater(
        limit, lambda: running.done.errback(NoAnswer(f"{name} did not answer within {limit:g} s"))
    )
    try:
        return await running.done
    except NoAnswer:
        running.kill()
        raise
    finally:
        for call in (slow, late):
            if call.active():
                call.cancel()


def one_line(text: str) -> str:
    """Return a command's output as one line for a message."""
    return clip(" ".join(text.split()), MOST_TEXT) or "no error message"
