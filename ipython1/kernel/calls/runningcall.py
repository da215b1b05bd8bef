"""A request in progress, in the reactor's thread: its commands, their outcomes, and who hears of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from twisted.internet.defer import ensureDeferred

from ipython1.kernel.basics.error import (
    InvalidEngineID,
    KernelError,
    NoEnginesRegistered,
    NotStarted,
    QueueCleared,
)
from ipython1.kernel.calls.adjoining import Adjoining
from ipython1.kernel.calls.calls import ForTargets, Request
from ipython1.kernel.calls.clientlink import ClientEnd
from ipython1.kernel.wire.bulk import Incoming
from ipython1.kernel.wire.messages import Outcome
from ipython1.kernel.wire.payload import Buffers
from ipython1.kernel.wire.waits import CommandItem, Needs


class CallObserver(Protocol):
    """Hears what becomes of a call, in the reactor's thread."""

    def accepted(self, ids: list[int]) -> None:
        """These engines have it in their queues; called once, unless it is refused."""

    def refused(self, problem: BaseException) -> None:
        """It failed before it was accepted; :meth:`failed` follows."""

    def output(self, key: int, stream: str, text: str) -> None:
        """A part of the call wrote something on its engine, see :func:`engine_of`."""

    def done(self, outcomes: list[Outcome]) -> None:
        """All engines are done: their outcomes, in the order of the targets."""

    def failed(self, problem: BaseException) -> None:
        """There is no outcome."""


class _Nobody:
    """The observer of a call that is over, so that it does not keep the real one alive."""

    def accepted(self, ids: list[int]) -> None:
        pass

    def refused(self, problem: BaseException) -> None:
        pass

    def output(self, key: int, stream: str, text: str) -> None:
        pass

    def done(self, outcomes: list[Outcome]) -> None:
        pass

    def failed(self, problem: BaseException) -> None:
        pass


_NOBODY: Final = _Nobody()

_PIECE: Final = 1 << 32
"""More than any engine's id."""


def engine_of(key: int) -> int:
    """Return the id of the engine that a part of a call belongs to; see :class:`Call`."""
    return key % _PIECE


def _keys_of(parts: Sequence[tuple[int, Buffers]]) -> list[int]:
    pieces: dict[int, int] = {}
    keys = []
    for engine_id, _ in parts:
        piece = pieces.get(engine_id, 0)
        pieces[engine_id] = piece + 1
        keys.append(piece * _PIECE + engine_id)
    return keys


