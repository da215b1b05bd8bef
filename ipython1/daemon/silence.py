"""Who has been silent for how long: the processes of a nanny, and its supervisor.

A process that gave no sign of life for its time is told to the supervisor, once, and so is the next sign of it.  A
supervisor that gave none is told to the user, on standard error and in its log, because it cannot do so itself.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable

from ipython1.daemon import osprocess
from ipython1.daemon.children import Child
from ipython1.daemon.protocol import Heard, Message, Silent
from ipython1.system import O_NOFOLLOW

HELD = 5.0
"""Seconds by which a turn of the nanny's loop is late if it was stopped itself, or its whole machine was."""


class Silences:
    """See the module's text.

    :param children: gives the processes.
    :param send: sends an event to the supervisor.
    :param watch: seconds of silence of the supervisor after which to say so; 0 for never.
    :param log: the file where to say it, besides standard error; empty for none.
    :ivar heard: when the supervisor was last heard.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        children: Callable[[], Iterable[Child]],
        send: Callable[[Message], None],
        *,
        watch: float = 0.0,
        log: str = "",
    ) -> None:
        self.heard: float = clock()
        self._clock = clock
        self._children = children
        self._send = send
        self._watch = watch
        self._log = log
        self._supervisor = os.getppid()
        self._said = False

    def supervisor_heard(self) -> None:
        """The supervisor gave a sign of life."""
        now = self._clock()
        if self._said:
            self._say(f"answers again, after {now - self.heard:.0f} s")
        self.heard, self._said = now, False

    def child_heard(self, child: Child) -> None:
        """A process gave a sign of life."""
        child.heard = self._clock()
        if child.silent:
            child.silent = False
            self._send(Heard(child.key))

    def turn_took(self, seconds: float, timeout: float | None) -> None:
        """Take note of how long the nanny waited, and how long it wanted to wait.

        If it was held itself, perhaps with all others, everybody's silence begins now.
        """
        if timeout is not None and seconds > timeout + HELD:
            self.heard = self._clock()
            for child in self._children():
                child.heard = self.heard

    def look(self) -> None:
        """Say who has been silent for too long."""
        now = self._clock()
        for child in self._watched():
            if now - child.heard >= child.watch:
                child.silent = True
                self._send(Silent(child.key, now - child.heard, _is_stopped(child.pid)))
        if self._watch and not self._said and now - self.heard >= self._watch:
            self._said = True
            stopped = _is_stopped(self._supervisor)
            go_on = f"continue it with: kill -CONT {self._supervisor}, or " if stopped else ""
            self._say(
                f"has not answered for {now - self.heard:.0f} s: it is {'stopped' if stopped else 'stuck'}; controller "
                f"and engines go on, but nobody restarts or stops them; {go_on}"
                "end everything with: ipcluster stop --force"
            )

    def next_look(self) -> list[float]:
        """Return in how many seconds somebody may have been silent for too long."""
        now = self._clock()
        times = [child.heard + child.watch for child in self._watched()]
        if self._watch and not self._said:
            times.append(self.heard + self._watch)
        return [max(0.0, min(times) - now)] if times else []

    def _watched(self) -> list[Child]:
        return [child for child in self._children() if child.watch and not child.silent]

    def _say(self, what: str) -> None:
        text = f"ipcluster (process {self._supervisor}) {what}"
        with contextlib.suppress(OSError):
            os.write(2, f"ipcluster: {text}\n".encode())
        if self._log:
            moment = time.strftime("%Y-%m-%dT%H:%M:%S%z")
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | O_NOFOLLOW
            with contextlib.suppress(OSError):
                descriptor = os.open(self._log, flags, 0o600)
                with open(descriptor, "w") as file:
                    file.write(f"{moment} [{__name__}#warn] {text}\n")


def _is_stopped(pid: int) -> bool:
    entry = osprocess.process_entry(pid)
    return entry is not None and entry.is_stopped
