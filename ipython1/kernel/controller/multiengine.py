"""The MultiEngine interface: engines are explicit, each with its id and its queue.

:class:`MultiEngine` adapts a controller.  It knows no network: a client's commands are submitted by calling it, and
what becomes of them is told through a callback for each engine.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.components import registerAdapter
from zope.interface import Attribute, Interface, implementer

from ipython1.core.texts import compress_ids
from ipython1.kernel.basics.error import InvalidEngineID, NoEnginesRegistered
from ipython1.kernel.controller.command import Command, Outcome
from ipython1.kernel.controller.commandbook import CommandBook
from ipython1.kernel.controller.commanddata import CommandData
from ipython1.kernel.controller.controllerservice import ControllerService, IControllerBase
from ipython1.kernel.controller.inspection import STACKS_TIMEOUT, interrupt_and_look, stacks_of
from ipython1.kernel.controller.queuedengine import QueuedEngine
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.bulkrelay import BulkRelay
from ipython1.kernel.wire.frames import Buffer


class IEngineMultiplexer(Interface):
    """Sends one command to several engines."""

    def submit(
        origin: bytes,
        number: int,
        submission: messages.SubmitMeta,
        payload: Buffer,
        relay: BulkRelay | None,
        on_outcome: Callable[[Outcome], None],
        on_output: Callable[[int, str, bytes], None],
    ) -> list[int]:
        """Queue one command on each target; ``on_outcome`` is called with the :class:`Outcome` of each.

        :returns: the ids of the targets.
        :raises InvalidEngineID, NoEnginesRegistered: before anything is queued.
        """


class IMultiEngine(IEngineMultiplexer):
    """The MultiEngine interface of a controller."""

    controller: Any = Attribute("The adapted controller.")

    def get_ids() -> list[int]:
        """The ids of all engines, sorted."""

    def queue_status(targets: Sequence[int] | None) -> list[tuple[int, dict[str, Any]]]:
        """A list of ``(id, {'pending': ..., 'queue': [...]})``, with ``away`` (seconds) of an engine that is away."""

    def clear_queue(targets: Sequence[int] | None) -> int:
        """Remove what has not begun on the targets; returns how many commands that were."""

    def abort(origin: bytes, number: int, targets: Sequence[int] | None = None) -> Any:
        """End one command: remove it where it has not begun, interrupt it where it runs."""

    def withdraw(origin: bytes, number: int) -> Any:
        """Remove one command where it has not begun, and leave it alone where it has.

        It fails with ``QueueCleared`` where it is removed; returns on how many engines that is now.  An engine to
        which it has been sent may give it back later.
        """

    def interrupt(targets: Sequence[int] | None) -> Any:
        """Interrupt what runs on the targets now; a Deferred of what came of it.

        See :func:`~ipython1.kernel.controller.inspection.interrupt_and_look`.
        """

    def stacks(targets: Sequence[int] | None, within: float) -> Any:
        """Where the targets' code is; a Deferred, see :func:`~ipython1.kernel.controller.inspection.stacks_of`."""

    def kill(targets: Sequence[int] | None) -> list[int]:
        """End the targets' processes."""

    def drain(targets: Sequence[int]) -> Deferred[None]:
        """Give the targets no more tasks, and wait until they have neither tasks nor commands; see ``drains``."""

    def undrain(targets: Sequence[int]) -> None:
        """Use the targets again."""

    def told_ended(targets: Sequence[int], reason: str) -> None:
        """The targets have been ended by the system that ran them, through no fault of their tasks."""

    def load() -> dict[str, Any]:
        """How much there is to do, as :class:`~ipython1.kernel.wire.loads.ClusterLoad` gives it for JSON."""

    def report(
        targets: Sequence[int] | None, request: dict[str, Any]
    ) -> Deferred[list[tuple[int, Any]]]:
        """Ask the targets' reactors something; a Deferred of ``[(id, answer or None), ...]``."""


