"""What the machine knows of a task, an engine and a client.

These are plain slotted objects, not frozen ones: there is one per task and they are changed on the hot path.

Places of a task::

    state       it is in
    ==========  =====================================================================
    WAITING     ``predecessors``: it waits for other tasks
    QUEUED      the assigner (waiting its turn, or for an engine that it may run on)
    ASSIGNED    ``outstanding`` of one engine (running there, or waiting in its inbox)
    ABORTING    the same, and its fate is settled: the engine is to let go of it
    UNCLEAR     ``restored``: an earlier controller had it, and an engine that has not reported yet may have it
    DONE        the store of finished tasks
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, TypeAlias

from ipython1.kernel.controller.scheduling.accounts import Account
from ipython1.kernel.controller.scheduling.custody import Custody
from ipython1.kernel.controller.scheduling.prefetch import Measured
from ipython1.kernel.wire.frames import Bytes
from ipython1.kernel.wire.tasklinks import Links
from ipython1.kernel.wire.verdicts import Verdict


class State(IntEnum):
    """Where a task is; see the table above."""

    QUEUED = 0
    ASSIGNED = 1
    ABORTING = 2
    DONE = 3
    UNCLEAR = 4
    WAITING = 5


QUEUED: Final = State.QUEUED
ASSIGNED: Final = State.ASSIGNED
ABORTING: Final = State.ABORTING
DONE: Final = State.DONE
UNCLEAR: Final = State.UNCLEAR
WAITING: Final = State.WAITING


Digest: TypeAlias = bytes
Error: TypeAlias = tuple[str, str]
"""Name and message of one of the kernel's errors."""


@dataclass(frozen=True, slots=True)
class TaskTerms:
    """What many tasks have in common; one object serves all of them.

    :ivar measured: durations of the tasks that do the same.
    :ivar retries: how often the task is run again when it fails.
    :ivar priority: larger runs earlier, under the priority scheduler.
    :ivar timeout: seconds a run may take, 0 for any time.
    :ivar weight: number of items in it; durations are measured per item.
    :ivar depend: digest of the function of an engine's properties that says whether the task may run there,
        b"" for none.
    :ivar functions: digests of the functions that an engine must have been sent.
    :ivar private: whether nobody but the client needs the results.
    :ivar packed: they as they came.
    :ivar targets: the ids of the engines that may run the task; None for any engine.
    :ivar by_properties: whether ``depend`` is what the user has named as targets, or that and more.
    :ivar aborted: whether its client aborted the task before sending it, so that it is not to be run.
    :ivar choosy: whether not just any engine may run it.
    """

    measured: Measured
    retries: int = 0
    priority: int = 0
    timeout: float = 0.0
    weight: int = 1
    depend: Digest = b""
    functions: tuple[Digest, ...] = ()
    private: bool = False
    packed: bytes = b""
    targets: frozenset[int] | None = None
    by_properties: bool = False
    aborted: bool = False
    choosy: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "choosy", bool(self.depend) or self.targets is not None)


Companion: TypeAlias = tuple[TaskTerms | Links, Bytes]
"""(options, payload) of a recovery task; or what the task waits for, and an empty payload."""

Submission: TypeAlias = tuple[int, TaskTerms, Bytes, Sequence[Companion]]
"""Task id, options, payload, and its companions."""


def split_companions(
    companions: Sequence[Companion],
) -> tuple[Links | None, list[tuple[TaskTerms, Bytes]]]:
    """What a task waits for, and its recovery tasks."""
    links: Links | None = None
    recovery: list[tuple[TaskTerms, Bytes]] = []
    for terms, payload in companions:
        if isinstance(terms, Links):
            links = terms
        else:
            recovery.append((terms, payload))
    return links, recovery


Constraint: TypeAlias = tuple[Digest, frozenset[int], frozenset[int] | None]
"""What keeps a task from some engines: its ``depend``, the engines that it rejected, and the only ones that it may run
on, if not all."""

FREE: Final[Constraint] = (b"", frozenset(), None)


@dataclass(slots=True)
class Trouble:
    """What went wrong with a task so far; only tasks with trouble, a recovery task, or a place to follow to have one.

    :ivar used: retries used up, by failures and by engines' deaths.
    :ivar killed: engines that died of it for certain.
    :ivar suspected: engines of whose deaths it is one of several suspects.
    :ivar rejected: engines that it rejected.
    :ivar recovery: (options, payload) of the tasks to run instead, in order, when the retries are used up.
    :ivar replaced: (options, payload) of those that it was before.
    :ivar verdict: what a task that is being stopped will end with.
    :ivar wanted_back: the attempt that is to end, unless its engine has begun it; 0 for none.
    :ivar told: its client had its result from an earlier controller, which had not written it down.
    :ivar told_failed: that was a failure.
    :ivar places: the engines that have run what it follows, once that is known; None if it follows nothing.
    :ivar notes: its story, for people.
    """

    used: int = 0
    killed: list[int] = field(default_factory=list)
    suspected: list[int] = field(default_factory=list)
    rejected: frozenset[int] = frozenset()
    recovery: list[tuple[TaskTerms, Bytes]] = field(default_factory=list)
    replaced: list[tuple[TaskTerms, Bytes]] = field(default_factory=list)
    verdict: Verdict | None = None
    wanted_back: int = 0
    told: bool = False
    told_failed: bool = False
    places: frozenset[int] | None = None
    notes: list[str] = field(default_factory=list)

    def forgive(self, engine: int | None) -> None:
        """Its rejection of an engine (None: of any) does not count any more."""
        self.rejected = frozenset() if engine is None else self.rejected - {engine}