@dataclass(slots=True)
class Call:
    """A request in progress.

    ============  ==================================================
    state         ends with
    ============  ==================================================
    submitting    the targets are known (``accepted``) or refused
                  (``refused``, ``failed``)
    running       all targets' outcomes have arrived (``done``)
    done          --
    ============  ==================================================

    A call has one part for each engine, or several pieces of a map, which the engine gets one after the other.  The key
    of a part is the engine's id; those of its further pieces are that and multiples of 2**32.

    :ivar observer: hears what becomes of it.
    :ivar ids: the engines, in order.
    :ivar keys: the parts, in order.
    :ivar outcomes: by the keys of the parts, in the order of their arrival.
    :ivar numbers: the key of each command's part; None if a command is for all engines.
    :ivar bare: the request without its data, if there is one already.
    :ivar watchers: called whenever something of it has changed that those who wait for a part of it look at.
    """

    request: Request
    end: ClientEnd
    observer: CallObserver
    bare: Request | None = None
    ids: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    numbers: dict[int, int | None] = field(default_factory=dict)
    adjoining: Adjoining | None = None
    watchers: tuple[Callable[[], object], ...] = ()
    _accepted: bool = False
    _unaccepted: int = 0
    _announce: bool = True
    _aborted: bool = False
    _over: bool = False

    def start(self, targets: Sequence[int] | None, announce: bool = True) -> None:
        """Send the request.

        :param announce: False if nobody goes on before the call is done, so that the controller need neither say that
            it has accepted it nor keep it for a client that is gone.
        """
        self._announce = announce
        request = self.request
        if request.adjoins and self.end.call_later is not None:
            self.adjoining = Adjoining(self.end.call_later)
        # Its data is kept by the end of the link, for as long as it may have to be sent again.
        self.request = request.without_data() if self.bare is None else self.bare
        try:
            if request.parts is not None:
                self._start_each(request.parts)
                return
            if request.for_targets is None:
                self._unaccepted = 1
                self._submit(request.buffers, targets, None)
                return
            # If all engines are known here, it starts at once and thus precedes later calls.
            ids = self.end.resolve(targets)
            if ids is not None:
                self._start_each(request.for_targets(ids))
                return
        except Exception as problem:
            self._fail(problem)
            return
        asking = ensureDeferred(self._ask_and_start(targets, request.for_targets))
        asking.addErrback(
            lambda failure: self._fail(failure.value or KernelError("the call failed"))
        )

    async def _ask_and_start(
        self,
        targets: Sequence[int] | None,
        for_targets: ForTargets,
    ) -> None:
        ids = await self.end.ask("resolve", targets=targets)
        if self._aborted:
            raise QueueCleared(f"{self.request.name} was aborted before it began")
        self._start_each(for_targets(ids))

    def _start_each(self, parts: Sequence[tuple[int, Buffers]]) -> None:
        # Before any part is sent, so that a call that is refused has no effect.
        for _, buffers in parts:
            self.end.check_size(buffers)
        self.keys = _keys_of(parts)
        self.ids = list(dict.fromkeys(engine_id for engine_id, _ in parts))
        self._unaccepted = len(parts)
        for key, (engine_id, buffers) in zip(self.keys, parts, strict=True):
            self._submit(buffers, (engine_id,), key)
        if not parts:
            self._accept()

    def _submit(self, buffers: Buffers, targets: Sequence[int] | None, key: int | None) -> None:
        part = _Part(self, key)
        number = self.end.submit(
            self.request.command,
            buffers,
            targets,
            part,
            self.request.stream,
            announce=self._announce,
            keep=self._announce,
        )
        if number is not None:
            self.numbers[number] = key

    def _accept(self) -> None:
        if not self._accepted:
            self._accepted = True
            self.observer.accepted(self.ids)
        self._finish_if_complete()

    @property
    def is_accepted(self) -> bool:
        """Whether its engines are known."""
        return self._accepted

    def _finish_if_complete(self) -> None:
        if not self._over and not self._unaccepted and len(self.outcomes) == len(self.keys):
            observer = self._let_go()
            observer.done([self.outcomes[key] for key in self.keys])
        self._tell_watchers()

    @property
    def unfinished(self) -> list[int]:
        """The engines that are not done."""
        missing = (engine_of(key) for key in self.keys if key not in self.outcomes)
        return list(dict.fromkeys(missing))

    def watch(self, watcher: Callable[[], object]) -> None:
        """Have ``watcher`` called in the reactor's thread after each change; from the user's thread."""
        self.watchers += (watcher,)

    def unwatch(self, watcher: Callable[[], object]) -> None:
        """Undo one :meth:`watch`."""
        watchers = list(self.watchers)
        watchers.remove(watcher)
        self.watchers = tuple(watchers)

    def _tell_watchers(self) -> None:
        for watcher in self.watchers:
            watcher()

    def _let_go(self) -> CallObserver:
        """Mark the call as over, release what only a call in progress needs, and return the observer."""
        observer, self.observer = self.observer, _NOBODY
        self._over = True
        if self.adjoining is not None:
            self.adjoining.end()
        return observer

    def _fail(self, problem: BaseException) -> None:
        if self._over:
            return
        observer = self._let_go()
        if not self._accepted:
            self._accepted = True
            observer.refused(problem)
        observer.failed(problem)
        self._tell_watchers()

    def abort(self) -> None:
        """Abort the call on the engines where it is not done.

        Where it has not begun it fails with ``QueueCleared``; where it is running it is interrupted.
        """
        if self._over or not self.end.usable:
            return
        self._aborted = True
        for number in self.numbers:
            self.end.ask("abort", number=number).addErrback(lambda failure: None)

    def needs(self) -> Needs | None:
        """Return what has to happen before the call is done; None if it is."""
        if self._over:
            return None
        commands: list[CommandItem] = []
        if not self._unaccepted:
            for number, key in self.numbers.items():
                keys = self.keys if key is None else [key]
                commands.extend(
                    (number, (engine_of(each),)) for each in keys if each not in self.outcomes
                )
        return Needs(self.end.origin.hex(), every=False, commands=tuple(commands))

    def give_up(self, problem: Exception) -> None:
        """End the call with ``problem`` on the engines where it is not done; where it has not begun, it will not."""
        if self._over:
            return
        for key in self.keys:
            if key not in self.outcomes:
                self.outcomes[key] = Outcome.refused(engine_of(key), problem)
        for number in self.numbers:
            self.end.ask("withdraw", number=number).addErrback(lambda failure: None)
        self._finish_if_complete()


class _Part:
    """Observes one command of a call."""

    def __init__(self, call: Call, key: int | None) -> None:
        self._call = call
        self._key = key
        self._waiting = True

    def accepted(self, ids: Sequence[int]) -> None:
        if self._key is None:
            self._call.ids = self._call.keys = list(ids)
        self._no_longer_waiting()

    def _no_longer_waiting(self) -> None:
        if self._waiting:
            self._waiting = False
            self._call._unaccepted -= 1
        if not self._call._unaccepted:
            self._call._accept()

    def outcome_begins(self, engine_id: int, incoming: Incoming) -> None:
        adjoining = self._call.adjoining
        if adjoining is not None and not self._call._over:
            adjoining.begins(self._call.ids, engine_id, incoming)

    def outcome(self, outcome: Outcome) -> None:
        if not self._call._over:
            key = outcome.engine_id if self._key is None else self._key
            self._call.outcomes[key] = outcome
            self._call._finish_if_complete()

    def output(self, engine_id: int, stream: str, text: str) -> None:
        key = engine_id if self._key is None else self._key
        self._call.observer.output(key, stream, text)

    def failed(self, problem: Exception) -> None:
        call = self._call
        if self._key is None or not isinstance(problem, (InvalidEngineID, NoEnginesRegistered)):
            call._fail(problem)
            return
        # The engine has disconnected since the targets were resolved; the call continues on the others.
        engine_id = engine_of(self._key)
        gone = NotStarted(f"engine {engine_id} disconnected before it received its part")
        call.outcomes[self._key] = Outcome.refused(engine_id, gone)
        self._no_longer_waiting()
