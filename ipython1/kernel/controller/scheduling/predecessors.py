"""Tasks that wait for other tasks.

All tasks that wait for the same ones, in the same way, are a *group*, so ten thousand that wait for ten thousand others
cost no more than twenty thousand.

==================  =====================================================  ============================================
a group is          on                                                     becomes
==================  =====================================================  ============================================
(none)              a task is safe                                         open, or decided if nothing is left to do
open                the last of the tasks ends that it waits for           decided: its tasks may run
open                one of them ends as it should not; it will never come  decided: its tasks are not run
decided             the end of the turn                                    over: they are queued, or done
decided             the end of the turn, it is not known where others ran  sought
sought              the journal has answered                               decided
open, sought        its last task is aborted                               over
==================  =====================================================  ============================================

A task that is waited for may be another client's and not have come yet.  Whoever is aborted has failed.  What follows
from a failure is done task by task, without recursion, at the end of the turn.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, Protocol

from ipython1.kernel.controller.scheduling.accounts import Account, Finished
from ipython1.kernel.controller.scheduling.causes import (
    CIRCLE,
    FAILED,
    ITSELF,
    NEVER_CAME,
    NO_SUCH_TASK,
    SUCCEEDED,
    Cause,
    outcome_of,
)
from ipython1.kernel.controller.scheduling.following import Following
from ipython1.kernel.controller.scheduling.records import QUEUED, WAITING, TaskRecord
from ipython1.kernel.controller.scheduling.retention import ResultStore
from ipython1.kernel.controller.scheduling.seams import MachineParts
from ipython1.kernel.wire.tasklinks import FAILURE, FOLLOW, SUCCESS, Links
from ipython1.kernel.wire.taskwire import Status

MOST_CAUSES: Final = 10_000
"""Tasks that were not run of which it is known why."""

MOST_STEPS: Final = 20_000
"""What is done in one turn, so that it does not take very long."""

SHOWN: Final = 3
"""Tasks that are named to people of those that one waits for."""


class ClientsParts(Protocol):
    """What is needed of the clients."""

    accounts: dict[bytes, Account]
    store: ResultStore
    next_id: int


class Group:
    """Tasks that wait for the same ones.

    :ivar open: how many of these are not done.
    :ivar records: by id.
    :ivar cause: why they are not run.
    :ivar places: the engines that may run them, once that is known; None for any.
    :ivar sought: whether the journal was asked for these.
    """

    __slots__ = ("cause", "links", "open", "over", "places", "records", "sought")

    def __init__(self, links: Links) -> None:
        self.links: Links = links
        self.open: int = 0
        self.records: dict[int, TaskRecord] = {}
        self.cause: Cause | None = None
        self.places: frozenset[int] | None = None
        self.sought: bool = False
        self.over: bool = False


class Predecessors:
    """Holds the tasks that wait for others.

    :ivar waiting: the group of each of them.
    """

    def __init__(self, machine: MachineParts, clients: ClientsParts) -> None:
        self.waiting: dict[int, Group] = {}
        self.following: Following = Following(machine, clients.store)
        self._machine = machine
        self._clients = clients
        self._store = clients.store
        self._groups: dict[Links, Group] = {}
        self._followers: dict[int, list[tuple[Group, int]]] = {}
        self._followed: set[int] = set()
        self._coming: set[int] = set()
        self._doubtful = False
        self._ended: deque[Finished] = deque()
        self._decided: deque[Group] = deque()
        self._causes: OrderedDict[int, Cause] = OrderedDict()

    # -- tasks come

    def arrived(self, records: list[TaskRecord]) -> list[TaskRecord]:
        """Tasks are safe; returns those that wait for no others.  The rest is held here."""
        ready = []
        for record in records:
            if record.links is None:
                ready.append(record)
            else:
                self._hold(record, record.links)
        return ready

    def hold_back(self, records: list[TaskRecord]) -> list[TaskRecord]:
        """Tasks that no engine has any more; holds those of an earlier controller of which it is not known where they
        may run, and returns the others."""
        known = [record for record in records if not self._is_lost(record)]
        if len(known) < len(records):
            self.arrived([record for record in records if self._is_lost(record)])
        return known

    @staticmethod
    def _is_lost(record: TaskRecord) -> bool:
        if record.links is None or not record.links.follows:
            return False
        return record.trouble is None or record.trouble.places is None

    def look_again(self) -> None:
        """Something has come, or will not come any more, that may be waited for."""
        self._doubtful = bool(self._coming)

    def _hold(self, record: TaskRecord, links: Links) -> None:
        record.state = WAITING
        group = self._groups.get(links)
        if record.id in self._followers and self._is_circle(record.id, links):
            group = Group(links)
            group.cause = Cause((self._first(links),), 0, CIRCLE)
            self._decided.append(group)
        elif group is None:
            group = self._groups[links] = Group(links)
            self._look(group, record)
            if group.cause is not None or not group.open:
                self._decided.append(group)
        group.records[record.id] = record
        self.waiting[record.id] = group

    def _look(self, group: Group, record: TaskRecord) -> None:
        """Find out what a group waits for."""
        store, tasks = self._store, self._machine.tasks
        for tie in group.links.ties:
            for start, stop in tie.ranges:
                if tie.flags & SUCCESS and store.all_succeeded(start, stop):
                    continue
                for task_id in range(start, stop):
                    outcome = store.outcome(task_id)
                    if outcome is not None:
                        if not tie.flags & (SUCCESS if outcome else FAILURE):
                            group.cause = self._cause_of(task_id, outcome)
                            return
                    elif task_id == record.id:
                        group.cause = Cause((task_id,), 0, ITSELF)
                        return
                    elif task_id in tasks or self._is_coming(task_id, record):
                        self._followers.setdefault(task_id, []).append((group, tie.flags))
                        group.open += 1
                        if tie.flags & FOLLOW:
                            self._followed.add(task_id)
                        if task_id not in tasks:
                            self._coming.add(task_id)
                    else:
                        known = task_id < self._clients.next_id
                        group.cause = Cause((task_id,), 0, NEVER_CAME if known else NO_SUCH_TASK)
                        return

    def _is_coming(self, task_id: int, record: TaskRecord | None = None) -> bool:
        """Whether a task is on its way here, for all that is known.

        :param record: who asks; a client cannot know the ids that it will give later.
        """
        for account in self._clients.accounts.values():
            lease = account.lease_of(task_id)
            if lease is None:
                continue
            if record is not None and account is record.client and task_id >= record.id:
                return False
            if task_id >= lease.next:
                return not account.gone
            return any(task_id in ids for ids in account.arriving)
        return False

    def _is_circle(self, task_id: int, links: Links) -> bool:
        """Whether a task would wait for itself."""
        seen: set[Links] = {links}
        todo = [links]
        while todo:
            for group in self._waited_for(todo.pop()):
                if group.links not in seen:
                    seen.add(group.links)
                    todo.append(group.links)
        return any(start <= task_id < stop for each in seen for start, stop in _ranges(each))

    def _waited_for(self, links: Links) -> Iterator[Group]:
        """The groups of those tasks that wait themselves."""
        waiting = self.waiting
        for start, stop in _ranges(links):
            ids: Iterable[int] = range(start, stop)
            if stop - start > len(waiting):
                ids = [each for each in waiting if start <= each < stop]
            for task_id in ids:
                group = waiting.get(task_id)
                if group is not None:
                    yield group

    # -- tasks end

    def note(self, done: list[Finished]) -> None:
        """Tasks are done."""
        followers = self._followers
        if followers:
            for finished in done:
                if finished.id in followers:
                    self._ended.append(finished)
                    if finished.id in self._followed:
                        finished.private = False  # a later controller must know where it ran

    def take(self, record: TaskRecord) -> None:
        """A task does not wait any more, because it is settled where it is."""
        group = self.waiting.pop(record.id)
        del group.records[record.id]
        if not group.records:
            self._end(group)

    def _end(self, group: Group) -> None:
        group.over = True
        if self._groups.get(group.links) is group:
            del self._groups[group.links]

    # -- the end of a turn

    def settle(self, now: float) -> None:
        """Queue the tasks that need not wait any more, and end those that will never run."""
        if self._doubtful:
            self._look_for_missing()
        released: list[TaskRecord] = []
        steps = 0
        while self._ended or self._decided:
            steps += 1
            if steps > MOST_STEPS:
                self._machine.timers.at(
                    now, "predecessors"
                )  # there is more to do at the end of the next turn
                break
            if self._ended:
                self._tell(self._ended.popleft())
            else:
                self._decide(self._decided.popleft(), released, now)
        if released:
            released.sort(key=lambda record: record.id)
            self._machine.assigner.put_many(released)

    def _tell(self, finished: Finished) -> None:
        """Tell those that wait for it of a task that is done."""
        wanted = FAILURE if finished.status else SUCCESS
        self._followed.discard(finished.id)
        for group, flags in self._followers.pop(finished.id, ()):
            group.open -= 1
            if group.cause is not None or group.over:
                continue
            if not flags & wanted:
                group.cause = self._cause(finished)
                self._decided.append(group)
            elif not group.open:
                self._decided.append(group)

    def _look_for_missing(self) -> None:
        """Give up on tasks that will not come."""
        self._doubtful = False
        for task_id in list(self._coming):
            if task_id in self._machine.tasks or self._store.outcome(task_id) is not None:
                self._coming.discard(task_id)
            elif not self._is_coming(task_id):
                self._coming.discard(task_id)
                self._followed.discard(task_id)
                for group, _ in self._followers.pop(task_id, ()):
                    group.open -= 1
                    if group.cause is None and not group.over:
                        group.cause = Cause((task_id,), 0, NEVER_CAME)
                        self._decided.append(group)

    def _decide(self, group: Group, released: list[TaskRecord], now: float) -> None:
        """A group waits for no more."""
        if group.over:
            return
        if group.cause is None and group.links.follows:
            found = self.following.places(group.links, ask=not group.sought)
            if found is None:
                group.sought = True
                return
            group.places, group.cause = found
        self._end(group)
        for record in group.records.values():
            del self.waiting[record.id]
            if group.cause is not None:
                self._fail(record, group.cause, now)
            else:
                record.state = QUEUED
                if group.places is not None:
                    self.following.tie(record, group.places)
                released.append(record)

    def _fail(self, record: TaskRecord, cause: Cause, now: float) -> None:
        """A task will never run."""
        self._causes[record.id] = cause
        if len(self._causes) > MOST_CAUSES:
            self._causes.popitem(last=False)
        message = cause.message(record.id)
        record.note(message)
        error = ("DependencyFailed", message)
        self._machine.finish(record, Status.REFUSED, -1, now, error=error)

    def _cause(self, finished: Finished) -> Cause:
        cause = self._causes.get(finished.id)
        if cause is not None:
            return cause.before(finished.id)
        return Cause((finished.id,), 0, outcome_of(finished))

    def _cause_of(self, task_id: int, succeeded: bool) -> Cause:
        """The same for a task that ended some time ago."""
        finished = self._store.results.get(task_id)
        if finished is not None:
            return self._cause(finished)
        cause = self._causes.get(task_id)
        if cause is not None:
            return cause.before(task_id)
        return Cause((task_id,), 0, SUCCEEDED if succeeded else FAILED)

    # -- where others ran

    def located(self, engines: dict[int, int | None]) -> None:
        """The journal has answered where tasks ran.

        :param engines: by task id; None if that is not known.
        """
        self.following.located(engines)
        self._decided.extend(group for group in self._groups.values() if group.sought)

    def engine_lost(self, engine: int, now: float) -> None:
        """An engine is gone, and what was to run only there will never run."""
        for record, cause in self.following.lost(engine):
            self._fail(record, cause, now)

    # -- for people

    def why(self) -> Iterator[tuple[int, str]]:
        """The tasks that wait, and for what."""
        texts: dict[Group, str] = {}
        for task_id, group in self.waiting.items():
            if group not in texts:
                texts[group] = self._text(group)
            yield task_id, texts[group]

    def _text(self, group: Group) -> str:
        if group.cause is not None:
            return "it will not be run"
        if group.sought:
            return "the journal is asked where the tasks ran that it follows"
        names = [str(each) for each in islice(self.open_ids(group.links), SHOWN)]
        if not names:
            return "it is about to be queued"
        if group.open > len(names):
            names.append(f"{group.open - len(names)} more")
        listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
        return f"it waits for task{'s' if group.open > 1 else ''} {listed}"

    def open_ids(self, links: Links) -> Iterator[int]:
        """The tasks that are waited for and not done."""
        for start, stop in _ranges(links):
            for task_id in range(start, stop):
                if task_id in self._followers:
                    yield task_id
                elif self._store.outcome(task_id) is None:
                    return  # it will never come

    def roots(self, record: TaskRecord) -> Iterator[TaskRecord]:
        """The tasks for which a task that waits does so in the end: those that wait for no others."""
        seen: set[int] = set()
        todo = [record]
        while todo:
            links = todo.pop().links
            for task_id in self.open_ids(links) if links is not None else ():
                another = self._machine.tasks.get(task_id)
                if another is None or task_id in seen:
                    continue
                seen.add(task_id)
                if another.state is WAITING:
                    todo.append(another)
                else:
                    yield another

    def _first(self, links: Links) -> int:
        return links.ties[0].ranges[0][0]


def _ranges(links: Links) -> Iterator[tuple[int, int]]:
    for tie in links.ties:
        yield from tie.ranges
