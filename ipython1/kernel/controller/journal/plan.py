"""What one commit writes, and what follows when it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from ipython1.kernel.controller.journal.rows import (
    ClientRow,
    CommandRow,
    EngineRow,
    OutcomeNote,
    OutcomeRow,
    ResultBatch,
    SubmissionRow,
)

CommandKey: TypeAlias = tuple[bytes, int]


class Gone(NamedTuple):
    """An engine or client that will not come back."""

    uuid: bytes


class Lease(NamedTuple):
    """Ids that a client may give from now on."""

    client: bytes
    start: int
    stop: int


class Function(NamedTuple):
    """A client may use a function; not any more, if there are no ``data``."""

    client: bytes
    digest: bytes
    data: bytes | None


PartyChange: TypeAlias = EngineRow | ClientRow | Gone | Lease | Function


@dataclass(slots=True)
class Plan:
    """What one commit writes.

    The kinds are independent of each other; in each, insertions come before deletions, which tell what they are for.

    :ivar ticket: of the last call that is in it.
    :ivar size: bytes, about.
    :ivar changes: of parties, in order.
    :ivar submissions: with their numbers.
    :ivar over: numbers of submissions.
    :ivar cleared: ranges of ids of tasks.
    :ivar commands: with their tickets.
    :ivar outcomes: with their tickets.
    :ivar taken: outcomes that clients have, with tickets.
    """

    ticket: int = 0
    size: int = 0
    changes: list[PartyChange] = field(default_factory=list)
    submissions: list[SubmissionRow] = field(default_factory=list)
    over: list[int] = field(default_factory=list)
    results: list[ResultBatch] = field(default_factory=list)
    cleared: list[tuple[int, int]] = field(default_factory=list)
    commands: list[tuple[int, CommandRow]] = field(default_factory=list)
    commands_over: list[CommandKey] = field(default_factory=list)
    outcomes: list[tuple[int, OutcomeRow]] = field(default_factory=list)
    taken: list[tuple[int, OutcomeNote]] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not any(
            (
                self.changes,
                self.submissions,
                self.over,
                self.results,
                self.cleared,
                self.commands,
                self.commands_over,
                self.outcomes,
                self.taken,
            )
        )


Due: TypeAlias = Callable[[int, float], bool]
"""Tells whether to drop what was completed at a time, when so many bytes are still too much."""


@dataclass(slots=True)
class Effects:
    """What follows when a commit is written.

    :ivar files: payload files to remove.
    :ivar dropped: ids of tasks whose results were dropped.
    :ivar then: changes of what is known in memory.
    """

    files: list[str] = field(default_factory=list)
    dropped: list[tuple[int, int]] = field(default_factory=list)
    then: list[Callable[[], None]] = field(default_factory=list)
