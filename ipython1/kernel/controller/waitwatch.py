"""Finds the waits of code on engines that can never end, and makes them fail."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final, Protocol

from twisted.internet.interfaces import IReactorTime

from ipython1.kernel.basics.error import WaitsForever, to_wire
from ipython1.kernel.controller.queuedengine import QueuedEngine
from ipython1.kernel.controller.waits import NONE, Alternatives, WaitGraph
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.waits import Run, unpack_wait

LEAST_INTERVAL: Final = 0.02
"""Seconds between two looks at all waits."""


class Outlook(Protocol):
    """The Task interface, as this module uses it."""

    def is_running(self, engine: int, task_id: int) -> bool: ...

    def engines(self, client: bytes, task_id: int, runs: Mapping[int, Run]) -> Alternatives: ...

    def all_engines(self) -> Alternatives: ...


class WaitWatch:
    """Keeps the graph of waits, and looks at it when something has changed.

    :param engines: the controller's engines by id.
    :ivar tasks: the tasks; None without a Task interface.
    """

    def __init__(self, engines: Mapping[int, QueuedEngine], clock: IReactorTime) -> None:
        self._engines = engines
        self._clock = clock
        self._graph = WaitGraph()
        self._due = False
        self._looked = float("-inf")
        self.tasks: Outlook | None = None

    # -- events

    def engine_came(self, engine: QueuedEngine) -> None:
        """Hear of the waits of an engine's code."""
        self._graph.engine_gone(engine.id)
        engine.handle(frames.WAITING, partial(self._waiting, engine))
        engine.handle(frames.WAITED, partial(self._waited, engine))

    def engine_gone(self, engine_id: int) -> None:
        """An engine is gone, and others may have needed it."""
        self._graph.engine_gone(engine_id)
        self.changed()

    def _waiting(
        self, engine: QueuedEngine, flags: int, number: int, meta: Buffer, payload: Buffer
    ) -> None:
        self._graph.tell(engine.id, number, *unpack_wait(payload))
        self.changed()

    def _waited(
        self, engine: QueuedEngine, flags: int, number: int, meta: Buffer, payload: Buffer
    ) -> None:
        self._graph.over(engine.id, number)

    def changed(self) -> None:
        """Something that a wait depends on may have changed."""
        if self._graph and not self._due:
            self._due = True
            delay = self._looked + LEAST_INTERVAL - self._clock.seconds()
            self._clock.callLater(max(0.0, delay), self._look)

    def _look(self) -> None:
        self._due = False
        self._looked = self._clock.seconds()
        for victim in self._graph.victims(self):
            problem = messages.pack_json(to_wire(WaitsForever(victim.message)))
            link = self._engines[victim.engine].link
            for number in victim.numbers:
                if link is not None:
                    link.send(frames.WAITS_FOREVER, number, b"", problem)

    # -- what the graph asks

    def is_running(self, engine: int, run: Run) -> bool:
        client, number = run
        if not client:
            return self.tasks is not None and self.tasks.is_running(engine, number)
        queued = self._engines.get(engine)
        return queued is not None and queued.is_running((bytes.fromhex(client), number))

    def task_engines(self, client: str, task_id: int, runs: Mapping[int, Run]) -> Alternatives:
        if self.tasks is None:
            return NONE
        return self.tasks.engines(bytes.fromhex(client), task_id, runs)

    def command_engines(
        self, client: str, number: int, engines: tuple[int, ...], runs: Mapping[int, Run]
    ) -> Alternatives:
        key = (bytes.fromhex(client), number)
        present = [self._engines[each] for each in engines if each in self._engines]
        for queued in present:
            if runs.get(queued.id) == (client, number):
                return frozenset((queued.id,))
        if not number or any(each.is_running(key) or each.is_waiting(key) for each in present):
            return frozenset(queued.id for queued in present)
        return NONE

    def all_task_engines(self) -> Alternatives:
        return NONE if self.tasks is None else self.tasks.all_engines()
