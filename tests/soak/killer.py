"""Kills and stops processes at random."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from ipython1.daemon import osprocess

CONTROLLER, ENGINE, CLIENT = "controller", "engine", "client"
AT_ONCE = 0.1
"""How many follow the one before closely."""

STEADY = 3.0
"""Seconds that the others have lived; see :class:`~ipython1.daemon.processes.RestartPolicy`."""


@dataclass(frozen=True, slots=True)
class Rates:
    """How often per minute something happens to a process of each kind."""

    kills: dict[str, float]
    stops: dict[str, float]


class Killer:
    """Kills and stops processes, in a thread, while it is entered.

    :param choose: the processes of a kind that may be harmed now.
    :ivar killed: the process ids.
    :ivar stopped: how often processes of each kind were stopped.
    """

    def __init__(
        self, rates: Rates, chance: Random, choose: Callable[[str], Sequence[int]]
    ) -> None:
        self._chance = chance
        self._choose = choose
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self.killed: dict[str, list[int]] = {CONTROLLER: [], ENGINE: [], CLIENT: []}
        self.stopped: Counter[str] = Counter()
        for act, table in ((self._kill, rates.kills), (self._stop, rates.stops)):
            for kind, rate in table.items():
                if rate > 0:
                    seed = Random(chance.random())
                    self._threads.append(
                        threading.Thread(
                            target=self._act, args=(act, kind, rate, seed), daemon=True
                        )
                    )

    def __enter__(self) -> Killer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _act(
        self, act: Callable[[str, int, Random], None], kind: str, rate: float, chance: Random
    ) -> None:
        # Now and then two follow each other closely; else what dies has lived long enough that its death is not taken
        # for one of a row of failures, before which it waits longer and longer.
        seen: dict[int, float] = {}
        due = time.monotonic()
        while True:
            at_once = chance.random() < AT_ONCE
            share = chance.uniform(0.02, 0.2) if at_once else chance.uniform(0.8, 1.2)
            due = max(due + share * 60 / rate, time.monotonic())
            age = 0.0 if at_once else STEADY
            while not (pids := self._living(kind, seen, age)) or time.monotonic() < due:
                if self._over.wait(0.05):
                    return
            act(kind, chance.choice(sorted(pids)), chance)

    def _living(self, kind: str, seen: dict[int, float], age: float) -> list[int]:
        """The processes that may be harmed and were first seen so many seconds ago."""
        now = time.monotonic()
        return [pid for pid in self._choose(kind) if now - seen.setdefault(pid, now) >= age]

    def _kill(self, kind: str, pid: int, chance: Random) -> None:
        self.killed[kind].append(pid)
        if not osprocess.send_signal(pid, signal.SIGKILL):
            self.killed[kind].pop()

    def _stop(self, kind: str, pid: int, chance: Random) -> None:
        self.stopped[kind] += osprocess.send_signal(pid, signal.SIGSTOP)
        self._over.wait(chance.choice((0.05, 0.5, 2.0)))
        osprocess.send_signal(pid, signal.SIGCONT)
