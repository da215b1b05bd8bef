"""A cluster in memory whose links break and are made again, and whose controller dies and starts again."""

from __future__ import annotations

import uuid
from typing import Any

from twisted.internet.defer import Deferred

from ipython1.kernel.calls.clientlink import ClientEnd
from ipython1.kernel.calls.connect import Connection
from ipython1.kernel.clients.asyncclient import AsyncMultiEngineClient
from ipython1.kernel.controller.config import Graces
from ipython1.kernel.controller.controllerservice import ControllerService
from ipython1.kernel.controller.journal.interface import NoJournal
from ipython1.kernel.controller.journal.tests.memoryjournal import Disk, MemoryJournal
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.link import FrameLink
from ipython1.testing import InMemoryCluster
from ipython1.testing.memory import Pump, connect_in_memory

GRACES = Graces(engine=10.0, restart=60.0, client=1000.0)


class WorldClient:
    """A client that can lose its link and make it again.

    :ivar mec: its asynchronous client.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        origin = uuid.uuid4()
        self.hello = messages.Hello(
            uuid=origin.hex,
            pid=99,
            host="there",
            role=messages.MULTIENGINE,
            secret=messages.new_secret(),
        )
        self.end = ClientEnd(origin.bytes)
        self.link: FrameLink | None = None
        self.connect()
        self.end.reconnects = True
        self.mec = AsyncMultiEngineClient(Connection(world.pump, None, self.end, "memory"))

    def connect(self) -> None:
        """Make its link, for the first time or again."""
        session = self._world.cluster.multiengine_face.accept(self.hello)
        self.link, there = connect_in_memory(self._world.pump, self.end, session)
        self.end.attach(self.link, session.attach(there))
        session.opened()

    def break_link(self) -> None:
        """Lose its link."""
        assert self.link is not None
        self.link.abort("a cable was pulled")

    def die(self) -> None:
        """End at once, as ``kill -9`` does; the controller notices that."""
        self.end.reconnects = False
        self.break_link()
        self._world.pump.run()
        self._world.cluster.controller.clients.goodbye(self.hello.uuid, "it was killed")


class World:
    """The cluster.

    :param keeps: whether the controller has a journal.
    :ivar disk: what the journal has, which survives the controller.
    """

    def __init__(self, engines: int = 2, keeps: bool = True) -> None:
        self.pump = Pump()
        self.journal: Any = MemoryJournal(at_once=True) if keeps else NoJournal()
        self.cluster = InMemoryCluster(engines, self.pump, self._controller())
        self.clients: list[WorldClient] = []

    def _controller(self) -> ControllerService:
        return ControllerService(self.pump, graces=GRACES, journal=self.journal)

    def client(self) -> WorldClient:
        """A new client."""
        self.clients.append(WorldClient(self))
        return self.clients[-1]

    def steps(self, count: int) -> bool:
        """Let some steps happen; False if there were fewer."""
        return all(self.pump.step() for _ in range(count))

    def settle(self, value: Any) -> Any:
        """Run until nothing happens any more; the result of a Deferred, or its exception."""
        self.pump.run()
        return outcome_of(value)

    # -- faults

    def break_engine(self, number: int = 0) -> None:
        """An engine loses its link."""
        self.cluster.engines[number].link.abort("a cable was pulled")

    def kill_controller(self) -> None:
        """What was not written is lost, and all links break."""
        old = self.cluster.controller
        self.journal._calls.clear()
        self.journal._waiting.clear()
        for engine in self.cluster.engines:
            engine.controller_link.connection_lost("the controller died")
            engine.link.connection_lost("the controller died")
        for client in self.clients:
            if client.link is not None and not client.link.lost:
                client.link.connection_lost("the controller died")
        for each in old.engines.values():
            each.end("it died")
        old.stop_waiting()
        disk, self.journal.disk = self.journal.disk, Disk()  # the dead one writes no more
        self.journal = MemoryJournal(disk, at_once=True)
        self.cluster.use(self._controller())

    def repair(self) -> None:
        """Whoever lost a link makes it again."""
        for engine in self.cluster.engines:
            if engine.link.lost and not engine.worker.stopped:
                engine.register()
        for client in self.clients:
            if client.end.away is not None:
                client.connect()

    def pass_time(self, seconds: float = 1.0) -> None:
        """Let time pass, and what follows from that."""
        for _ in range(round(seconds * 20)):
            self.pump.advance(0.05)
            self.pump.run()


def outcome_of(value: Deferred[Any]) -> Any:
    """The result of a Deferred, or its exception; None if it has not fired."""
    ended: list[Any] = []

    def end(result: Any) -> Any:
        ended.append(getattr(result, "value", result))
        return ended[0]

    value.addBoth(end)
    return ended[0] if ended else None