class Parcel:
    """Tasks that were submitted together, and are together in the journal.

    :ivar number: the journal's.
    :ivar left: how many of them are not done.
    """

    __slots__ = ("left", "number")

    def __init__(self, number: int, left: int) -> None:
        self.number: int = number
        self.left: int = left


class TaskRecord:
    """One task.

    :ivar id: the number users see.
    :ivar client: the account of the client that submitted it.
    :ivar payload: opaque.
    :ivar submitted: when it came, in the machine's time.
    :ivar order: its place among its equals; smaller is earlier.
    :ivar attempt: the number of its last run (see ``taskwire``); with ``id`` it names that run for ever.
    :ivar worker: the engine it is assigned to.
    :ivar estimate: the seconds it is expected to take there.
    :ivar parcel: what it was submitted with; None where there is no journal.
    :ivar links: the tasks that it waits for, or has waited for; None for none.
    """

    __slots__ = (
        "attempt",
        "client",
        "estimate",
        "id",
        "links",
        "options",
        "order",
        "parcel",
        "payload",
        "state",
        "submitted",
        "trouble",
        "worker",
    )

    def __init__(
        self,
        task_id: int,
        client: Account,
        options: TaskTerms,
        payload: Bytes,
        submitted: float,
        parcel: Parcel | None = None,
    ) -> None:
        self.id: int = task_id
        self.client: Account = client
        self.options: TaskTerms = options
        self.payload: Bytes = payload
        self.submitted: float = submitted
        self.order: int = 0
        self.attempt: int = 0
        self.worker: WorkerRecord | None = None
        self.state: State = QUEUED
        self.estimate: float = 0.0
        self.trouble: Trouble | None = None
        self.parcel: Parcel | None = parcel
        self.links: Links | None = None

    def accompany(self, companions: Sequence[Companion]) -> None:
        """Take what came with it."""
        self.links, recovery = split_companions(companions)
        if recovery:
            self.in_trouble().recovery = recovery

    @property
    def key(self) -> tuple[int, int]:
        """What names its last run for ever."""
        return (self.id, self.attempt)

    @property
    def chain(self) -> list[tuple[TaskTerms, Bytes]]:
        """(options, payload) of what was submitted: the task, and its recovery tasks."""
        now = (self.options, self.payload)
        trouble = self.trouble
        return [now] if trouble is None else [*trouble.replaced, now, *trouble.recovery]

    @property
    def size(self) -> int:
        """Bytes of the payloads of what was submitted."""
        return sum(len(payload) for _, payload in self.chain)

    @property
    def constraint(self) -> Constraint:
        """What keeps it from some engines."""
        trouble = self.trouble
        options = self.options
        if trouble is None:
            return (options.depend, frozenset(), options.targets) if options.choosy else FREE
        only, places = options.targets, trouble.places
        if places is not None:
            only = places if only is None else only & places
        return (options.depend, trouble.rejected, only)

    @property
    def suspect(self) -> bool:
        """Whether engines have died of it, or may have."""
        trouble = self.trouble
        return trouble is not None and bool(trouble.killed or trouble.suspected)

    def in_trouble(self) -> Trouble:
        """What went wrong so far, to be added to."""
        if self.trouble is None:
            self.trouble = Trouble()
        return self.trouble

    def note(self, text: str) -> Trouble:
        """Add to its story."""
        trouble = self.in_trouble()
        if len(trouble.notes) < 100:
            trouble.notes.append(text)
        return trouble

    def story(self) -> str:
        """What happened to it, for people."""
        lines = [f"task {self.id} of client {self.client.name}, submitted at {self.submitted:.3f}"]
        if self.trouble is not None:
            lines += self.trouble.notes
        where = f" on engine {self.worker.id}" if self.worker is not None else ""
        lines.append(f"now {self.state.name}{where}, attempt {self.attempt}")
        return "; ".join(lines)

    # The view that a user's scheduler gets (``ipython1.kernel.task.IScheduledTask``).

    @property
    def taskid(self) -> int:
        """The number users see."""
        return self.id

    @property
    def priority(self) -> int:
        """Larger runs earlier, for schedulers that look at it."""
        return self.options.priority

    def check_depend(self, properties: WorkerRecord) -> bool:
        """Whether it may run on the worker whose ``properties`` these are, for all that is known."""
        return properties.may_run(self.constraint)

    def __repr__(self) -> str:
        return f"<{self.story()}>"


