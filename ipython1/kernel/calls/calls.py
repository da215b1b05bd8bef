"""A call to several engines, from the client's side: the request, its outcomes and the result.

A :class:`Request` describes a call and how to decode its outcomes.  A :class:`Call` is a request in progress, in the
reactor's thread.  :meth:`Request.finish` decodes (and unpickles) the outcomes in the user's thread.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

from twisted.internet.defer import ensureDeferred
from twisted.logger import Logger

from ipython1.kernel.basics.error import (
    CompositeError,
    InvalidEngineID,
    KernelError,
    NoEnginesRegistered,
    NotStarted,
    QueueCleared,
    SerializationError,
)
from ipython1.kernel.calls.adjoining import Adjoining
from ipython1.kernel.calls.clientlink import ClientEnd
from ipython1.kernel.objects.commands import CommandKind, ReturnValue, read_failure
from ipython1.kernel.objects.exceptions import exception_of
from ipython1.kernel.objects.mapparts import MapPart
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.bulk import Incoming
from ipython1.kernel.wire.messages import Outcome
from ipython1.kernel.wire.payload import Buffers, total_size
from ipython1.kernel.wire.waits import CommandItem, Needs

log = Logger()

LITTLE: Final = 4096
"""Bytes to send that a call may keep until it is done."""

Targets = int | Sequence[int] | slice | str | None


def normalize_targets(targets: Targets, known: Sequence[int] = ()) -> tuple[int, ...] | None:
    """Convert targets to engine ids.

    :param known: the ids that a slice selects from, after sorting.
    :returns: the ids; None for all engines.
    :raises TypeError: if ``targets`` is not a valid type.
    :raises InvalidEngineID: if it is empty or too long, or contains an invalid or duplicate id.
    """
    if isinstance(targets, str):
        if targets == "all":
            return None
        raise TypeError(f"targets cannot be {targets!r}: give an id, a list of ids, or 'all'")
    if isinstance(targets, slice):
        ids = list(sorted(known)[targets])
    elif (single := _as_id(targets)) is not None:
        ids = [single]
    else:
        if isinstance(targets, (bool, dict, bytes)) or not isinstance(targets, Iterable):
            raise TypeError(
                f"targets cannot be of type {type(targets).__name__}: give an id, a list of ids, or 'all'"
            )
        items = sorted(targets) if isinstance(targets, Set) else list(targets)
        ids = []
        for item in items:
            engine_id = _as_id(item)
            if engine_id is None:
                raise TypeError(f"targets must be ids (ints), not {items!r}")
            ids.append(engine_id)
    if not ids:
        raise InvalidEngineID("targets is empty: name at least one engine, or use 'all'")
    if len(ids) > messages.MOST_TARGETS:
        raise InvalidEngineID(
            f"targets names {len(ids)} engines; one call names at most {messages.MOST_TARGETS}, or 'all'"
        )
    for engine_id in ids:
        if not 0 <= engine_id < 2**32:
            raise InvalidEngineID(f"there is no engine {engine_id}: ids are from 0 to 2**32 - 1")
    if len(set(ids)) < len(ids):
        raise InvalidEngineID(f"targets names an engine twice: {ids}")
    return tuple(ids)


def check_targets(name: str, targets: Any) -> Any:
    """Check targets before they are used; whether there are such engines is not known yet.

    :param name: the name of the attribute, as a :class:`~ipython1.kernel.basics.attributes.Setting` gives it.
    :returns: the targets; a list if they are an iterator.
    :raises TypeError, InvalidEngineID: as for :func:`normalize_targets`.
    """
    if isinstance(targets, slice):
        ()[targets]
        return targets
    if isinstance(targets, Iterator):
        targets = list(targets)
    normalize_targets(targets)
    return targets


def _as_id(value: object) -> int | None:
    """Return ``value`` as an int if it is an integer of Python or numpy and not a bool, else None."""
    if type(value).__name__ in ("bool", "bool_"):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def _identity(values: list[Any]) -> Any:
    return values


def _no_output(value: Any) -> Mapping[str, Any]:
    return {}


ForTargets = Callable[[Sequence[int]], list[tuple[int, Buffers]]]
"""Returns the arguments of each target that takes part, given the targets' ids."""


