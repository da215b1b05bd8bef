"""The commands of all clients in the controller."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Final, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.controller.callhistory import CallHistory
from ipython1.kernel.controller.clientcommands import ClientCommands, Multiplexer
from ipython1.kernel.controller.command import Outcome
from ipython1.kernel.controller.commandkeeper import CommandKeeper
from ipython1.kernel.controller.commandqueue import Key
from ipython1.kernel.controller.commandstore import CommandHead
from ipython1.kernel.controller.journal.interface import Journal, NoJournal
from ipython1.kernel.controller.journal.rows import OutcomeNote, Recovered
from ipython1.kernel.controller.queuedengine import QueuedEngine
from ipython1.kernel.wire import messages

log: Logger = Logger()

NO_ROLE: Final = ""
"""The role of interfaces whose commands are not kept in the journal."""


class Owner(Multiplexer, Protocol):
    """An interface that queues commands of its clients."""

    @property
    def own_role(self) -> str:
        """The role of the clients whose commands it can queue again after the controller's restart; else empty."""


class CommandBook:
    """The commands of all clients; tells the queues of engines what may be sent.

    :param engines: those of the controller, by id.
    :param is_living: whether a client (by its uuid) is connected, or may come back.
    """

    def __init__(
        self,
        journal: Journal,
        clock: IReactorTime,
        engines: Mapping[int, QueuedEngine],
        is_living: Callable[[bytes], bool],
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._engines = engines
        self._is_living = is_living
        self._keepers: dict[str, CommandKeeper] = {}
        self._owners: dict[str, Owner] = {}
        self._clients: dict[bytes, ClientCommands] = {}
        self._before: dict[bytes, int] = {}

    # -- rules for the queues of engines

    def may_go(self, key: Key) -> bool:
        client = self._clients.get(key[0])
        return client is None or client.may_go(key[1])

    def may_claim(self, key: Key) -> bool:
        client = self._clients.get(key[0])
        return key[0] in self._before if client is None else client.may_claim(key[1])

    # -- what was

    def history(self, label_of: Callable[[bytes], str]) -> CallHistory:
        """Answers questions about what was; ``label_of`` tells who a client is."""
        return CallHistory(self._journal, label_of)

    def fetch_outcome(
        self, origin: bytes, number: int, engine_id: int, call: Callable[[Outcome | None], None]
    ) -> None:
        """See :meth:`CommandKeeper.fetch_outcome`."""
        self._keeper(messages.MULTIENGINE).fetch_outcome(origin, number, engine_id, call)

    # -- clients

    def owner_came(self, owner: Owner) -> None:
        """An interface is there."""
        if owner.own_role:
            self._owners[owner.own_role] = owner

    def client(self, origin: bytes, role: str, owner: Owner) -> ClientCommands:
        """The commands of a client that has registered with this role."""
        client = self._clients.get(origin)
        if client is None:
            keeper = self._keeper(role if role == owner.own_role else NO_ROLE)
            before = self._before.pop(origin, None)
            client = self._clients[origin] = ClientCommands(
                origin, owner, keeper, time.time, before is None, before or 0
            )
        return client

    def find(self, origin: bytes) -> ClientCommands | None:
        """The commands of a client, if there are any."""
        return self._clients.get(origin)

    def _keeper(self, role: str) -> CommandKeeper:
        keeper = self._keepers.get(role)
        if keeper is None:
            journal = self._journal if role else NoJournal()
            keeper = self._keepers[role] = CommandKeeper(journal, role, self._clock, time.time)
        return keeper

    def client_gone(self, origin: bytes) -> None:
        """A client will not come back."""
        client = self._clients.get(origin)
        if self._before.pop(origin, None) is not None and client is None:
            self.forget_strangers(origin, ())
        if client is not None:
            client.gone()
        for other in [each for each in self._clients.values() if each.is_gone and each.is_empty]:
            del self._clients[other.origin]

    # -- engines

    def engine_changed(self, engine: QueuedEngine) -> None:
        """An engine is back, or gone."""
        for client in list(self._clients.values()):
            client.engine_changed(engine)

    def go_on(self) -> None:
        """Have all engines look whether they can go on."""
        for engine in list(self._engines.values()):
            engine.commands.go_on()

    def forget_strangers(self, origin: bytes, but: Collection[int]) -> None:
        """A client will not name any commands that only engines know, but these."""
        for engine in list(self._engines.values()):
            engine.commands.forget_strangers(lambda key: key[0] == origin and key[1] not in but)

    # -- after the controller's restart

    def recover(self, recovered: Recovered) -> None:
        """Take over what was in the journal; clients and engines are expected already."""
        self._before = {row.uuid: row.last_command for row in recovered.clients}
        outcomes: dict[Key, list[OutcomeNote]] = {}
        for note in recovered.outcomes:
            outcomes.setdefault((note.origin, note.number), []).append(note)
        for row in recovered.commands:
            try:
                head = CommandHead.of(row)
            except ProtocolError as problem:
                log.error("a command in the journal cannot be read: {problem}", problem=problem)
                continue
            owner = self._owners.get(head.role)
            if owner is None:
                log.warn("no interface takes the commands of {role}", role=head.role)
                continue
            client = self.client(row.origin, head.role, owner)
            client.recover(row, head, outcomes.get((row.origin, row.number), []))
        for origin in list(self._clients):
            if not self._is_living(origin):
                self.client_gone(origin)
