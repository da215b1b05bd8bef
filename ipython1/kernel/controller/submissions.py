"""Submitted commands in the controller: what there is for each engine, until its client has all outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from ipython1.kernel.basics.error import KernelError
from ipython1.kernel.controller.command import Outcome
from ipython1.kernel.controller.commanddata import CommandData
from ipython1.kernel.controller.commandqueue import Key
from ipython1.kernel.controller.journal.rows import PayloadFile
from ipython1.kernel.controller.queuedengine import QueuedEngine
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.bulkrelay import BulkRelay
from ipython1.kernel.wire.messages import SubmitMeta


class ClientFace(Protocol):
    """A client that is connected."""

    def accepted(self, number: int, ids: Sequence[int]) -> None:
        """A command is in the queues of these engines."""

    def stored(self, number: int) -> None:
        """A command is in the journal."""

    def resend(self, number: int) -> None:
        """The data of a command is needed again."""

    def refused(self, number: int, problem: KernelError) -> None:
        """A command was refused."""

    def outcome(self, number: int, outcome: Outcome, again: Callable[[], None]) -> None:
        """An engine is done.

        :param again: called when a large outcome came faster than it could be passed on, and is needed once more.
        """

    def output(self, number: int, engine_id: int, stream: str, text: bytes) -> None:
        """A command wrote something."""

    @property
    def has_room(self) -> bool:
        """Whether more may be sent now."""

    def when_room(self, call: Callable[[], None]) -> None:
        """Call ``call`` once when more may be sent."""


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

    :ivar engine: None if it was gone before.
    :ivar status: of the outcome, once it came.
    :ivar outcome: while it is here.
    :ivar relay: while it is on its way from the engine to the client.
    :ivar told: whether it is on its way to the client.
    :ivar busy: whether it is on its way into the journal.
    """

    engine_id: int
    engine: QueuedEngine | None = None
    at: At = At.NOWHERE
    status: int = messages.OK
    outcome: Outcome | None = None
    relay: BulkRelay | None = None
    told: bool = False
    busy: bool = False


@dataclass(slots=True, eq=False)
class Submission:
    """A command that a client has submitted.

    :ivar key: what names it for ever: the uuid of the client, and a number.
    :ivar targets: the ids of its engines.
    :ivar wanted: whether anybody will ask for its outcomes.
    :ivar kept: whether it goes into the journal.
    :ivar safe: whether it is there.
    :ivar file: its arguments in the journal, if they are large.
    :ivar sizes: the lengths of the buffers in that file, packed; empty if the file holds them joined.
    :ivar open: how many outcomes its client does not have.
    """

    key: Key
    meta: SubmitMeta
    data: CommandData
    submitted: float
    targets: tuple[int, ...] = ()
    wanted: bool = True
    kept: bool = False
    safe: bool = False
    file: PayloadFile | None = None
    sizes: bytes = b""
    open: int = 0
    shares: dict[int, Share] = field(default_factory=dict)

    @property
    def origin(self) -> bytes:
        """The uuid of its client."""
        return self.key[0]

    @property
    def number(self) -> int:
        """The number that its client gave it."""
        return self.key[1]

    @property
    def is_done(self) -> bool:
        """Whether its client has all outcomes."""
        return not self.open and bool(self.shares)

    @property
    def is_over(self) -> bool:
        """Whether all engines are done, and no outcome is elsewhere than in the journal or with the client."""
        return all(share.at in (At.CLIENT, At.JOURNAL) for share in self.shares.values())
