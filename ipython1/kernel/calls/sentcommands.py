"""The commands of a client that are under way; pure state, no I/O."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from ipython1.kernel.basics.error import OutOfMemory
from ipython1.kernel.wire.bulk import Incoming
from ipython1.kernel.wire.messages import MOST_TARGETS, Outcome, SubmitMeta, runs_of
from ipython1.kernel.wire.payload import Buffers


class CommandObserver(Protocol):
    """Observes one command; all methods are called in the reactor's thread."""

    def accepted(self, ids: Sequence[int]) -> None:
        """The command is in the queues of these engines."""

    def outcome_begins(self, engine_id: int, incoming: Incoming) -> None:
        """An engine is done, and its large outcome begins to come."""

    def outcome(self, outcome: Outcome) -> None:
        """An engine is done."""

    def output(self, engine_id: int, stream: str, text: str) -> None:
        """The running command wrote something."""

    def failed(self, problem: Exception) -> None:
        """The command was refused or the connection was lost; no other method is called afterwards."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question to the controller that was not answered yet."""

    name: str
    args: dict[str, Any]
    answer: Deferred[Any]


@dataclass(slots=True)
class SentCommand:
    """A command, and its outcomes so far.

    :ivar buffers: its data; None once the controller has stored it.
    :ivar was_sent: whether the controller may have it.
    :ivar ids: the engines that it runs on, once known; see :meth:`runs_on`.
    :ivar outcomes: by engine; None while a large outcome is being received.
    :ivar missing: the engines whose outcomes are not here, once known.
    """

    number: int
    meta: SubmitMeta
    buffers: Buffers | None
    observer: CommandObserver
    was_sent: bool = False
    ids: tuple[int, ...] | None = None
    outcomes: dict[int, Outcome | None] = field(default_factory=dict)
    missing: set[int] | None = None

    def runs_on(self, ids: tuple[int, ...]) -> None:
        """It runs on these engines."""
        self.ids = ids
        self.missing = set(ids).difference(self.received) if self.outcomes else set(ids)

    @property
    def received(self) -> list[int]:
        """The engines whose outcomes are here."""
        return [engine_id for engine_id, outcome in self.outcomes.items() if outcome is not None]

    @property
    def meta_again(self) -> SubmitMeta:
        """The meta part to submit it with once more: for the same engines as before, if these are known."""
        same = self.ids is None or self.ids == self.meta.targets
        return self.meta if same else self.meta.to(self.ids or ())


class Arrived:
    """The outcomes that are here, and of which the controller has not heard that."""

    def __init__(self) -> None:
        self._numbers: dict[int, list[int]] = {}

    def __bool__(self) -> bool:
        return bool(self._numbers)

    def add(self, number: int, engine_id: int) -> None:
        """An engine's outcome of a command is here."""
        self._numbers.setdefault(engine_id, []).append(number)

    def clear(self) -> None:
        """The controller hears of them in another way."""
        self._numbers.clear()

    def take(self) -> Iterator[tuple[list[int], int, int]]:
        """Engines, and first number and count of a run of commands of which their outcomes are here; all are
        forgotten."""
        numbers, self._numbers = self._numbers, {}
        engines: dict[tuple[int, int], list[int]] = {}
        for engine_id, some in numbers.items():
            for run in runs_of(some):
                engines.setdefault(run, []).append(engine_id)
        for (first, count), ids in engines.items():
            for start in range(0, len(ids), MOST_TARGETS):
                yield ids[start : start + MOST_TARGETS], first, count


class SentCommands:
    """The commands that are not done.

    ==========  ================================================  ================================================
    a command   event                                             becomes
    ==========  ================================================  ================================================
    (new)       :meth:`add`                                       kept, with its data
    kept        :meth:`stored`                                    stored: the controller has the data
    any         :meth:`accepted`                                  (its engines are known)
    any         :meth:`arriving`, then :meth:`arrived` or         (an outcome is being received, and is here or
                :meth:`did_not_arrive`                            will come again)
    any         the last :meth:`arrived`; :meth:`take_out`        done
    ==========  ================================================  ================================================

    After a link was lost, :meth:`to_resync` says what the controller is told of the commands that it may have, and
    :meth:`unsent` gives those that it cannot have.
    """

    def __init__(self) -> None:
        self._commands: dict[int, SentCommand] = {}

    def __len__(self) -> int:
        return len(self._commands)

    def add(self, command: SentCommand) -> None:
        """A new command."""
        self._commands[command.number] = command

    def get(self, number: int) -> SentCommand | None:
        """The command of this number, unless it is done."""
        return self._commands.get(number)

    def accepted(self, number: int, ids: tuple[int, ...]) -> SentCommand | None:
        """The controller has a command in the queues of these engines; None if that was known.

        An engine that ended it for an earlier controller, and is not among them, is one of its engines, too.  Their
        order is that in which the caller named them.
        """
        command = self._commands.get(number)
        if command is None or command.ids is not None:
            return None
        named = command.meta.targets
        if ids != named and (named is not None or command.outcomes):
            engines = {*ids, *command.received}
            order = sorted(engines) if named is None else named
            ids = tuple(each for each in order if each in engines)
        command.runs_on(ids)
        return command

    def stored(self, number: int) -> None:
        """The controller will still have the command after its own death."""
        command = self._commands.get(number)
        if command is not None:
            command.buffers = None

    def arriving(self, number: int, engine_id: int) -> bool:
        """A large outcome begins to come; False if it is here, or comes already, or nobody waits for it."""
        command = self._commands.get(number)
        if command is None or engine_id in command.outcomes:
            return False
        command.outcomes[engine_id] = None
        return True

    def did_not_arrive(self, number: int, engine_id: int) -> None:
        """The rest of a large outcome will not come; all of it will come again."""
        command = self._commands.get(number)
        if command is not None and command.outcomes.get(engine_id, self) is None:
            del command.outcomes[engine_id]

    def arrived(self, number: int, outcome: Outcome) -> SentCommand | None:
        """An outcome is here; None if it was here before, or is not that of one of the command's engines."""
        command = self._commands.get(number)
        if command is None or command.outcomes.get(outcome.engine_id) is not None:
            return None
        if command.missing is not None:
            if outcome.engine_id not in command.missing:
                return None
            command.missing.remove(outcome.engine_id)
        command.outcomes[outcome.engine_id] = outcome
        return command

    def finish_if_complete(self, command: SentCommand) -> None:
        """Forget a command if all its outcomes are here."""
        if command.missing is not None and not command.missing:
            self._commands.pop(command.number, None)

    def take_out(self, number: int) -> SentCommand | None:
        """Forget a command; None if there is none."""
        return self._commands.pop(number, None)

    def take_all(self) -> list[SentCommand]:
        """Forget all commands."""
        commands, self._commands = list(self._commands.values()), {}
        return commands

    def to_resync(self) -> list[tuple[int, tuple[int, ...], bool]]:
        """Of each command that the controller may have: its number, the engines whose outcomes are here, and whether
        its data is."""
        return [
            (command.number, tuple(command.received), command.buffers is not None)
            for command in self._commands.values()
            if command.was_sent
        ]

    def unsent(self) -> list[SentCommand]:
        """The commands that the controller cannot have, in order."""
        return [command for command in self._commands.values() if not command.was_sent]


def no_memory(engine_id: int | None, reason: str) -> OutOfMemory:
    """Return the error for an answer that arrived, and for which there is no memory here."""
    what = "the answer" if engine_id is None else f"the result of engine {engine_id}"
    return OutOfMemory(
        f"this client (process {os.getpid()}) could not receive {what}: {reason}; fetch it in parts"
    )
