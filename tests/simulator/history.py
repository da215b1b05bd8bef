"""One seed, one history: what the users do, what breaks and when, and whether all promises were kept."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

from ipython1.kernel.basics.error import KernelError
from ipython1.kernel.controller import queuedengine
from ipython1.kernel.controller import task as controller_task
from ipython1.kernel.controller.clientcommands import ClientCommands
from ipython1.kernel.controller.scheduling.invariants import check
from ipython1.kernel.engine import tasks as engine_tasks
from ipython1.kernel.wire.tasklinks import FAILURE, FOLLOW, SUCCESS, Links
from tests.simulator.oracle import Run
from tests.simulator.parties import ELSEWHERE, HOST, SimClient, SimEngine, Work
from tests.simulator.process import SimProcess
from tests.simulator.world import Shape, World

PATIENCE = 400.0
"""Simulated seconds in which everything must have an outcome when nothing breaks any more."""

IDLE = 5.0
"""Simulated seconds without an event after which the next thing is done or broken."""

MOST_STEPS = 60_000
CHECK_EVERY = 20


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a history.

    :ivar problem: the promise that was broken; None if all were kept.
    :ivar story: all that happened.
    """

    seed: int
    problem: BaseException | None
    story: str
    steps: int
    seconds: float
    tasks: int
    commands: int
    faults: int


@contextmanager
def simulated_time(world: World, seed: int) -> Iterator[None]:
    """Give the clock of the world to code that reads the system's, and make chance repeatable."""
    state = random.getstate()
    random.seed(seed)
    try:
        wall = SimpleNamespace(time=world.clock.seconds)
        with (
            mock.patch.object(engine_tasks, "perf_counter", world.clock.seconds),
            mock.patch.object(controller_task, "time", wall),
            mock.patch.object(queuedengine, "time", wall),
        ):
            yield
    finally:
        random.setstate(state)


@contextmanager
def refusals_seen(world: World) -> Iterator[None]:
    """Tell the oracle which commands a controller refuses: their clients may never hear of that."""

    def refuse(commands: Any, number: int, problem: KernelError) -> None:
        world.oracle.command_refused(commands.origin, number)
        right(commands, number, problem)

    right = ClientCommands._refuse
    with mock.patch.object(ClientCommands, "_refuse", refuse):
        yield