@implementer(IMultiEngine)
class MultiEngine:
    """Adapts a controller to :class:`IMultiEngine`.

    A subclass for another interface names the role of its clients as its own ``role``, if it can queue their commands
    again after the controller's restart; otherwise these are not kept in the journal.
    """

    role: ClassVar[str] = messages.MULTIENGINE

    def __init__(self, controller: ControllerService) -> None:
        self.controller = controller
        self.book: CommandBook = controller.commands
        self.book.owner_came(self)

    @property
    def own_role(self) -> str:
        """The role of the clients whose commands may be kept; empty if there are none."""
        return str(vars(type(self)).get("role", ""))

    def engine(self, engine_id: int) -> QueuedEngine | None:
        """The engine of this id, if there is one."""
        return self.controller.engines.get(engine_id)

    def go_on(self) -> None:
        """Have all engines look whether they can go on."""
        self.book.go_on()

    def forget_strangers(self, origin: bytes, but: Collection[int]) -> None:
        """A client will not name any commands that only engines know, but these."""
        self.book.forget_strangers(origin, but)

    def get_ids(self) -> list[int]:
        return sorted(self.controller.engines)

    def resolve(self, targets: Sequence[int] | None) -> list[QueuedEngine]:
        """The engines of ``targets`` (None: all).

        :raises InvalidEngineID: naming those that are not there.
        :raises NoEnginesRegistered: when there are none at all.
        """
        engines = self.controller.engines
        if not engines:
            raise NoEnginesRegistered(
                "no engine is registered with the controller; start some (ipengine, or ipcluster engines -n 4)"
            )
        if targets is None:
            return [engines[engine_id] for engine_id in sorted(engines)]
        missing = [engine_id for engine_id in targets if engine_id not in engines]
        if missing:
            raise InvalidEngineID(
                f"there is no engine {compress_ids(missing)}; the engines are {compress_ids(engines)}"
            )
        return [engines[engine_id] for engine_id in targets]

    def submit(
        self,
        origin: bytes,
        number: int,
        submission: messages.SubmitMeta,
        payload: Buffer,
        relay: BulkRelay | None,
        on_outcome: Callable[[Outcome], None],
        on_output: Callable[[int, str, bytes], None],
    ) -> list[int]:
        targets = self.resolve(submission.targets)
        client = self.book.find(origin)
        data = None if client is None else client.data(number)
        confirms = data is not None
        if data is None:
            size = len(payload) if relay is None else relay.size
            data = CommandData(size, payload if relay is None else None, relay is not None)
        for engine in targets:
            stream = None
            if submission.stream:
                stream = _for_engine(on_output, engine.id)
            command = Command(origin, number, submission.method, data, stream, confirms)
            command.on_outcome = on_outcome
            engine.queue(command)
        if relay is not None:
            data.came(None, relay)
        self.controller.waits.changed()
        return [engine.id for engine in targets]

    def queue_status(self, targets: Sequence[int] | None) -> list[tuple[int, dict[str, Any]]]:
        return [(engine.id, engine.queue_status()) for engine in self.resolve(targets)]

    def clear_queue(self, targets: Sequence[int] | None) -> int:
        return sum(engine.clear_queue() for engine in self.resolve(targets))

    def abort(self, origin: bytes, number: int, targets: Sequence[int] | None = None) -> int:
        key = (origin, number)
        client = self.book.find(origin)
        again = partial(self.abort, origin, number, targets)
        touched = int(client is not None and client.call_off(number, again))
        for engine in list(self.controller.engines.values()):
            if targets is not None and engine.id not in targets:
                continue
            touched += engine.commands.remove_one(key, "it was aborted", frames.INTERRUPT)
            if engine.is_running(key):
                engine.interrupt(key)
                touched += 1
        return touched

    def withdraw(self, origin: bytes, number: int) -> int:
        key = (origin, number)
        client = self.book.find(origin)
        again = partial(self.withdraw, origin, number)
        called_off = client is not None and client.call_off(number, again)
        engines = list(self.controller.engines.values())
        return int(called_off) + sum(engine.commands.take_back(key) for engine in engines)

    def interrupt(
        self, targets: Sequence[int] | None
    ) -> Deferred[list[tuple[int, dict[str, Any]]]]:
        return Deferred.fromCoroutine(
            interrupt_and_look(self.resolve(targets), self.controller.clock)
        )

    def stacks(
        self, targets: Sequence[int] | None, within: float = STACKS_TIMEOUT
    ) -> Deferred[list[tuple[int, dict[str, Any]]]]:
        return Deferred.fromCoroutine(
            stacks_of(self.resolve(targets), self.controller.clock, within)
        )

    def kill(self, targets: Sequence[int] | None) -> list[int]:
        engines = self.resolve(targets)
        for engine in engines:
            engine.kill()
        return [engine.id for engine in engines]

    def drain(self, targets: Sequence[int]) -> Deferred[None]:
        return self.controller.drains.drain(targets)

    def undrain(self, targets: Sequence[int]) -> None:
        self.controller.drains.undrain(targets)

    def told_ended(self, targets: Sequence[int], reason: str) -> None:
        self.controller.told_ended(targets, reason)

    def load(self) -> dict[str, Any]:
        return self.controller.loads.told().to_json()

    def report(
        self, targets: Sequence[int] | None, request: dict[str, Any]
    ) -> Deferred[list[tuple[int, Any]]]:
        engines = self.resolve(targets)
        answers = DeferredList([engine.report(request) for engine in engines], consumeErrors=True)
        return answers.addCallback(
            lambda results: [
                (engine.id, value if good else None)
                for engine, (good, value) in zip(engines, results, strict=True)
            ]
        )


def _for_engine(
    on_output: Callable[[int, str, bytes], None], engine_id: int
) -> Callable[[str, bytes], None]:
    return lambda stream, text: on_output(engine_id, stream, text)


registerAdapter(MultiEngine, IControllerBase, IMultiEngine)
