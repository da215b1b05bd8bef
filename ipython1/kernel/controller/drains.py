"""Engines that get no more tasks: somebody wants to end them, or they leave by themselves.

============  ==============================================  ======================================================
an engine is  on                                              becomes
============  ==============================================  ======================================================
in use        ``drain``                                       draining: what it has not begun goes to others
in use        ``leave``: its system is ending it              leaving, the same
draining      ``undrain``                                     in use
draining      it has no task and no command any more          drained: those who wait are told
leaving       the same                                        told to end
any           it is gone                                      (nothing); those who wait are told
============  ==============================================  ======================================================

Whatever ends an engine that is draining or leaving, its tasks are not to blame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ipython1.kernel.controller.queuedengine import QueuedEngine
from ipython1.kernel.wire import frames

log: Logger = Logger()


class TaskSide(Protocol):
    """What the tasks have to do with it."""

    def drain(self, engine_id: int, draining: bool) -> None:
        """Give an engine no more tasks, or again some."""

    def outstanding(self, engine_id: int) -> int:
        """The number of tasks that an engine has."""


class NoTasks:
    """There are no tasks."""

    def drain(self, engine_id: int, draining: bool) -> None:
        pass

    def outstanding(self, engine_id: int) -> int:
        return 0


class Drains:
    """See the module's text.

    :param engines: those that there are, by id.
    :ivar tasks: the side of the tasks.
    """

    def __init__(self, engines: Mapping[int, QueuedEngine]) -> None:
        self._engines = engines
        self.tasks: TaskSide = NoTasks()
        self._draining: set[int] = set()
        self._leaving: set[int] = set()
        self._stopped: set[int] = set()
        self._waiting: list[tuple[frozenset[int], Deferred[None]]] = []

    def has(self, engine_id: int) -> bool:
        """Whether an engine gets no more tasks."""
        return engine_id in self._draining or engine_id in self._leaving

    def is_idle(self, engine: QueuedEngine) -> bool:
        """Whether an engine has no task and no command."""
        return not engine.commands.busy and not self.tasks.outstanding(engine.id)

    def drain(self, engine_ids: Iterable[int]) -> Deferred[None]:
        """Give engines no more tasks.

        :returns: fires when none of them has a task or a command, or is there any more.
        """
        wanted = frozenset(engine_ids)
        for engine_id in wanted:
            self._begin(engine_id, self._draining)
        drained: Deferred[None] = Deferred()
        self._waiting.append((wanted, drained))
        self.changed()
        return drained

    def undrain(self, engine_ids: Iterable[int]) -> None:
        """Use engines again."""
        for engine_id in engine_ids:
            self._draining.discard(engine_id)
            engine = self._engines.get(engine_id)
            if engine is not None and engine_id not in self._leaving:
                engine.blameless = False
                self.tasks.drain(engine_id, False)

    def leave(self, engine: QueuedEngine) -> None:
        """An engine is being ended by the system that runs it, and says so."""
        if self._engines.get(engine.id) is engine:
            log.info("engine {id} is about to leave", id=engine.id)
            self._stopped.discard(engine.id)
            self._begin(engine.id, self._leaving)
            self.changed()

    def _begin(self, engine_id: int, why: set[int]) -> None:
        engine = self._engines.get(engine_id)
        if engine is not None and engine_id not in why:
            why.add(engine_id)
            engine.blameless = True
            self.tasks.drain(engine_id, True)

    def gone(self, engine_id: int) -> None:
        """An engine is gone; the next of that id is another one."""
        self._draining.discard(engine_id)
        self._leaving.discard(engine_id)
        self._stopped.discard(engine_id)
        self.changed()

    def changed(self) -> None:
        """Engines may have become idle."""
        if not self._draining and not self._leaving and not self._waiting:
            return
        for engine_id in self._leaving - self._stopped:
            engine = self._engines.get(engine_id)
            if engine is not None and engine.link is not None and self.is_idle(engine):
                self._stopped.add(engine_id)
                engine.link.send(frames.STOP, 0)
        waiting, self._waiting = self._waiting, []
        for wanted, drained in waiting:
            left = [self._engines[each] for each in wanted if each in self._engines]
            if all(map(self.is_idle, left)):
                drained.callback(None)
            else:
                self._waiting.append((wanted, drained))
