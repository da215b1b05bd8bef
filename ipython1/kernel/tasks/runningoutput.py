"""What the tasks of a client write and display while they run; the results have all of it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from ipython1.core.terminaltext import TerminalText
from ipython1.kernel.calls.liveoutput import STREAMS
from ipython1.kernel.calls.livesteps import read_steps
from ipython1.kernel.objects.taskcodec import CLEAR_AFTER, CLEAR_BEFORE, LIVE
from ipython1.kernel.objects.taskoptions import TaskOptions
from ipython1.notebook.frontend import FrontEnd, front_end

LINES: Final = 4
"""The last lines of each stream of a task that are shown."""

MOST_TASKS: Final = 2000
"""Tasks whose output is kept while they run; more have no place on a screen."""

MOST_STEPS: Final = 2000
"""Displayed objects and updates that are kept for who waits; the last ones."""


def live_flag() -> int:
    """Return the flag of tasks whose output is wanted while they run: those of a session with a user."""
    return 0 if front_end() is FrontEnd.NONE else LIVE


def flags_of(options: TaskOptions) -> int:
    """Return the flags of a task with these options."""
    return (
        (CLEAR_BEFORE if options.clear_before else 0)
        | (CLEAR_AFTER if options.clear_after else 0)
        | live_flag()
    )


class RunningOutput:
    """Filled in the reactor's thread, read in any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: dict[int, tuple[int, dict[str, TerminalText]]] = {}
        self._steps: deque[tuple[int, Any]] = deque(maxlen=MOST_STEPS)

    def add(self, task_id: int, engine_id: int, stream: str, text: str) -> None:
        """Note what a task has written or displayed."""
        if stream not in STREAMS:
            self._steps.extend((engine_id, step) for step in read_steps(text))
            return
        with self._lock:
            known = self._texts.get(task_id)
            if known is None or known[0] != engine_id:
                if known is None and len(self._texts) >= MOST_TASKS:
                    return
                known = self._texts[task_id] = (engine_id, {})
            terminal = known[1].setdefault(stream, TerminalText())
            terminal.feed(text)
            terminal.gone.clear()

    def forget(self, task_ids: Iterable[int]) -> None:
        """Forget tasks that are done."""
        if self._texts:
            with self._lock:
                for task_id in task_ids:
                    self._texts.pop(task_id, None)

    def lines(self) -> list[tuple[int, str]]:
        """Return the last lines of the tasks that run, with the ids of their engines."""
        found: list[tuple[int, str]] = []
        with self._lock:
            for engine_id, terminals in self._texts.values():
                for stream in STREAMS:
                    if stream in terminals:
                        lines = [str(row) for row in terminals[stream].rows]
                        kept = [line for line in lines if line.strip()][-LINES:]
                        found += [(engine_id, line) for line in kept]
        return sorted(found, key=lambda each: each[0])

    def take_steps(self) -> list[tuple[int, Any]]:
        """Return what tasks have displayed since the last call, with the ids of their engines."""
        steps = self._steps
        return [steps.popleft() for _ in range(len(steps))]