class History:
    """A world, and what happens in it.

    :param kinds: the faults that may happen; all by default.
    :param loads: what users do; everything by default.
    """

    KINDS = ("cut", "unreachable", "controller", "engine", "client", "freeze", "drain")
    LOADS = ("tasks", "graphs", "commands", "aborts")

    def __init__(
        self, seed: int, kinds: tuple[str, ...] = KINDS, loads: tuple[str, ...] = LOADS
    ) -> None:
        self.seed = seed
        self.kinds = kinds
        chance = random.Random(f"history {seed}")
        self.chance = chance
        self.world = World(
            seed,
            Shape(
                engines=chance.choice((1, 2, 2, 3)),
                clients=chance.choice((1, 1, 2)),
                slowest_commit=chance.choice((0.0, 0.001, 0.02, 0.3)),
                latencies=chance.choice(((0.0002,), (0.0002, 0.001), (0.001, 0.05))),
            ),
        )
        self.faults = 0
        self._healed = False
        self.steps = 0
        self._actions: list[tuple[float, Callable[[], None]]] = []
        self._graphs = "graphs" in loads
        if "graphs" in loads:
            self._actions.append((1.0, self._clear))
        if "tasks" in loads:
            self._actions += [(6.0, self._submit), (2.0, self._flush)]
        if "commands" in loads:
            self._actions += [(4.0, self._execute)]
        if "aborts" in loads:
            self._actions += [(1.5, self._abort)]
        known: dict[str, tuple[float, Callable[[], None]]] = {
            "cut": (4.0, self._cut),
            "unreachable": (1.0, self._unreachable),
            "controller": (3.0, self._kill_controller),
            "engine": (1.5, self._kill_engine),
            "client": (0.7, self._kill_client),
            "freeze": (1.0, self._freeze),
            "drain": (1.0, self._drain),
        }
        self._faults = [known[kind] for kind in kinds]

    # -- what users do

    def _living(self) -> list[SimClient]:
        return [each for each in self.world.clients if each.ready and not each.process.dead]

    def _work(self) -> Work:
        chance = self.chance
        seconds = chance.choice((0.0, 0.0, 0.001, 0.01, 0.05, 0.4))
        end = "raises" if chance.random() < 0.1 else "returns"
        if "engine" in self.kinds and chance.random() < 0.01:
            end = "dies"
        size = 300_000 if chance.random() < 0.03 else 0
        return Work(self.world.number(), seconds, end, size)

    def _padding(self) -> int:
        return 300_000 if self.chance.random() < 0.03 else 0

    def _submit(self) -> None:
        living = self._living()
        if not living:
            return
        client = self.chance.choice(living)
        for _ in range(self.chance.choice((1, 1, 3, 8))):
            work, retries = self._work(), self.chance.choice((0, 1, 3))
            links = self._links()
            task_id = client.submit(work, retries, self._padding(), links)
            if task_id is not None:
                self.world.oracle.submitted(client, task_id, work, retries, links)
                waits = f", which waits for {links.ties}" if links is not None else ""
                self.world.say(f"{client.name} submits task {task_id} ({work.number}){waits}")

    def _links(self) -> Links | None:
        """Some of the last tasks, whoever has submitted them, that the next one waits for."""
        chance, known = self.chance, sorted(self.world.oracle.tasks)[-12:]
        if not self._graphs or not known or chance.random() < 0.5:
            return None
        wishes = (SUCCESS, SUCCESS, SUCCESS, SUCCESS | FAILURE, FAILURE, SUCCESS | FOLLOW)
        chosen = chance.sample(known, min(len(known), chance.choice((1, 1, 2, 4))))
        return Links.pack([(chance.choice(wishes), [task_id]) for task_id in chosen])

    def _clear(self) -> None:
        living = self._living()
        if living:
            client = self.chance.choice(living)
            tasks = self.world.oracle.tasks.items()
            done = [key for key, task in tasks if task.client is client and task.result is not None]
            if done:
                self.world.say(f"{client.name} clears tasks {done}")
                client.clear(done)

    def _abort(self) -> None:
        living = self._living()
        if living:
            client = self.chance.choice(living)
            tasks = self.world.oracle.tasks.items()
            left = [key for key, task in tasks if task.client is client and task.result is None]
            running = [key for key in left if any(run.going_on for run in self._runs(key))]
            if left:
                task_id = self.chance.choice(running or left)
                self.world.say(f"{client.name} aborts task {task_id}")
                self.world.oracle.tasks[task_id].aborted = True
                client.abort(task_id)
                if "controller" in self.kinds and self.chance.random() < 0.3:
                    self._steps(self.chance.choice((3, 6, 10)))
                    self._kill_controller()

    def _runs(self, task_id: int) -> list[Run]:
        return self.world.oracle.tasks[task_id].runs

    def _execute(self) -> None:
        living = self._living()
        ids = sorted(each.id for each in self.world.engines if each.id >= 0)
        if not living or not ids:
            return
        client = self.chance.choice(living)
        chosen = self.chance.sample(sorted(set(ids)), self.chance.randint(1, len(set(ids))))
        work = self._work()
        number = client.execute(work, sorted(chosen), self.chance.random() < 0.5, self._padding())
        self.world.say(f"{client.name} sends command {number} ({work.number}) to {chosen}")

    def _flush(self) -> None:
        living = self._living()
        if living:
            client = self.chance.choice(living)
            tasks = self.world.oracle.tasks
            mine = [task_id for task_id, task in tasks.items() if task.client is client]
            client.flush(lambda: self.world.oracle.acknowledged(mine))

    # -- what breaks

    def _parties(self) -> list[SimEngine | SimClient]:
        world = self.world
        return [each for each in (*world.engines, *world.clients) if not each.process.dead]

    def _cut(self) -> None:
        party = self.chance.choice(self._parties())
        slowest = self.chance.choice((0.0, 0.0, 0.5, 35.0))
        self.world.say(f"the link of {party.name} is cut, noticed within {slowest} s")
        self.world.network.cut_all(party.process, slowest)

    def _unreachable(self) -> None:
        party = self.chance.choice(self._parties())
        seconds = self.chance.choice((0.5, 3.0, 15.0, 40.0))
        self.world.say(f"{party.name} is cut off for {seconds} s")
        self.world.network.unreachable.add(party.process)
        self.world.network.cut_all(party.process, 1.0)
        unreachable = self.world.network.unreachable
        self.world.clock.later(seconds, lambda: unreachable.discard(party.process))

    def _kill_controller(self) -> None:
        process = self.world.controller.process
        if not process.dead:
            self._kill("the controller", process)
            self.world.clock.later(
                self.chance.choice((0.0, 0.3, 2.0, 20.0)), self._start_controller
            )

    def _start_controller(self) -> None:
        if self.world.controller.process.dead:
            self.world.start_controller()

    def _kill(self, name: str, process: SimProcess) -> None:
        self.world.say(f"{name} is killed")
        process.kill()

    def _kill_engine(self) -> None:
        living = [each for each in self.world.engines if not each.process.dead]
        if living:
            engine = self.chance.choice(living)
            self._kill(engine.name, engine.process)
        if self.chance.random() < 0.7:
            self.world.clock.later(self.chance.choice((0.1, 1.0)), self._add_engine)

    def _add_engine(self) -> None:
        engine = self.world.add_engine(self._host())
        engine.process.on_death.append(self._replace)

    def _kill_client(self) -> None:
        living = self._living()
        if living:
            client = self.chance.choice(living)
            self._kill(client.name, client.process)
            if not self._living():
                self.world.add_client(self._host())

    def _drain(self) -> None:
        """An engine is to get nothing more, for a while or until it ends."""
        living = [each for each in self.world.engines if not each.process.dead and each.id >= 0]
        controller = self.world.controller
        if not living or controller.process.dead:
            return
        engine = self.chance.choice(living)
        if self.chance.random() < 0.5:
            self.world.say(f"{engine.name} is ended by its system")
            engine.end.leave()
            if self.chance.random() < 0.5:
                later = self.chance.choice((0.001, 0.3, 5.0))
                self.world.clock.later(later, engine.process.kill)
            self.world.clock.later(self.chance.choice((0.0, 0.5, 8.0)), self._add_engine)
            return
        self.world.say(f"{engine.name} is drained")
        controller.multiengine.drain([engine.id])
        seconds = self.chance.choice((0.0, 0.05, 1.0))
        self.world.clock.later(seconds, lambda: controller.multiengine.undrain([engine.id]))

    def _freeze(self) -> None:
        processes = [each.process for each in self._parties()] + [self.world.controller.process]
        process = self.chance.choice(processes)
        if process.dead or process.frozen:
            return
        seconds = self.chance.choice((0.1, 1.0, 12.0))
        self.world.say(f"{process.name} is frozen for {seconds} s")
        process.freeze()
        self.world.clock.later(seconds, lambda: self._thaw(process))

    def _thaw(self, process: SimProcess) -> None:
        if process.frozen and not process.dead:
            self.world.say(f"{process.name} goes on")
            process.thaw()

    def _host(self) -> str:
        return self.chance.choice((HOST, HOST, ELSEWHERE))

    # -- all of it

    def run(self) -> Told:
        """Run it to its end."""
        problem: BaseException | None = None
        world = self.world
        with simulated_time(world, self.seed), refusals_seen(world):
            try:
                self._run()
            except Exception as broken:
                problem = broken
                if broken is not world.broken:
                    world.say(f"BROKEN: {broken!r}")
            finally:
                self._end()
        oracle = world.oracle
        counts = (len(oracle.tasks), len(oracle.commands), self.faults)
        return Told(self.seed, problem, world.tell(), self.steps, world.clock.now, *counts)

    def _run(self) -> None:
        world, chance = self.world, self.chance
        world.start_controller()
        for _ in range(world.shape.engines):
            self._add_engine()
        for _ in range(world.shape.clients):
            world.add_client(self._host())
        if chance.random() < 0.7:
            # Else things break while everybody starts.
            self._step_until(lambda: all(each.ready for each in world.clients), 30.0)
        for _ in range(chance.randint(3, 25)):
            self._choose(self._actions)
            self._steps(chance.choice((0, 1, 5, 20, 60)))
            if self._faults and chance.random() < 0.5:
                self.faults += 1
                self._choose(self._faults)
                self._steps(chance.choice((0, 0, 3, 30, 100)))
        self._heal()
        world.say("nothing breaks any more")
        if not self._step_until(lambda: not world.oracle.open(), PATIENCE):
            world.say("not everything has an outcome")
        self._step_until(lambda: False, 20.0)
        world.oracle.check_end()
        if world.broken is not None:
            raise world.broken

    def _choose(self, choices: list[tuple[float, Callable[[], None]]]) -> None:
        weights = [weight for weight, _ in choices]
        self.chance.choices([act for _, act in choices], weights)[0]()

    def _heal(self) -> None:
        world = self.world
        self._start_controller()
        world.network.unreachable.clear()
        for process in list(world.processes.values()):
            self._thaw(process)
        self._healed = True
        self._replace()

    def _replace(self) -> None:
        """Code of users still ends engines; there is always another one."""
        if self._healed and all(each.process.dead for each in self.world.engines):
            self.world.clock.later(0.1, self._add_engine)

    def _steps(self, number: int) -> None:
        clock = self.world.clock
        for _ in range(number):
            due = clock.due()
            if due is None or due > clock.now + IDLE:
                return
            self._step()

    def _step(self) -> bool:
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise AssertionError("the parties do not stop sending to each other")
        happened = self.world.step()
        if self.steps % CHECK_EVERY == 0:
            self._check()
        return happened

    def _check(self) -> None:
        controller = self.world.controller
        if not controller.process.dead:
            machine = controller.tasks.machine
            accounts = machine.clients.accounts.values()
            check(machine, sum(len(each) for one in accounts for each in one.arriving))

    def _step_until(self, condition: Callable[[], bool], at_most: float) -> bool:
        clock = self.world.clock
        end = clock.now + at_most
        while not condition():
            for _ in range(10):
                due = clock.due()
                if due is None or due > end:
                    return condition()
                self._step()
        return True

    def _end(self) -> None:
        """Leave no thread behind."""
        for process in list(self.world.processes.values()):
            process.held = False
            process.kill()


def tell(
    seed: int,
    kinds: tuple[str, ...] = History.KINDS,
    loads: tuple[str, ...] = History.LOADS,
    trace: bool = False,
) -> Told:
    """Run the history of a seed.

    :param trace: tell of every frame as well.
    """
    history = History(seed, kinds, loads)
    if trace:
        history.world.network.trace = history.world.say
    return history.run()
