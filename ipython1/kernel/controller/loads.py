"""Tells how much there is to do: see :mod:`ipython1.kernel.wire.loads`."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Final

from twisted.internet.interfaces import IReactorTime

from ipython1.kernel.controller.clientregistry import ClientRegistry
from ipython1.kernel.controller.drains import Drains
from ipython1.kernel.controller.queuedengine import QueuedEngine
from ipython1.kernel.controller.scheduling.machine import TaskMachine
from ipython1.kernel.wire.loads import ClusterLoad, EngineLoad

MOST_LOOKED_AT: Final = 2000
"""Waiting tasks that are looked at for how long they will take, and whether any engine could run them."""


class Loads:
    """Looks at engines and tasks.

    :param engines: the engines, by id.
    :ivar machine: that of the tasks; None without tasks.
    """

    def __init__(
        self,
        engines: Mapping[int, QueuedEngine],
        clients: ClientRegistry,
        drains: Drains,
        clock: IReactorTime,
    ) -> None:
        self._engines = engines
        self._clients = clients
        self._drains = drains
        self._clock = clock
        self._turned = clock.seconds()
        self.machine: TaskMachine | None = None

    def turned(self) -> None:
        """Tasks or commands have come, begun or ended."""
        self._turned = self._clock.seconds()

    def told(self) -> ClusterLoad:
        """How it is now."""
        engines = tuple(self._engine(self._engines[each]) for each in sorted(self._engines))
        waiting, seconds = self._waiting()
        running = sum(1 for each in engines if each.tasks)
        ahead = sum(each.tasks for each in engines) - running
        now = self._clock.seconds()
        busy = waiting or running or any(each.commands for each in engines)
        quiet = 0.0 if busy else max(0.0, now - self._turned)
        clients = max(0, self._clients.connected - 1)
        return ClusterLoad(waiting + ahead, running, seconds, clients, quiet, engines)

    def _engine(self, engine: QueuedEngine) -> EngineLoad:
        machine = self.machine
        worker = None if machine is None else machine.workers.get(engine.id)
        tasks = 0 if worker is None else len(worker.outstanding)
        commands = engine.commands.queued + int(engine.running_key is not None)
        idle = 0.0
        if not tasks and not commands:
            since = engine.turned if worker is None else max(engine.turned, worker.progress)
            idle = max(0.0, self._clock.seconds() - since)
        draining = self._drains.has(engine.id)
        return EngineLoad(engine.id, tasks, commands, round(idle, 3), engine.holds_data, draining)

    def _waiting(self) -> tuple[int, float]:
        """How many tasks wait that any engine could run, and how long such tasks take."""
        machine = self.machine
        if machine is None:
            return 0, 0.0
        bound = 0
        known: list[float] = []
        looked = list(islice(machine.assigner.records(), MOST_LOOKED_AT))
        for record in looked:
            options = record.options
            bound += options.targets is not None
            if options.measured.count:
                known.append(options.measured.average * options.weight)
        waiting = len(machine.assigner) - bound + len(machine.clients.arriving())
        for worker in machine.workers.values() if not known else ():
            known += [
                each.options.measured.average * each.options.weight
                for each in islice(worker.outstanding.values(), 2)
                if each.options.measured.count
            ]
        return waiting, sum(known) / len(known) if known else 0.0
