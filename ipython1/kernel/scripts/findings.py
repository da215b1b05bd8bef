"""What ``--check`` finds: lines, and probes that are given up when they take too long."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ipython1 import system
from ipython1.daemon import osprocess

LIMIT: Final = 15.0
"""Seconds that a probe may take."""

_running: set[subprocess.Popen[bytes]] = set()


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check.

    :ivar state: ``'ok'``, ``'missing'`` for what need not be there, or ``'bad'`` for what has to be mended.
    """

    group: str
    name: str
    state: str
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """How a program ended.

    :ivar status: its exit status; None if it could not be started or took too long.
    :ivar text: what it printed, or why there is nothing.
    """

    status: int | None
    text: str

    @property
    def line(self) -> str:
        """The first line that is not empty."""
        return next(iter(self._lines()), "")

    @property
    def last(self) -> str:
        """The last line that is not empty: where a program says why it ends."""
        return next(reversed(self._lines()), "")

    def _lines(self) -> list[str]:
        """The lines that are not empty, without what controls terminals."""
        lines = (" ".join(line.split()) for line in self.text.splitlines())
        shown = ("".join(filter(str.isprintable, line)) for line in lines)
        return [line for line in shown if line]


def within_limit(
    group: str, name: str, probe: Callable[[], Finding], late: str = "missing", limit: float = LIMIT
) -> Finding:
    """Return what a probe finds; one that takes too long is left behind in its thread.

    :param late: the state of what gives no answer.
    """
    found: list[Finding] = []

    def run() -> None:
        try:
            found.append(probe())
        except Exception as problem:
            text = f"{type(problem).__name__}: {' '.join(str(problem).split())}"
            found.append(Finding(group, name, late, text))

    thread = threading.Thread(target=run, name=f"check {name}", daemon=True)
    thread.start()
    thread.join(limit)
    return found[0] if found else Finding(group, name, late, f"no answer within {limit:g} s")


def ask(
    command: Sequence[str],
    limit: float = LIMIT,
    cwd: str | Path | None = None,
    grace: float = 0.0,
) -> Answer:
    """Run a program, which can read nothing; it is killed with all that it started when it takes too long.

    :param grace: seconds for it to tidy up, after an interrupt; without, it is killed at once.
    """
    try:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **system.apart(),
        )
    except OSError as problem:
        return Answer(None, f"{command[0]}: {problem.strerror}")
    _running.add(process)
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        _end(process, grace)
        process.communicate()
        return Answer(None, f"no answer within {limit:g} s")
    except BaseException:
        _end(process, grace)
        raise
    finally:
        _running.discard(process)
    return Answer(process.returncode, output.decode("utf-8", "replace"))


def kill_all() -> None:
    """Kill the programs that probes still wait for, as after Ctrl-C, which does not reach them."""
    for process in list(_running):
        _kill(process)


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    try:
        if grace and osprocess.send_signal(process.pid, signal.SIGINT):
            process.communicate(timeout=grace)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    osprocess.send_signal(process.pid, system.KILL, group=True)
