"""An ``ssh`` process of a client, watched by a thread of its own.

A client's reactor may not handle the signals of ended children; and a program's own reactor is the program's.  The
process is tied to this one: it ends when this does, however that happens, as its input ends; where the system supports
it, it is killed.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred

from ipython1.daemon import osprocess
from ipython1.daemon.companion import companion_command
from ipython1.daemon.pythoncommand import package_root

LINES: Final = 20


@dataclass(frozen=True, slots=True)
class Ended:
    """How it has ended.

    :ivar status: its exit status; negative for a signal.
    :ivar output: its standard output, unless that was a socket.
    :ivar errors: the last lines of its standard error.
    """

    status: int
    output: str
    errors: tuple[str, ...]


class SshChild:
    """Starts it.

    :param argv: its command line.
    :param pipe: its standard input and output, which is closed here; None for no input and an output that is collected.
    :ivar ended: fires with :class:`Ended`.
    """

    def __init__(
        self, reactor: Any, argv: Sequence[str], pipe: socket.socket | None = None
    ) -> None:
        self.ended: Deferred[Ended] = Deferred()
        self._reactor = reactor
        self._argv = companion_command(package_root(), list(argv))
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._unwanted = False
        threading.Thread(target=self._run, args=(pipe,), name="ipython1-ssh", daemon=True).start()

    def kill(self) -> None:
        """Kill it, and what it has started to reach the host, such as the login to a jump host."""
        with self._lock:
            self._unwanted = True
            if self._process is not None and self._process.returncode is None:
                osprocess.kill_below(self._process.pid)
                self._process.kill()

    def end_within(self, seconds: float) -> None:
        """Kill it unless it ends by itself until then, as it does when its input has ended."""
        call = self._reactor.callLater(seconds, self.kill)

        def over(ended: Ended) -> Ended:
            if call.active():
                call.cancel()
            return ended

        self.ended.addCallback(over)

    def _run(self, pipe: socket.socket | None) -> None:
        """Run it to its end; in the thread."""
        try:
            with contextlib.closing(pipe) if pipe is not None else contextlib.nullcontext():
                process = subprocess.Popen(
                    self._argv,
                    stdin=subprocess.DEVNULL if pipe is None else pipe.fileno(),
                    stdout=subprocess.PIPE if pipe is None else pipe.fileno(),
                    stderr=subprocess.PIPE,
                )
        except OSError as problem:
            self._tell(Ended(127, "", (f"cannot run {self._argv[0]}: {problem.strerror}",)))
            return
        with self._lock:
            self._process = process
            if self._unwanted:
                process.kill()
        output, errors = process.communicate()
        lines = [line.strip() for line in errors.decode(errors="replace").splitlines()]
        said = tuple(line for line in lines if line)[-LINES:]
        self._tell(Ended(process.returncode, (output or b"").decode(errors="replace"), said))

    def _tell(self, ended: Ended) -> None:
        self._reactor.callFromThread(self.ended.callback, ended)