class WorkerRecord:
    """One engine.

    :ivar outstanding: the tasks it has, in the order in which it runs them.
    :ivar work: the seconds they are expected to take.
    :ivar running: (task id, attempt) that the engine itself reported to have begun.
    :ivar progress: when it was last seen to get on with its tasks.
    :ivar given: when it was last given a task while it had none.
    :ivar joined: when it came.
    :ivar properties_version: counts the changes of its properties.
    :ivar answers: what the dependency functions said of it, by digest, at that version.
    :ivar problems: what those of them raised that raised something, for people.
    :ivar asked: those that it has been asked about and has not answered.
    :ivar guarded: ids of tasks whose begin it reports before it begins them.
    :ivar arriving: ids of tasks that have ended there, whose results are on their way.
    :ivar retracting: ids that it has been asked to give back, and has not answered for.
    :ivar kept: ids that it has not given back when it was asked: it has begun them.
    :ivar timed: ids of tasks with a time limit.
    :ivar deadline: the run whose time is counted, and when it is up.
    :ivar custody: which rows of results it has sent, and which of them are safe.
    :ivar doomed: why it is being killed, or "".
    :ivar away: whether it is out of reach; it keeps its tasks, and nothing is sent to it.
    :ivar known: whether it is in the journal; before, it is given nothing, as nobody would ask it for that later.
    :ivar draining: whether it is to be given nothing more, and nothing that it has not begun is to stay there.
    :ivar stale: whether it may still run something of before it was given up once; its tasks wait for the end of that.
    """

    __slots__ = (
        "_ask",
        "answers",
        "arriving",
        "asked",
        "away",
        "custody",
        "deadline",
        "doomed",
        "draining",
        "given",
        "guarded",
        "id",
        "joined",
        "kept",
        "known",
        "outstanding",
        "problems",
        "progress",
        "properties_version",
        "retracting",
        "running",
        "stale",
        "timed",
        "work",
    )

    def __init__(
        self,
        engine_id: int,
        properties_version: int,
        now: float,
        ask: Callable[[WorkerRecord, Digest], None],
    ) -> None:
        self.id: int = engine_id
        self._ask = ask
        self.properties_version: int = properties_version
        self.outstanding: dict[int, TaskRecord] = {}
        self.work: float = 0.0
        self.running: tuple[int, int] | None = None
        self.progress: float = now
        self.given: float = now
        self.joined: float = now
        self.answers: dict[Digest, bool] = {}
        self.problems: dict[Digest, str] = {}
        self.asked: set[Digest] = set()
        self.guarded: set[int] = set()
        self.arriving: set[int] = set()
        self.retracting: set[int] = set()
        self.kept: set[int] = set()
        self.timed: set[int] = set()
        self.deadline: tuple[tuple[int, int], float] | None = None
        self.custody: Custody = Custody()
        self.doomed: str = ""
        self.away: bool = False
        self.known: bool = True
        self.draining: bool = False
        self.stale: bool = False

    @property
    def usable(self) -> bool:
        """Whether it may be given tasks."""
        return self.known and not self.doomed and not self.away and not self.draining

    def progressed(self, work: float, now: float) -> None:
        """Tasks that were expected to take ``work`` seconds have ended, and are not among the outstanding any more."""
        outstanding = self.outstanding
        self.work = self.work - work if outstanding else 0.0
        self.progress = now
        if self.guarded:
            self.guarded &= outstanding.keys()
        if self.arriving:
            self.arriving &= outstanding.keys()
        if self.kept:
            self.kept &= outstanding.keys()
        if self.timed:
            self.timed &= outstanding.keys()

    def first(self) -> TaskRecord | None:
        """The task that it runs now, or the next one it will."""
        return next(self._not_ended(), None)

    def waiting(self, with_first: bool = False) -> Iterator[TaskRecord]:
        """What it has not begun for all that is known, the last first.

        :param with_first: also what it may run now.
        """
        head = None if with_first else self.first()
        begun = self.arriving | self.kept
        return (
            record
            for record in reversed(self.outstanding.values())
            if record is not head and record.id not in begun
        )

    def _not_ended(self) -> Iterator[TaskRecord]:
        arriving = self.arriving
        return (record for record in self.outstanding.values() if record.id not in arriving)

    def verdict(self, constraint: Constraint) -> bool | None:
        """Whether a task with this constraint may run here; None when the engine must be asked."""
        depend, rejected, only = constraint
        if self.id in rejected or (only is not None and self.id not in only):
            return False
        if not depend:
            return True
        return self.answers.get(depend)

    def may_run(self, constraint: Constraint) -> bool:
        """Whether a task with this constraint is known to run here; asks the engine where it is not known."""
        verdict = self.verdict(constraint)
        if verdict is None:
            self._ask(self, constraint[0])
        return bool(verdict)

    # The view that a user's scheduler gets (``ipython1.kernel.task.IWorker``).

    @property
    def properties(self) -> WorkerRecord:
        """What a task's ``check_depend`` takes."""
        return self

    @property
    def workerid(self) -> int:
        """The engine's id."""
        return self.id

    @property
    def load(self) -> int:
        """How many tasks it has."""
        return len(self.outstanding)

    def __repr__(self) -> str:
        return f"<engine {self.id}: {len(self.outstanding)} tasks, {self.work:.4f} s>"
