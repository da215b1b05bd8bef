"""Tasks of one client that do the same, counted together; pure state.

===========  ==================================================  =============================
some work    on                                                  becomes
===========  ==================================================  =============================
(new)        tasks of it arrive                                  going on
going on     its last task is done                               complete
complete     more of it arrives soon                             going on
complete     more of it arrives later than :data:`TOGETHER`      stays so; the rest is new work
any          there are more than :data:`MOST`; the earliest that  (gone)
             is complete, or the earliest
===========  ==================================================  =============================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from ipython1.kernel.controller.scheduling.accounts import Finished
from ipython1.kernel.controller.scheduling.prefetch import Measured
from ipython1.kernel.controller.scheduling.records import TaskRecord, TaskTerms
from ipython1.kernel.host.logs import shown
from ipython1.kernel.wire.monitoring import WorkInfo
from ipython1.kernel.wire.taskwire import OptionsSpec

MOST: Final = 200
"""Work that is kept."""

TOGETHER: Final = 5.0
"""Seconds.  Tasks that follow so soon after the last ones are the same work."""

DIGITS: Final = 4

CODE: Final = "code"
"""What tasks do that are not calls of a function; their code is not told."""

_LONGEST: Final = 1e9

_MOST_WORDS: Final = 1000

_NAME: Final = re.compile(r"[\w.<>]+")


class WorkRecord:
    """Some work.

    :ivar client: the uuid of the client whose it is.
    :ivar items: whether its tasks are groups of items, which are counted.
    :ivar seconds: what all that is done took.
    :ivar completed: when the last task was done; counts when all are.
    """

    __slots__ = (
        "client",
        "completed",
        "failed",
        "items",
        "key",
        "running",
        "seconds",
        "submitted",
        "succeeded",
        "total",
        "what",
    )

    def __init__(self, key: int, client: bytes, what: str, submitted: float) -> None:
        self.key: int = key
        self.client: bytes = client
        self.what: str = what
        self.submitted: float = submitted
        self.completed: float = submitted
        self.items: bool = False
        self.total: int = 0
        self.succeeded: int = 0
        self.failed: int = 0
        self.running: int = 0
        self.seconds: float = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether all of it is done."""
        return self.succeeded + self.failed >= self.total

    def told(self, label: str) -> WorkInfo:
        """It for those who look.

        :param label: who its client is.
        """
        done = self.succeeded + self.failed
        return WorkInfo(
            self.key,
            self.what,
            label,
            "items" if self.items else "tasks",
            self.total,
            self.running,
            self.succeeded,
            self.failed,
            float(f"{self.seconds / done:.4g}") if done else None,
            round(self.submitted, DIGITS),
            round(self.completed, DIGITS) if self.is_complete else None,
        )


