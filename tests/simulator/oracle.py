"""What must be true after every step of a history, and at its end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ipython1.kernel.engine.enginecommands import DID_NOT_RUN
from ipython1.kernel.engine.worker import Command
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.messages import Outcome
from ipython1.kernel.wire.tasklinks import FAILURE, FOLLOW, SUCCESS, Links
from ipython1.kernel.wire.taskwire import Status

if TYPE_CHECKING:
    from tests.simulator.parties import SimClient, SimEngine, Work
    from tests.simulator.world import World


MOST_DEATHS = 3
"""Engines that may die of a task before it is given to none."""


class Violation(AssertionError):
    """A promise was broken."""


@dataclass
class Run:
    """One run of a task or of a command.

    :ivar number: which one, in all of the history.
    :ivar excused: the engine died, or was given up by a controller, so that it may be done again.
    :ivar stopped: it was interrupted.
    :ivar failed: it raised, so that it may be tried again.
    """

    number: int
    engine: SimEngine
    key: tuple[object, ...]
    begun: float
    ended: float | None = None
    excused: bool = False
    stopped: bool = False
    failed: bool = False

    @property
    def going_on(self) -> bool:
        return self.ended is None and not self.stopped and not self.engine.process.dead


@dataclass
class TaskStory:
    """A task from its submission to its end."""

    task_id: int
    client: SimClient
    work: Work
    retries: int
    links: Links | None = None
    acknowledged: bool = False
    aborted: bool = False
    runs: list[Run] = field(default_factory=list)
    result: tuple[Status, bytes] | None = None

    @property
    def ran_well(self) -> bool:
        """Whether a run of it has succeeded."""
        return any(run.ended is not None and not run.failed for run in self.runs)

    @property
    def others(self) -> Iterator[tuple[int, int]]:
        """Flags and id of each task that it waits for."""
        for tie in self.links.ties if self.links is not None else ():
            for start, stop in tie.ranges:
                for task_id in range(start, stop):
                    yield tie.flags, task_id


@dataclass
class CommandStory:
    """A command from its submission to its end.

    :ivar keep: whether it goes on without its client once it is acknowledged.
    :ivar targets: once it is acknowledged.
    :ivar refused: why, as its client was told.
    :ivar was_refused: whether a controller has refused it, perhaps unheard.
    """

    client: SimClient
    work: Work
    keep: bool
    targets: tuple[int, ...] = ()
    refused: Exception | None = None
    was_refused: bool = False
    runs: list[Run] = field(default_factory=list)
    outcomes: dict[int, Outcome] = field(default_factory=dict)


class Observer:
    """Sees what becomes of a command, as a client's ``PendingResult`` does."""

    def __init__(self, oracle: Oracle, story: CommandStory) -> None:
        self._oracle = oracle
        self._story = story

    def accepted(self, ids: Sequence[int]) -> None:
        if self._story.targets and tuple(ids) != self._story.targets:
            raise Violation(f"{self._story.work} was accepted twice, for other engines")
        self._story.targets = tuple(ids)

    def outcome_begins(self, engine_id: int, incoming: object) -> None:
        """It is received as any other."""

    def outcome(self, outcome: Outcome) -> None:
        self._oracle.command_outcome(self._story, outcome)

    def output(self, engine_id: int, stream: str, text: str) -> None:
        pass

    def failed(self, problem: Exception) -> None:
        self._story.refused = problem