class Reading(NamedTuple):
    """What an engine's outcome holds.

    :ivar value: the decoded value.
    :ivar failure: the exception, or None.
    :ivar text: the traceback of the exception.
    :ivar output: what the command wrote, as ``stdout`` and ``stderr``, where not empty.
    """

    engine_id: int
    value: Any = None
    failure: BaseException | None = None
    text: str = ""
    output: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Request:
    """A request to engines.

    :ivar name: the client's method, as shown in errors.
    :ivar command: the name of the command for the engines.
    :ivar buffers: its arguments, if they are the same for all engines.
    :ivar for_targets: returns individual arguments instead: called with the targets' ids, it returns a list of
        ``(id, buffers)``; engines that are not in the list get no command.
    :ivar keep: returns a ``for_targets`` that does the same with a copy of what the call was given.
    :ivar parts: what ``for_targets`` returned, once the targets are known.
    :ivar read: decodes one engine's value from the buffers of its outcome.
    :ivar combine: makes the result of the call from the engines' values in the order of the targets.
    :ivar conclude: does that from all :class:`Reading` objects instead, including failures.
    :ivar output: returns what a command wrote from its value, where the value contains that.
    :ivar stream: whether output is sent while the command runs.
    :ivar adjoins: whether the values are the parts of one array.
    :ivar prints: whether the output is printed for a waiting user, because the result does not contain it.
    """

    name: str
    command: str
    buffers: Buffers = ()
    for_targets: ForTargets | None = None
    read: Callable[[Buffers], Any] = lambda buffers: None
    combine: Callable[[list[Any]], Any] = _identity
    stream: bool = False
    conclude: Callable[[Sequence[Reading]], Any] | None = None
    output: Callable[[Any], Mapping[str, Any]] = _no_output
    keep: Callable[[], ForTargets] | None = None
    parts: Sequence[tuple[int, Buffers]] | None = None
    prints: bool = False
    adjoins: bool = False

    @classmethod
    def of(
        cls,
        kind: CommandKind[..., Any],
        buffers: Buffers = (),
        *,
        name: str = "",
        for_targets: ForTargets | None = None,
        read: Callable[[Buffers], Any] | None = None,
        combine: Callable[[list[Any]], Any] = _identity,
        stream: bool = False,
        **more: Any,
    ) -> Request:
        """Create a request for commands of one kind, which provides the defaults of ``name`` and ``read``.

        :param buffers: the return value of ``kind.pack``.
        :param stream: whether output is sent while the command runs, if the kind supports that.
        """
        return cls(
            name or kind.name,
            kind.name,
            buffers,
            for_targets,
            read or kind.value.read,
            combine,
            stream and kind.streams,
            **more,
        )

    def finish(
        self, outcomes: Sequence[Outcome], outputs: dict[int, Mapping[str, Any]] | None = None
    ) -> Any:
        """Return the result of the call.

        :param outputs: gets what each engine wrote, by id.
        :raises CompositeError: if any engine failed.
        """
        readings = [self._read_one(outcome) for outcome in outcomes]
        if outputs is not None:
            outputs.update((each.engine_id, each.output) for each in readings)
        if self.conclude is not None:
            return self.conclude(readings)
        values = [each.value for each in readings if each.failure is None]
        failed = [each for each in readings if each.failure is not None]
        if failed:
            raise CompositeError(
                self.name,
                [(type(each.failure), each.failure, each.text) for each in failed],  # type: ignore[misc]
                [each.engine_id for each in failed],
                values,
            )
        return self.combine(values)

    def without_data(self) -> Request:
        """Return a request without the data to send, which reading the outcomes need not keep alive.

        It is this one if that is little.
        """
        if self.for_targets is None and self.parts is None and total_size(self.buffers) <= LITTLE:
            return self
        return replace(self, buffers=(), for_targets=None, keep=None, parts=None)

    def addressed(self, ids: Sequence[int] | None) -> Request:
        """Return a copy that no longer refers to what the call was given, if its arguments depend on the targets.

        :param ids: the targets; None if they are not known yet.
        """
        if self.for_targets is None:
            return self
        if ids is not None:
            return replace(self, for_targets=None, keep=None, parts=self.for_targets(ids))
        return self if self.keep is None else replace(self, for_targets=self.keep(), keep=None)

    def problem_of(self, outcome: Outcome) -> BaseException | None:
        """Return the error of an engine, of a map the first one of its items; None if it did not fail."""
        good = outcome.error is None and outcome.status == messages.OK
        if good and self.conclude is None:
            return None
        reading = self._read_one(outcome)
        if isinstance(reading.value, MapPart) and reading.failure is None:
            return reading.value.problem()
        return reading.failure

    def _read_one(self, outcome: Outcome) -> Reading:
        engine_id = outcome.engine_id
        if outcome.error is not None:
            return _refusal(engine_id, outcome.error)
        try:
            if outcome.status == messages.OK:
                value = self.read(outcome.buffers)
                if isinstance(value, ReturnValue):
                    return Reading(engine_id, value.value, output=value.output)
                return Reading(engine_id, value, output=self.output(value))
            record, result = read_failure(outcome.buffers)
            exception = exception_of(record)
        except KernelError as problem:
            return _refusal(engine_id, problem)
        except Exception as problem:
            # It is no engine of ours; what the others gave must not be lost by that.
            unreadable = SerializationError(
                f"the answer of engine {engine_id} cannot be read: {problem!r}"
            )
            return _refusal(engine_id, unreadable)
        info = {"engineid": engine_id, "method": self.name, "result": result}
        try:
            exception._ipython_engine_info = info  # type: ignore[attr-defined]
        except Exception:
            log.debug("a {kind} takes no attributes", kind=type(exception).__name__)
        return Reading(engine_id, None, exception, record.traceback, result or {})