class Works:
    """All work that is kept.

    :param changed: called with each that has changed.
    :param forget: called with each that is not kept any more.
    :param epoch: seconds since the epoch at a time of the machine.
    """

    def __init__(
        self,
        changed: Callable[[WorkRecord], None],
        forget: Callable[[WorkRecord], None],
        epoch: Callable[[float], float],
    ) -> None:
        self._changed = changed
        self._forget = forget
        self._epoch = epoch
        self._last_key = 0
        self._by_kind: dict[tuple[bytes, Measured], WorkRecord] = {}
        self._kinds: dict[WorkRecord, tuple[bytes, Measured]] = {}
        self._words: dict[bytes, str] = {}

    def __len__(self) -> int:
        return len(self._kinds)

    def what_of(self, terms: TaskTerms) -> str:
        """What tasks do: the name of their function."""
        packed = terms.packed
        words = self._words.get(packed)
        if words is None:
            if len(self._words) >= _MOST_WORDS:
                self._words.clear()
            what = OptionsSpec.unpack(packed).what if packed else ""
            words = self._words[packed] = shown(what) if _NAME.fullmatch(what) else CODE
        return words

    def work_of(self, task: TaskRecord) -> WorkRecord | None:
        """The work that a task is a part of, if it is kept."""
        return self._by_kind.get((task.client.uuid, _terms_of(task).measured))

    # -- events

    def submitted(self, records: Sequence[TaskRecord], now: float) -> None:
        """Tasks of one client have come, or are there after a restart."""
        terms = [record.options for record in records]
        # Mostly all are alike, and to see that must not cost much: this is called for all tasks, whoever looks.
        if terms.count(terms[0]) == len(terms) and records[0].client is records[-1].client:
            self._add(records[0], _terms_of(records[0]), len(records), now)
            return
        groups: dict[tuple[int, int], list[TaskRecord]] = {}
        for record in records:
            groups.setdefault((id(record.options), id(record.client)), []).append(record)
        for group in groups.values():
            self._add(group[0], _terms_of(group[0]), len(group), now)

    def _add(self, first: TaskRecord, terms: TaskTerms, count: int, now: float) -> None:
        submitted = self._epoch(first.submitted)
        kind = (first.client.uuid, terms.measured)
        work = self._by_kind.get(kind)
        if work is None or (work.is_complete and submitted - work.completed > TOGETHER):
            self._last_key += 1
            work = WorkRecord(self._last_key, kind[0], self.what_of(terms), submitted)
            self._by_kind[kind] = work
            self._kinds[work] = kind
            self._drop()
        work.total += count * terms.weight
        if terms.weight > 1:
            work.items = True
        self._changed(work)

    def _drop(self) -> None:
        if len(self._kinds) <= MOST:
            return
        earliest = next(iter(self._kinds))
        work = next((work for work in self._kinds if work.is_complete and work.total), earliest)
        kind = self._kinds.pop(work)
        if self._by_kind.get(kind) is work:
            del self._by_kind[kind]
        self._forget(work)

    def finished(self, done: Sequence[Finished]) -> None:
        """Tasks are done; several at a time are those of one engine that all succeeded."""
        tasks: Any = [finished.task for finished in done]
        terms = [task.options for task in tasks]
        first = done[0]
        if terms.count(terms[0]) == len(terms) and first.client is done[-1].client:
            seconds = sum([finished.duration for finished in done])
            self._count(tasks[0], len(done), not first.status, seconds, first.completed)
            return
        groups: dict[tuple[int, int], list[Finished]] = {}
        for finished in done:
            task = finished.task
            groups.setdefault((id(task.options), id(finished.client)), []).append(finished)
        for group in groups.values():
            seconds = sum([finished.duration for finished in group])
            tasks = group[0].task
            self._count(tasks, len(group), not group[0].status, seconds, first.completed)

    def _count(
        self, task: TaskRecord, count: int, good: bool, seconds: float, completed: float
    ) -> None:
        terms = _terms_of(task)
        work = self._by_kind.get((task.client.uuid, terms.measured))
        if work is None:
            return
        if good:
            work.succeeded += count * terms.weight
        else:
            work.failed += count * terms.weight
        if seconds < _LONGEST:  # what an engine says may be anything
            work.seconds += seconds
        work.completed = max(work.completed, self._epoch(completed))
        self._changed(work)

    def items_failed(self, task: TaskRecord, count: int) -> None:
        """So many items of a task that succeeded have failed."""
        work = self.work_of(task)
        if work is not None:
            count = min(count, _terms_of(task).weight)
            work.succeeded -= count
            work.failed += count
            self._changed(work)

    def running_are(self, heads: Iterable[TaskRecord]) -> None:
        """These are the tasks that run now."""
        counts: dict[WorkRecord, int] = {}
        for task in heads:
            work = self.work_of(task)
            if work is not None:
                counts[work] = counts.get(work, 0) + 1
        for work in self._kinds:
            running = counts.get(work, 0)
            if running != work.running:
                work.running = running
                self._changed(work)


def _terms_of(task: TaskRecord) -> TaskTerms:
    """What was submitted, even if a recovery task has taken over."""
    trouble = task.trouble
    return trouble.replaced[0][0] if trouble is not None and trouble.replaced else task.options