class Oracle:
    """Sees everything."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._runs: list[Run] = []
        self.tasks: dict[int, TaskStory] = {}
        self.commands: dict[int, CommandStory] = {}
        self._by_origin: dict[tuple[bytes, int], CommandStory] = {}
        self._last_on: dict[tuple[str, bytes], int] = defaultdict(int)
        self._losses = 0
        self._given_up: set[str] = set()
        self._told: set[int] = set()

    def say(self, text: str) -> None:
        self._world.say(text)

    def broken(self, text: str) -> None:
        """Remember that a promise was broken; the history ends after this step."""
        self._world.say(f"BROKEN: {text}")
        if self._world.broken is None:
            self._world.broken = Violation(text)

    def _run(self, engine: SimEngine, key: tuple[object, ...]) -> Run:
        run = Run(len(self._runs), engine, key, self._world.clock.now)
        run.excused = engine.uuid in self._given_up
        self._runs.append(run)
        engine.process.on_death.append(lambda: self._excuse(run))
        return run

    @staticmethod
    def _excuse(run: Run) -> None:
        run.excused = True

    def engine_given_up(self, uuid: str) -> None:
        """The controller declares an engine lost: what it has, and begins before it hears of it, may run again."""
        self._losses += 1
        self._given_up.add(uuid)
        for run in self._runs:
            if run.engine.uuid == uuid:
                run.excused = True

    def engine_registered(self, uuid: str) -> None:
        """An engine hears what the controller makes of it."""
        self._given_up.discard(uuid)

    # -- tasks

    def submitted(
        self, client: SimClient, task_id: int, work: Work, retries: int, links: Links | None = None
    ) -> None:
        self.tasks[task_id] = TaskStory(task_id, client, work, retries, links)

    def acknowledged(self, task_ids: Sequence[int]) -> None:
        for task_id in task_ids:
            self.tasks[task_id].acknowledged = True

    def controller_started(self) -> None:
        """A new one knows nothing yet of what clients have."""
        self._told.clear()

    def resynchronised(self, origin: bytes) -> None:
        """A client has said which results it has."""
        for task_id, story in self.tasks.items():
            if story.result is not None and story.client.tasks_end.origin == origin:
                self._told.add(task_id)

    def task_assigned(self, task_id: int) -> None:
        """The controller gives a task to an engine."""
        if task_id in self._told:
            self.broken(f"task {task_id} is given to an engine, and its client has its result")

    def task_begun(self, engine: SimEngine, task_id: int, attempt: int, work: Work) -> Run:
        run = self._run(engine, (task_id, attempt))
        self.say(f"{engine.name} begins task {task_id}, attempt {attempt:#x}: run {run.number}")
        story = self.tasks.get(task_id)
        if story is None or story.work.number != work.number:
            self.broken(f"task {task_id} runs and nobody submitted it")
            return run
        for other in story.runs:
            if other.key == run.key:
                self.broken(f"attempt {attempt:#x} of task {task_id} runs a second time")
            elif other.going_on and not other.excused:
                self.broken(
                    f"task {task_id} runs on {engine.name} while it runs on {other.engine.name}"
                )
            elif other.stopped and story.aborted and not other.excused:
                self.broken(f"task {task_id} was aborted in run {other.number}, and runs again")
            elif not (other.excused or other.stopped or other.failed):
                self.broken(
                    f"task {task_id} runs again on {engine.name}: run {other.number} on "
                    f"{other.engine.name} was not lost"
                )
        if not story.runs:
            self._check_others(story, engine)
        story.runs.append(run)
        return run

    def _check_others(self, story: TaskStory, engine: SimEngine) -> None:
        """A task begins: those that it waits for must have ended as it wants, and have run where it does."""
        name = f"task {story.task_id} begins"
        followed = [self.tasks[each] for flags, each in story.others if flags & FOLLOW]
        if followed and not any(run.engine is engine for one in followed for run in one.runs):
            self.broken(f"{name} on {engine.name}, where none of the tasks ran that it follows")
        for flags, task_id in story.others:
            other = self.tasks[task_id]
            if any(run.going_on and not run.excused for run in other.runs):
                self.broken(f"{name} while task {task_id} is running, which it waits for")
            if not flags & FAILURE and not other.ran_well:
                self.broken(f"{name}, and task {task_id} has not succeeded, which it waits for")
            wanted = {True: SUCCESS, False: FAILURE, None: flags}[self._world.outcome(task_id)]
            if not flags & wanted:
                self.broken(f"{name}, and task {task_id} has not ended as it wants")

    def task_ended(self, run: Run, failed: bool) -> None:
        run.ended = self._world.clock.now
        run.failed = failed
        self.say(f"{run.engine.name} has run task {run.key[0]}: run {run.number}")

    def task_result(self, client: SimClient, task_id: int, status: Status, data: bytes) -> None:
        from tests.simulator.parties import Came

        story = self.tasks.get(task_id)
        self.say(f"{client.name} gets the result of task {task_id}: {status.name}")
        if story is None:
            self.broken(f"a result of task {task_id}, which nobody submitted")
            return
        if story.client is not client:
            return
        if story.result is not None:
            if story.result != (status, data):
                self.broken(f"task {task_id} has another result than before")
            return
        story.result = (status, data)
        if status is Status.OK:
            came = Came.unpack(data)
            runs = {run.number: run for run in story.runs}
            if came.number != story.work.number or came.run not in runs:
                self.broken(f"task {task_id} has the result of something else")
            elif came.run != story.runs[-1].number and story.runs[-1].going_on:
                self.broken(f"task {task_id} has the result of run {came.run}, not of its last")

    # -- commands

    def observer(self, client: SimClient, work: Work, keep: bool) -> Observer:
        story = self.commands[work.number] = CommandStory(client, work, keep)
        return Observer(self, story)

    def command_sent(self, origin: bytes, number: int, work: Work) -> None:
        self._by_origin[origin, number] = self.commands[work.number]

    def command_refused(self, origin: bytes, number: int) -> None:
        """A controller refuses a command; the next one knows nothing of that, and lets it run where it still can."""
        self._by_origin[origin, number].was_refused = True

    def command_begun(self, engine: SimEngine, command: Command, work: Work) -> Run:
        run = self._run(engine, command.key)
        self.say(f"{engine.name} begins command {command.number} ({work.number})")
        story = self.commands.get(work.number)
        if story is None:
            self.broken(f"command {work.number} runs and nobody sent it")
            return run
        if any(other.engine is engine for other in story.runs):
            self.broken(f"command {work.number} runs on {engine.name} a second time")
        last = self._last_on[engine.uuid, command.origin]
        if command.number <= last:
            self.broken(
                f"command {command.number} of a client runs on {engine.name} after its command {last}"
            )
        self._last_on[engine.uuid, command.origin] = command.number
        story.runs.append(run)
        return run

    def command_ended(self, run: Run) -> None:
        run.ended = self._world.clock.now

    def command_outcome(self, story: CommandStory, outcome: Outcome) -> None:
        from tests.simulator.parties import Came

        engine = outcome.engine_id
        name = f"command {story.work.number} on engine {engine}"
        self.say(
            f"{story.client.name} gets the outcome of {name}: {outcome.status} {outcome.error}"
        )
        if engine in story.outcomes:
            self.broken(f"{name} has a second outcome")
        story.outcomes[engine] = outcome
        runs = [run for run in story.runs if run.engine.id == engine]
        if outcome.status == messages.OK and outcome.error is None:
            came = Came.unpack(outcome.buffers[0])
            if came.number != story.work.number or came.run not in {run.number for run in runs}:
                self.broken(f"{name} has the outcome of something else")
        elif runs and (type(outcome.error).__name__ == "NotStarted" or _did_not_run(outcome)):
            self.broken(f"{name} ran, and its client is told that it did not begin")

    # -- the end

    def open(self) -> list[str]:
        """What a living client still waits for, and what was acknowledged to a dead one and is not done."""
        waiting = []
        for task_id, task in self.tasks.items():
            if not task.client.process.dead:
                if task.result is None:
                    waiting.append(f"task {task_id} of {task.client.name}")
            elif task.acknowledged and not self._world.is_done(task_id):
                waiting.append(f"task {task_id} of {task.client.name}, which is dead")
        for number, command in self.commands.items():
            if command.client.process.dead:
                if command.keep and (left := self._not_run(command)):
                    waiting.append(
                        f"command {number} of {command.client.name}, which is dead, on {left}"
                    )
            elif command.refused is None:
                left = set(command.targets) - command.outcomes.keys()
                if left or not command.targets:
                    waiting.append(f"command {number} of {command.client.name} on {sorted(left)}")
        return waiting

    def _not_run(self, command: CommandStory) -> list[int]:
        """The engines on which a command has not run, and which were never lost."""
        ran = {run.engine.id for run in command.runs}
        return [
            each for each in command.targets if each not in ran and not self._world.was_lost(each)
        ]

    def check_end(self) -> None:
        """Nothing is lost, and what failed had a reason."""
        for name in self.open():
            self.broken(f"lost: {name}")
        for task in self.tasks.values():
            if task.result is None:
                continue
            status, data = task.result
            if status is Status.OK and task.work.end == "returns":
                continue
            if task.aborted and status is Status.REFUSED and b'"TaskAborted"' in data:
                continue
            if status is Status.REFUSED and b'"DependencyFailed"' in data:
                self._check_not_run(task)
                continue
            # One that raised may have been tried again on the same engine, which then died.
            spent = sum(run.excused + run.failed for run in task.runs)
            # It may also have been on its way to engines that were dead already.
            spent += max(0, self._losses - sum(run.excused for run in task.runs))
            quarantined = b"is quarantined" in data and self._losses >= MOST_DEATHS
            if spent > task.retries or quarantined:
                continue
            self.broken(
                f"task {task.task_id} ended with {status.name} {data[:200]!r} without reason"
            )
        for number, command in self.commands.items():
            if command.refused is not None:
                self.say(f"command {number} was refused: {command.refused}")
            for engine, outcome in command.outcomes.items():
                self._check_outcome(number, command, engine, outcome)

    def _check_not_run(self, task: TaskStory) -> None:
        """A task was not run because of others: one did not end as it wants, never came, or its engine is gone."""
        for flags, task_id in task.others:
            other = self.tasks[task_id]
            if other.result is not None and not other.client.process.dead:
                ended = SUCCESS if other.result[0] is Status.OK else FAILURE
            else:
                # Its client is dead.  Perhaps it never came, or came out as only the client and a dead engine knew.
                outcome = self._world.outcome(task_id)
                ended = 0 if outcome is None else SUCCESS if outcome else FAILURE
            if not flags & ended or other.aborted:
                return  # the abort may be lost with a controller and a client
            if flags & FOLLOW and self._nobody_knows_where(other):
                return
        self.broken(f"task {task.task_id} was not run without reason: {task.result!r:.300}")

    def _nobody_knows_where(self, task: TaskStory) -> bool:
        """Whether the engines that ran a task are gone, or only an earlier controller knew which these are."""
        if task.task_id not in self._world.disk.results:
            return True
        return all(
            run.engine.process.dead
            or run.excused
            or run.stopped
            or self._world.was_lost(run.engine.id)
            for run in task.runs
        )

    def _check_outcome(
        self, number: int, command: CommandStory, engine: int, outcome: Outcome
    ) -> None:
        ends = command.work.end
        if outcome.error is None:
            expected = messages.OK if ends == "returns" else messages.FAILED
            if outcome.status != expected:
                self.broken(f"command {number} on engine {engine} ended with {outcome.status}")
        elif not self._world.was_lost(engine) and not (
            command.was_refused and _did_not_run(outcome)
        ):
            self.broken(
                f"command {number} failed though engine {engine} was never lost: {outcome.error}"
            )


def _did_not_run(outcome: Outcome) -> bool:
    """Whether an engine says that later commands came before this one, which it has never had."""
    return DID_NOT_RUN in str(outcome.error)
