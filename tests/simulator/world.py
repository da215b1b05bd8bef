"""A simulated world: the clock, the network, the disk, all processes, and the story of what happened."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from twisted.python.failure import Failure

from ipython1.kernel.controller.journal.tests.memoryjournal import Disk
from tests.simulator.network import Network
from tests.simulator.oracle import Oracle, Violation
from tests.simulator.parties import SimClient, SimController, SimEngine
from tests.simulator.process import SimProcess
from tests.simulator.time import SimClock


@dataclass(frozen=True, slots=True)
class Shape:
    """What a history is like.

    :ivar slowest_commit: seconds that the disk takes at most.
    :ivar latencies: seconds, of which a connection has one.
    :ivar client_grace: seconds that the controller waits for a client on another host.
    """

    engines: int = 2
    clients: int = 2
    slowest_commit: float = 0.02
    latencies: tuple[float, ...] = (0.0002, 0.001)
    client_grace: float = 200.0


class World:
    """See the module.

    :ivar broken: the first promise that was broken.
    """

    controller: SimController

    def __init__(self, seed: int, shape: Shape | None = None) -> None:
        self.chance = Random(seed)
        self.shape = shape or Shape()
        self.clock = SimClock()
        self.story: list[tuple[float, str]] = []
        self.broken: BaseException | None = None
        self.processes: dict[int, SimProcess] = {}
        self.disk = Disk(f"{self.chance.getrandbits(128):032x}")
        self.network = Network(self.chance)
        self.network.latencies = self.shape.latencies
        self.oracle = Oracle(self)
        self.engines: list[SimEngine] = []
        self.clients: list[SimClient] = []
        self._lost_ids: set[int] = set()
        self._numbers = 0

    # -- for the parties

    def new_process(self, name: str) -> SimProcess:
        pid = len(self.processes) + 1000
        process = self.processes[pid] = SimProcess(self.clock, name, pid)
        return process

    def uuid(self) -> str:
        return f"{self.chance.getrandbits(128):032x}"

    def say(self, text: str) -> None:
        self.story.append((self.clock.now, text))

    def trouble(self, failure: Failure) -> None:
        """Something raised that should not."""
        if self.broken is None:
            self.broken = failure.value
            self.say(f"BROKEN: {failure.getTraceback()}")

    def number(self) -> int:
        """A new number for a task or command."""
        self._numbers += 1
        return self._numbers

    # -- for the oracle

    def is_done(self, task_id: int) -> bool:
        """Whether a task has an outcome that anybody can get."""
        return self.outcome(task_id) is not None

    def outcome(self, task_id: int) -> bool | None:
        """Whether a task has succeeded, for all that is on disk; None if that says nothing of it."""
        disk = self.disk
        if task_id in disk.succeeded or task_id in disk.past_succeeded:
            return True
        return False if task_id in disk.failed or task_id in disk.past_failed else None

    def engine_lost(self, engine_id: int) -> None:
        """An engine died, or a controller has given it up."""
        self._lost_ids.add(engine_id)

    def was_lost(self, engine_id: int) -> bool:
        return engine_id in self._lost_ids

    # -- what happens

    def start_controller(self) -> None:
        self.say("a controller starts")
        SimController(self)
        self.say(f"it has epoch {self.controller.journal.epoch}")

    def add_engine(self, host: str) -> SimEngine:
        engine = SimEngine(self, f"E{len(self.engines)}", host)
        engine.process.on_death.append(lambda: self.engine_lost(engine.id))
        self.engines.append(engine)
        return engine

    def add_client(self, host: str) -> SimClient:
        client = SimClient(self, f"C{len(self.clients)}", host)
        self.clients.append(client)
        return client

    def step(self) -> bool:
        """Let the next thing happen.

        :raises Violation: if that breaks a promise.
        """
        happened = self.clock.step()
        if self.broken is not None:
            raise self.broken
        return happened

    def run_until(self, condition: Any, at_most: float) -> bool:
        """Go on until it is true, for so many seconds at most; returns whether it is."""
        end = self.clock.now + at_most
        while not condition():
            due = self.clock.due()
            if due is None or due > end:
                return bool(condition())
            self.step()
        return True

    def tell(self) -> str:
        """The story."""
        return "\n".join(f"{at:12.6f}  {text}" for at, text in self.story)


__all__ = ["Shape", "Violation", "World"]
