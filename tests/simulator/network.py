"""Simulated links: they are slow, and can be cut at every frame; what is under way is lost, or arrives in part."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Protocol

from ipython1.kernel.basics.error import ConnectionError, KernelError
from ipython1.kernel.wire import frames, messages, taskwire
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.link import FrameLink, FrameReceiver
from tests.simulator.process import SimProcess


class Session(FrameReceiver, Protocol):
    """What a gate of the controller opens for a party."""

    def attach(self, link: FrameLink) -> messages.Welcome: ...

    def opened(self) -> None: ...


Accept = Callable[[messages.Hello], Session]


_NO_KINDS = ("BULK", "GUARDED", "HEADER_SIZE", "PROTOCOL_VERSION", "DIGEST_SIZE")
_NAMES = {
    value: name
    for module in (frames, taskwire)
    for name, value in vars(module).items()
    if isinstance(value, int) and name.isupper()
    if value <= taskwire.SAFE and name not in _NO_KINDS
}
"""Of kinds of frames, for people."""

CAPACITY = 100_000
"""Bytes under way in one direction; beyond this the sender has no room until all have arrived."""


class _Direction:
    """What is under way from one end of a connection to the other."""

    def __init__(self, process: SimProcess, latency: float, name: str) -> None:
        self.name = name
        self.trace: Callable[[str], None] | None = None
        self._process = process
        self._latency = latency
        self._last = 0.0
        self._size = 0
        self._when_room: list[Callable[[], None]] = []
        self.has_room = True
        self.receiver: FrameLink | None = None
        self.under_way: list[bytes] = []
        self.cut = False
        self._early: list[bytes] | None = None

    def send(self, batch: bytes) -> None:
        if self.cut:
            return
        self.under_way.append(batch)
        self._later(self._arrive)
        self._size += len(batch)
        if self._size > CAPACITY:
            self.has_room = False

    def when_room(self, call: Callable[[], None]) -> None:
        if self.has_room:
            call()
        else:
            self._when_room.append(call)

    def _later(self, call: Callable[[], None]) -> None:
        """In the order of sending, whatever the latency."""
        now = self._process.seconds()
        self._last = max(self._last, now + self._latency)
        self._process.callLater(self._last - now, call)

    def _arrive(self) -> None:
        if not self.under_way or self.cut:
            return
        batch = self.under_way.pop(0)
        self._size -= len(batch)
        if not self._size and not self.has_room:
            self.has_room = True
            waiting, self._when_room = self._when_room, []
            for call in waiting:
                call()
        self._deliver(batch)

    def close_door(self) -> None:
        """Have what arrives wait for :meth:`open_door`."""
        self._early = []

    def open_door(self) -> None:
        """The receiver is ready; what waits arrives in the next turn."""
        self._process.callLater(0, self._open)

    def _open(self) -> None:
        early, self._early = self._early or [], None
        for batch in early:
            self._deliver(batch)

    def _deliver(self, batch: bytes) -> None:
        assert self.receiver is not None
        if self._early is not None:
            self._early.append(batch)
            return
        if self.trace is not None:
            for frame in frames_of(batch):
                frames.dispatch(frame, self._say)
        self.receiver.deliver(batch)

    def _say(self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        assert self.trace is not None
        name = _NAMES.get(kind, kind)
        self.trace(f"{self.name}: {name} {ident} {bytes(meta)[:40].hex()} {len(payload)} B")

    def break_(self, chance: Random, after: float, reason: str) -> None:
        """Lose what is under way, but for what arrives before the receiver notices; any frame may be the last."""
        if self.cut:
            return
        self.cut = True
        self._when_room.clear()
        whole = frames_of(b"".join(self.under_way))
        self.under_way.clear()
        arriving = whole[: chance.randint(0, len(whole))] if chance.random() < 0.5 else []
        if chance.random() < 0.25:
            arriving = whole

        def end() -> None:
            assert self.receiver is not None
            if arriving:
                self._deliver(b"".join(arriving))
            self.receiver.connection_lost(reason)

        self._process.callLater(after, end)


def frames_of(data: bytes) -> list[bytes]:
    """The frames of a batch, each as a batch of its own."""
    found: list[bytes] = []
    frames.dispatch(
        data,
        lambda kind, flags, ident, meta, payload: found.append(
            frames.pack_frame(kind, ident, meta, payload, flags)
        ),
    )
    return found


class _Transport:
    """One end of a connection, as its ``FrameLink`` sees it."""

    def __init__(self, connection: Connection, sender: SimProcess, out: _Direction) -> None:
        self._connection = connection
        self._sender = sender
        self._out = out

    @property
    def has_room(self) -> bool:
        return self._out.has_room

    def when_room(self, call: Callable[[], None]) -> None:
        self._out.when_room(call)

    def send_batch(self, parts: list[Buffer]) -> None:
        if not self._sender.dead:
            self._out.send(b"".join(parts))

    def abort(self) -> None:
        self._connection.close()

    def close(self) -> None:
        self._connection.close()


class Connection:
    """A connection of a party with the controller.

    :ivar party: the process of the engine or client.
    :ivar controller: that of the controller.
    """

    def __init__(
        self, chance: Random, party: SimProcess, controller: SimProcess, latency: float
    ) -> None:
        self._chance = chance
        self.party, self.controller = party, controller
        self._to_party = _Direction(party, latency, f"to {party.name}")
        self._to_controller = _Direction(controller, latency, f"from {party.name}")
        self.closed = False
        self.welcomed = False
        # What comes before the answer to the greeting waits for that, as it does in a FoolscapLink.
        self._to_party.close_door()

    def wire(
        self,
        party_link: FrameLink,
        controller_link: FrameLink,
        trace: Callable[[str], None] | None,
    ) -> None:
        """The ends are there."""
        self._to_party.trace = self._to_controller.trace = trace
        self._to_party.receiver = party_link
        self._to_controller.receiver = controller_link

    def connect_controller(self, link: FrameLink) -> None:
        link.connected(_Transport(self, self.controller, self._to_party))

    def connect_party(self, link: FrameLink) -> None:
        self.welcomed = True
        link.connected(_Transport(self, self.party, self._to_controller))
        self._to_party.open_door()

    def close(self) -> None:
        """One end closes it, or its process is dead: the other one notices soon."""
        self._break(0.0, "the connection was closed")

    def cut(self, slowest: float) -> None:
        """The network breaks: each end notices in its own time, ``slowest`` seconds at most."""
        self._break(slowest, "the connection was lost")

    def _break(self, slowest: float, reason: str) -> None:
        if self.closed:
            return
        self.closed = True
        if not self.welcomed:
            # Its welcome is lost as well, and nothing that comes after it arrives.
            self._to_party.under_way.clear()
        for direction in (self._to_party, self._to_controller):
            if direction.receiver is not None:
                after = self._chance.choice((0.0, 0.0, 1.0)) * slowest
                direction.break_(self._chance, after, reason)


class Network:
    """Leads parties to the controller that runs, if one does.

    :ivar connections: those that are open.
    :ivar trace: is told of every frame that arrives.
    :ivar unreachable: processes from whose hosts there is no way to the controller.
    """

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._gates: dict[str, Accept] = {}
        self._controller: SimProcess | None = None
        self.connections: list[Connection] = []
        self.latencies: tuple[float, ...] = (0.0,)
        self.unreachable: set[SimProcess] = set()
        self.trace: Callable[[str], None] | None = None

    def listen(self, controller: SimProcess, gates: dict[str, Accept]) -> None:
        """A controller is ready; ``gates`` by role."""
        self._controller, self._gates = controller, gates

    def close_listener(self) -> None:
        self._controller = None

    def cut_all(self, party: SimProcess, slowest: float = 0.0) -> None:
        """Cut all connections of a party, which may be the controller."""
        for each in list(self.connections):
            if party in (each.party, each.controller):
                each.cut(slowest)

    async def register(
        self, party: SimProcess, hello: messages.Hello, receiver: FrameReceiver
    ) -> tuple[FrameLink, messages.Welcome]:
        """Connect and register, as :func:`ipython1.kernel.tub.gate.register` does.

        :raises KernelError: if nobody is there, or the controller refuses.
        """
        from twisted.internet.defer import Deferred

        controller = self._controller
        if controller is None or controller.dead:
            raise ConnectionError("nobody listens")
        if party in self.unreachable:
            raise ConnectionError("no route to host")
        latency = self._chance.choice(self.latencies)
        connection = Connection(self._chance, party, controller, latency)
        self.connections = [each for each in self.connections if not each.closed] + [connection]
        answer: Deferred[messages.Welcome] = Deferred()
        mine = FrameLink(party.flusher, receiver)
        accept = self._gates[hello.role]
        greeting = hello.pack()

        def greeted() -> None:
            if connection.closed:
                return
            try:
                session = accept(messages.Hello.unpack(greeting))
            except KernelError as problem:
                party.callLater(latency, refuse, problem)
                return
            theirs = FrameLink(controller.flusher, session)
            connection.wire(mine, theirs, self.trace)
            welcome = session.attach(theirs).pack()
            connection.connect_controller(theirs)
            session.opened()
            party.callLater(latency, welcomed, welcome)

        def refuse(problem: KernelError) -> None:
            if not answer.called:
                answer.errback(problem)

        def welcomed(welcome: bytes) -> None:
            if not connection.closed and not answer.called:
                connection.connect_party(mine)
                answer.callback(messages.unpack_welcome(welcome))

        def too_late() -> None:
            if not answer.called:
                connection.cut(0.0)
                answer.errback(ConnectionError("there was no answer"))

        for process in (party, controller):
            process.on_death.append(connection.close)
        controller.callLater(latency, greeted)
        party.callLater(2.0, too_late)
        return mine, await answer
