"""A call to several engines, from the client's side: the request, and how its outcomes make the result.

A :class:`Request` describes a call and how to decode its outcomes; a :class:`~ipython1.kernel.calls.runningcall.Call`
is a request in progress, in the reactor's thread.  :meth:`Request.finish` decodes (and unpickles) the outcomes in the
user's thread.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

from twisted.logger import Logger

from ipython1.core.interrupt import raised_by_handler
from ipython1.kernel.basics.error import (
    CompositeError,
    InvalidEngineID,
    KernelError,
    SerializationError,
)
from ipython1.kernel.objects.commands import CommandKind, ReturnValue, read_failure
from ipython1.kernel.objects.exceptions import exception_of
from ipython1.kernel.objects.mapparts import MapPart
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.messages import Outcome
from ipython1.kernel.wire.payload import Buffers, total_size

log: Logger = Logger()

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


def _same(value: Any) -> Any:
    return value


def _no_output(value: Any) -> Mapping[str, Any]:
    return {}


ForTargets = Callable[[Sequence[int]], list[tuple[int, Buffers]]]
"""Returns the arguments of each target that takes part, given the targets' ids."""


class Arrange(Protocol):
    """See :class:`Request`."""

    def __call__(
        self, readings: list[Reading], outcomes: Sequence[Outcome], /
    ) -> list[Reading]: ...


class Items(Protocol):
    """Where the items of a map are.

    :ivar total: how many there are.
    """

    total: int

    def places(self) -> list[Sequence[int]] | None:
        """Return the numbers of the items of each part; None if that is not known."""

    def entries(self, reading: Reading, numbers: Sequence[int]) -> list[Entry]:
        """Return what came of the items of a part."""


class Entry(NamedTuple):
    """A result, or a failure."""

    value: Any
    failure: BaseException | None = None

    def get(self) -> Any:
        """Return the value, or raise the failure."""
        __tracebackhide__ = True
        if self.failure is not None:
            raise self.failure.with_traceback(None)
        return self.value


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
    :ivar arrange: returns all :class:`Reading` objects in the order for ``combine``; raises what is wrong with them
        together.
    :ivar conclude: does that from all :class:`Reading` objects instead, including failures.
    :ivar items: where the items of a map are; None for other calls.
    :ivar listed: whether ``combine`` makes a list of the values.
    :ivar one: makes the result for a view of one engine from that engine's value.
    :ivar single: whether this is the call of such a view.
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
    arrange: Arrange | None = None
    items: Items | None = None
    listed: bool = True
    one: Callable[[Any], Any] = _same
    single: bool = False

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
        self,
        outcomes: Sequence[Outcome],
        outputs: dict[int, Mapping[str, Any]] | None = None,
        known: dict[int, Reading] | None = None,
    ) -> Any:
        """Return the result of the call.

        :param outputs: gets what each engine wrote, by id.
        :param known: what was read before.
        :raises CompositeError: if any engine failed.
        :raises Exception: the engine's own, if this is the call of a view of one engine.  One that would end this
            program, such as ``SystemExit``, stays in a CompositeError.
        :raises PartsMissing: if an engine that had a part is gone.
        """
        if known:
            readings = [self.reading(outcome, known) for outcome in outcomes]
        else:
            readings = [self._read_one(outcome) for outcome in outcomes]
        if outputs is not None:
            outputs.clear()
            for each in readings:
                before = outputs.get(each.engine_id)
                outputs[each.engine_id] = each.output if before is None else _both(before, each)
        if self.conclude is not None:
            return self.conclude(readings)
        if self.arrange is not None:
            readings = self.arrange(readings, outcomes)
        values = [each.value for each in readings if each.failure is None]
        failed = [each for each in readings if each.failure is not None]
        if failed and self.single and isinstance(failed[0].failure, Exception):
            raise failed[0].failure
        if failed:
            raise CompositeError(
                self.name,
                [(type(each.failure), each.failure, each.text) for each in failed],  # type: ignore[misc]
                [each.engine_id for each in failed],
                values,
            )
        return self.one(values[0]) if self.single else self.combine(values)

    def reading(self, outcome: Outcome, known: dict[int, Reading]) -> Reading:
        """Return what an outcome holds, which is read once.

        :param known: what was read before, by the ``id()`` of outcomes that go on existing; gets this.
        """
        reading = known.get(id(outcome))
        if reading is None:
            reading = known[id(outcome)] = self._read_one(outcome)
        return reading

    def of_one(self) -> Request:
        """Return the same request, made by a view of one engine."""
        return replace(self, single=True)

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

    def problem_of(self, outcome: Outcome, known: dict[int, Reading]) -> BaseException | None:
        """Return the error of an engine, of a map the first one of its items; None if it did not fail.

        :param known: as for :meth:`reading`.
        """
        good = outcome.error is None and outcome.status == messages.OK
        if good and self.conclude is None:
            return None
        reading = self.reading(outcome, known)
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
            if raised_by_handler(problem):
                raise
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


def _both(before: Mapping[str, Any], reading: Reading) -> Mapping[str, Any]:
    """Return the output of two parts of a call, which one engine ran one after the other."""
    both = dict(before)
    for key, value in reading.output.items():
        both[key] = both[key] + value if key in both else value
    return both


def _refusal(engine_id: int, problem: BaseException) -> Reading:
    return Reading(engine_id, None, problem, f"{type(problem).__name__}: {problem}\n")