def _refusal(engine_id: int, problem: BaseException) -> Reading:
    return Reading(engine_id, None, problem, f"{type(problem).__name__}: {problem}\n")


class CallObserver(Protocol):
    """Hears what becomes of a call, in the reactor's thread."""

    def accepted(self, ids: list[int]) -> None:
        """These engines have it in their queues; called once, unless it is refused."""

    def refused(self, problem: BaseException) -> None:
        """It failed before it was accepted; :meth:`failed` follows."""

    def output(self, engine_id: int, stream: str, text: str) -> None:
        """An engine wrote something."""

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

    def output(self, engine_id: int, stream: str, text: str) -> None:
        pass

    def done(self, outcomes: list[Outcome]) -> None:
        pass

    def failed(self, problem: BaseException) -> None:
        pass


_NOBODY: Final = _Nobody()


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

    :ivar observer: hears what becomes of it.
    :ivar bare: the request without its data, if there is one already.
    """

    request: Request
    end: ClientEnd
    observer: CallObserver
    bare: Request | None = None
    ids: list[int] = field(default_factory=list)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    numbers: dict[int, int | None] = field(default_factory=dict)
    adjoining: Adjoining | None = None
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
        self.ids = [engine_id for engine_id, _ in parts]
        self._unaccepted = len(parts)
        for engine_id, buffers in parts:
            self._submit(buffers, (engine_id,), engine_id)
        if not parts:
            self._accept()

    def _submit(
        self, buffers: Buffers, targets: Sequence[int] | None, engine_id: int | None
    ) -> None:
        part = _Part(self, engine_id)
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
            self.numbers[number] = engine_id

    def _accept(self) -> None:
        if not self._accepted:
            self._accepted = True
            self.observer.accepted(self.ids)
        self._finish_if_complete()

    def _finish_if_complete(self) -> None:
        if not self._over and not self._unaccepted and len(self.outcomes) == len(self.ids):
            observer = self._let_go()
            observer.done([self.outcomes[engine_id] for engine_id in self.ids])

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
            for number, engine_id in self.numbers.items():
                ids = self.ids if engine_id is None else [engine_id]
                commands.extend((number, (each,)) for each in ids if each not in self.outcomes)
        return Needs(self.end.origin.hex(), every=False, commands=tuple(commands))

    def give_up(self, problem: Exception) -> None:
        """End the call with ``problem`` on the engines where it is not done; where it has not begun, it will not."""
        if self._over:
            return
        for engine_id in self.ids:
            if engine_id not in self.outcomes:
                self.outcomes[engine_id] = Outcome.refused(engine_id, problem)
        for number in self.numbers:
            self.end.ask("withdraw", number=number).addErrback(lambda failure: None)
        self._finish_if_complete()


class _Part:
    """Observes one command of a call."""

    def __init__(self, call: Call, engine_id: int | None) -> None:
        self._call = call
        self._engine_id = engine_id
        self._waiting = True

    def accepted(self, ids: Sequence[int]) -> None:
        if self._engine_id is None:
            self._call.ids = list(ids)
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
            self._call.outcomes[outcome.engine_id] = outcome
            self._call._finish_if_complete()

    def output(self, engine_id: int, stream: str, text: str) -> None:
        self._call.observer.output(engine_id, stream, text)

    def failed(self, problem: Exception) -> None:
        call = self._call
        if self._engine_id is None or not isinstance(
            problem, (InvalidEngineID, NoEnginesRegistered)
        ):
            call._fail(problem)
            return
        # The engine has disconnected since the targets were resolved; the call continues on the others.
        gone = NotStarted(f"engine {self._engine_id} disconnected before it received its part")
        call.outcomes[self._engine_id] = Outcome.refused(self._engine_id, gone)
        self._no_longer_waiting()
