"""A submitted command in the controller: what there is for each engine, until its client has all outcomes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ipython1.kernel.controller.command import Outcome
from ipython1.kernel.controller.commanddata import CommandData
from ipython1.kernel.wire.messages import SubmitMeta


class At(Enum):
    """Where an engine's outcome is."""

    NOWHERE = "the engine is not done"
    ENGINE = "at its engine, perhaps on its way through here"
    HERE = "here, in memory"
    JOURNAL = "in the journal"
    CLIENT = "its client has it, or nobody wants it"


@dataclass(slots=True, eq=False)
class Share:
    """One engine's share of a submission.

    ===========  ============================================================  ============================
    outcome      event                                                         becomes
    ===========  ============================================================  ============================
    ``NOWHERE``  it comes, and is small or an error                            ``HERE``
    ``NOWHERE``  it comes, and is large, or there is no room for it            ``ENGINE``
    ``ENGINE``   it is fetched: all of it is in the journal                    ``JOURNAL``
    ``ENGINE``   the engine is gone                                            ``HERE`` (an error)
    ``HERE``     it is safe in the journal                                     ``JOURNAL``
    any          the client has taken it, or is gone and nobody will ask       ``CLIENT``
    ===========  ============================================================  ============================

    :ivar engine: the ``QueuedEngine``; None if it was gone before.
    :ivar outcome: while it is here.
    :ivar told: whether it is on its way to the client.
    :ivar busy: whether it is on its way into the journal.
    """

    engine_id: int
    engine: Any = None
    at: At = At.NOWHERE
    outcome: Outcome | None = None
    told: bool = False
    busy: bool = False

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return 0 if self.outcome is None else len(self.outcome.payload)


@dataclass(slots=True, eq=False)
class Submission:
    """A command that a client has submitted.

    :ivar data: its arguments.
    :ivar shares: by engine.
    :ivar kept: whether it goes into the journal.
    :ivar safe: whether it is there.
    :ivar over: whether the journal knows that all engines are done.
    """

    number: int
    meta: SubmitMeta
    data: CommandData
    submitted: float
    kept: bool = False
    safe: bool = False
    over: bool = False
    shares: dict[int, Share] = field(default_factory=dict)

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids of its engines."""
        return tuple(self.shares)

    @property
    def is_done(self) -> bool:
        """Whether its client has all outcomes."""
        return all(share.at is At.CLIENT for share in self.shares.values())

    @property
    def is_over(self) -> bool:
        """Whether all engines are done, and nothing that is kept is elsewhere than in the journal."""
        return all(share.at in (At.CLIENT, At.JOURNAL) for share in self.shares.values())
