"""News of a controller that there is not, with as many engines and tasks as a test needs."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ipython1.kernel.basics.error import ConnectionError
from ipython1.kernel.wire.monitoring import (
    TASK,
    EngineInfo,
    FailureInfo,
    News,
    Span,
    TaskCounts,
    Traffic,
    WorkInfo,
)

FUNCTIONS = ("simulate_orbit", "fit_model", "load_frame", "reduce_image", "bootstrap")


@dataclass
class SimulatedSource:
    """Engines that take tasks of random lengths, and fail now and then.

    :ivar engines: how many.
    :ivar seconds: how long a task takes on average.
    :ivar broken: whether it does not answer any more.
    """

    engines: int = 4
    seconds: float = 2.0
    seed: int = 1
    now: Callable[[], float] = time.time
    broken: bool = False
    closed: int = 0
    looks: int = 0
    _mark: int = 0
    _known: dict[int, EngineInfo] = field(default_factory=dict)
    _ends: dict[int, float] = field(default_factory=dict)
    _work: dict[str, WorkInfo] = field(default_factory=dict)
    _done: int = 0
    _failed: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._started = self.now() - 4000
        for key, name in enumerate(FUNCTIONS):
            self._work[name] = WorkInfo(
                key,
                name,
                "ada@host",
                "items",
                25 * self.engines * (key + 1),
                0,
                0,
                0,
                None,
                self.now(),
                None,
            )
        for number in range(self.engines):
            info = EngineInfo(number, 4000 + number, f"node{number // 32:02}", False, "idle", 0)
            self._known[number] = info
            self._ends[number] = self.now() + self._random.random() * self.seconds

    async def news(self, mark: int) -> News:
        """What has happened since; all of it at the first look."""
        if self.broken:
            raise ConnectionError("the connection was lost")
        self.looks += 1
        now, spans, failures, changed = self.now(), [], [], set()
        for number, end in self._ends.items():
            if end <= now:
                changed.add(number)
                spans += self._end(number, now, failures)
                self._begin(number, now)
        self._mark += 1
        whole = mark == 0
        shown = self._known.values() if whole else [self._known[each] for each in changed]
        counts = TaskCounts(
            500, self.engines, self._done - self._failed, self._failed, len(spans) * 5.0
        )
        return News(
            self._mark, whole, now, self._started, "", 2, counts,
            Traffic(1e6 * self._random.random(), 3e5, 0.002 * self._random.random()),
            tuple(shown), (), tuple(self._work.values()), tuple(spans), tuple(failures),
        )  # fmt: skip

    def _end(self, number: int, now: float, failures: list[FailureInfo]) -> list[Span]:
        info = self._known[number]
        if info.since is None:
            return []
        self._done += 1
        failed = self._random.random() < 0.03
        work = self._work[info.what]
        if failed:
            self._failed += 1
            failures.append(
                FailureInfo(
                    TASK,
                    self._done,
                    info.what,
                    number,
                    "ValueError: no fit: 3 < 4",
                    "Traceback ...",
                    now,
                )
            )
        self._work[info.what] = replace(
            work,
            succeeded=work.succeeded + (not failed),
            failed=work.failed + failed,
            running=work.running - 1,
            total=max(work.total, work.succeeded + work.failed + work.running),
            seconds=self.seconds,
        )
        return [Span(number, TASK, self._done, info.what, info.since, now, 1, int(failed))]

    def _begin(self, number: int, now: float) -> None:
        name = self._random.choice(FUNCTIONS)
        self._work[name] = replace(self._work[name], running=self._work[name].running + 1)
        self._known[number] = replace(
            self._known[number],
            doing=TASK,
            what=name,
            since=now,
            tasks=1 + self._random.randrange(3),
            cpu=20 + 80 * self._random.random(),
            memory=self._random.randrange(80_000_000, 400_000_000),
        )
        self._ends[number] = now + self._random.expovariate(1 / self.seconds)

    async def close(self) -> None:
        """Nothing to give up."""
        self.closed += 1
