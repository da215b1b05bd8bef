"""Runs tasks in an engine's main thread: unpacks one, does all of it, packs what it came to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Final

from ipython1.core.failures import ExceptionRecord, record_exception
from ipython1.core.livedisplays import LiveDisplays
from ipython1.core.results import CallOutcome
from ipython1.kernel.basics.error import (
    MessageSizeError,
    ProtocolError,
    TaskRejectError,
    describe_exception,
)
from ipython1.kernel.engine.failuretexts import note_of
from ipython1.kernel.engine.service import EngineService
from ipython1.kernel.objects.codenames import globals_of
from ipython1.kernel.objects.homes import GLOBALS_KEY, CallGlobals
from ipython1.kernel.objects.serialize import Loaded, load
from ipython1.kernel.objects.taskcodec import (
    CLEAR_AFTER,
    CLEAR_BEFORE,
    LIVE,
    SHARED,
    Kind,
    Partly,
    TaskBody,
    load_object,
    pack_items,
    pack_result,
    split_object,
    unpack_arguments,
    unpack_task,
)
from ipython1.kernel.objects.taskobjects import run_code
from ipython1.kernel.objects.watch import Watch
from ipython1.kernel.wire.failurenotes import Note
from ipython1.kernel.wire.frames import Bytes
from ipython1.kernel.wire.taskwire import MOST_BYTES, Status

_REJECTED: Final = TaskRejectError.__name__
_INTERRUPTED: Final = KeyboardInterrupt.__name__
_NOTHING: Final = CallOutcome(None, "", "", (), 0.0, 0.0, 0.0, None)

_SHORT: Final = 4096
"""Bytes up to which a task's payload is remembered, as the next one is often the same."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A function that is kept for the next task.

    Either calls cannot change what it brings along, or it is of one map.
    """

    function: Any
    globals: list[CallGlobals]
    watch: Watch


def _arrived_with(function: FunctionType) -> Mapping[str, Any]:
    """The names that a function which came by value brought along."""
    own = function.__globals__.get(GLOBALS_KEY)
    if own is not None:
        brought: dict[str, Any] = own.brought
        return {name: brought[name] for name in globals_of(function) if name in brought}
    return {} if function.__globals__.get("__name__") == "__main__" else globals_of(function)


class TaskRunner:
    """Runs tasks with the engine's session.

    :param service: the engine.
    :param displays: collects what code displays that is watched.
    :param user_code_ended: called when a task has failed, before that is recorded: no signal handler of the user's may
        run from then on.
    :ivar live: whether the client of the present task wants to see its output while it runs.
    :ivar most_bytes: larger results are refused here.
    :ivar note: what is to be told of the last task, if that failed, all of it or in part.
    """

    def __init__(
        self,
        service: EngineService,
        displays: LiveDisplays | None = None,
        user_code_ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._service = service
        self._user_code_ended = user_code_ended
        self._home = service.home
        self._interpreter = service.interpreter
        self._packed: dict[bytes, bytes] = {}
        self._lacking: dict[bytes, str] = {}
        self._functions: dict[bytes, _Known] = {}
        self._kinds: dict[int, Callable[[TaskBody], tuple[CallOutcome, bool]]] = {
            Kind.SOURCE: self._source,
            Kind.CALL: self._call,
            Kind.CALL_WITH: self._call_with,
            Kind.ITEMS: self._items,
            Kind.OBJECT: self._object,
        }
        self._last: tuple[Bytes, TaskBody | None] = (b"", None)
        self.most_bytes: int = MOST_BYTES
        self.note: Note | None = None
        self._displays = displays or LiveDisplays()
        self.live: bool = False

    def add_function(self, digest: bytes, data: bytes) -> None:
        """Get to know a function; from any thread."""
        self._packed[digest] = data
        self._lacking.pop(digest, None)

    def lack_function(self, digest: bytes, reason: str) -> None:
        """A function cannot be had; tasks that need it fail with ``reason``.  From any thread."""
        self._lacking[digest] = reason

    def forget_function(self, digest: bytes) -> None:
        """It is not used any more; from any thread."""
        self._packed.pop(digest, None)
        self._lacking.pop(digest, None)
        self._functions.pop(digest, None)

    def run(self, payload: Bytes, stopping: Any) -> tuple[Status, Bytes, float]:
        """Run one task; never raises.

        :param stopping: called after an interrupt; tells whether the task was to be stopped.
        :returns: how it ended, its result, and the seconds it took.
        """
        begin = time.perf_counter()
        self.note = None
        named = False
        try:
            with self._service.calling():
                outcome, named = self._attempt(payload)
        except BaseException as problem:
            outcome = self._failed(problem)
        try:
            good, data = pack_result(outcome, outcome.value, named)
            if len(data) > self.most_bytes:
                raise MessageSizeError.too_large(
                    "the result", len(data), self.most_bytes, "fetch it in parts"
                )
        except BaseException as problem:
            outcome = self._failed(problem)
            good, data = pack_result(outcome, None, named)
        duration = time.perf_counter() - begin
        if good:
            return Status.OK, data, duration
        failure = outcome.failure
        if failure is not None:
            if failure.ename == _REJECTED:
                return Status.REJECTED, b"", duration
            if failure.ename == _INTERRUPTED and stopping():
                return Status.STOPPED, b"", duration
            self.note = note_of(failure)
        return Status.FAILED, data, duration

    def failed(self, problem: BaseException) -> Bytes:
        """The result of a task that ended with ``problem``."""
        outcome = self._failed(problem)
        if outcome.failure is not None:
            self.note = note_of(outcome.failure)
        return pack_result(outcome, None, False)[1]

    def _failed(self, problem: BaseException) -> CallOutcome:
        # A handler that strikes while this is recorded would spoil the record.
        self._user_code_ended()
        return _NOTHING._replace(failure=record_exception(problem))

    def _attempt(self, payload: Bytes) -> tuple[CallOutcome, bool]:
        """Do what a task asks for; never raises.

        :returns: what it came to, and whether its value is a dict of names.
        """
        task: TaskBody | None = None
        named = False
        try:
            last, same = self._last
            if payload == last and same is not None:
                task = same
            else:
                task = unpack_task(payload)
                if len(payload) <= _SHORT:
                    self._last = (payload, task)
            kind, flags, _, _, push = task
            self.live = self._displays.wanted = bool(flags & LIVE)
            if flags & CLEAR_BEFORE:
                self._service.reset()
            if push:
                self._service.push(load_object(push, self._service.load))
            run = self._kinds.get(kind)
            if run is None:
                raise ProtocolError(f"an engine does not know tasks of kind {kind}")
            outcome, named = run(task)
        except BaseException as problem:
            outcome = self._failed(problem)
        if task is not None and task.flags & CLEAR_AFTER:
            try:
                self._service.reset()
            except BaseException as problem:
                outcome = self._failed(problem)
        return outcome, named

    def depends(self, digest: bytes) -> tuple[bool, str]:
        """Whether a dependency function holds for this engine's properties; an exception counts as no.

        :returns: the answer, and what it raised, for people; empty if it did not.
        """
        service = self._service
        try:
            with service.calling():
                function = self._function(digest)
                outcome = self._interpreter.call(function, (dict(service.properties),))
                failure = outcome.failure
                if failure is None:
                    return bool(outcome.value), ""
                if failure.ename == _INTERRUPTED:
                    return False, f"{_INTERRUPTED}, as it took too long"
                return False, f"{failure.ename}: {failure.evalue}"
        except BaseException as problem:
            return False, describe_exception(problem)

    def _function(self, digest: bytes, flags: int = 0) -> Any:
        known = self._functions.get(digest)
        if known is not None and known.watch.good_for_calls():
            if known.globals:
                for each in known.globals:
                    each.refresh()
                self._home.take_part(known.globals)
            return known.function
        loaded = self._load(digest)
        watch = Watch(loaded.value, _arrived_with, watch_names=False, references=loaded.references)
        if watch.steady or flags & SHARED:
            for each in loaded.globals:
                each.open = not watch.steady
            self._functions[digest] = _Known(loaded.value, loaded.globals, watch)
        else:
            # Each task gets one of its own: it may change what it brings.
            self._functions.pop(digest, None)
        return loaded.value

    def _load(self, digest: bytes) -> Loaded:
        data = self._packed.get(digest)
        if data is None:
            reason = self._lacking.get(digest)
            if reason is not None:
                raise MessageSizeError(reason)
            raise ProtocolError("the function of a task did not reach the engine")
        loaded = load(split_object(data), self._home)
        self._home.take_part(loaded.globals)
        return loaded

    # -- the kinds of tasks

    def _source(self, task: TaskBody) -> tuple[CallOutcome, bool]:
        source = str(task.body, "utf-8", "surrogatepass")
        if not task.extra:
            return self._interpreter.call(self._service.run_source, (source,)), True
        names = str(task.extra, "utf-8").split("\n")
        return self._interpreter.call(run_code, (self._service, source, names)), True

    def _call(self, task: TaskBody) -> tuple[CallOutcome, bool]:
        function = self._function(bytes(task.body), task.flags)
        args, kwargs = unpack_arguments(task.extra, self._service.load)
        return self._interpreter.call(self._joined(task, function), args, kwargs), False

    def _call_with(self, task: TaskBody) -> tuple[CallOutcome, bool]:
        function = load_object(task.body, self._service.load)
        args, kwargs = unpack_arguments(task.extra, self._service.load)
        return self._interpreter.call(function, args, kwargs), False

    def _joined(self, task: TaskBody, function: Any) -> Any:
        """Return the function of a task, rebuilt if its arguments could not share the globals of the kept one."""
        return self._load(bytes(task.body)).value if self._home.missed else function

    def _items(self, task: TaskBody) -> tuple[CallOutcome, bool]:
        """Call a function with each of several lists of arguments."""
        function = self._function(bytes(task.body), task.flags)
        items = load_object(task.extra, self._service.load)
        function = self._joined(task, function)
        call = self._interpreter.call
        results: list[tuple[bool, Any]] = []
        stdout: list[str] = []
        stderr: list[str] = []
        display: list[Any] = []
        for args in items:
            outcome = call(function, args)
            failure = outcome.failure
            if failure is None:
                results.append((True, outcome.value))
            elif failure.ename in (_REJECTED, _INTERRUPTED):
                return outcome, False
            else:
                results.append((False, failure))
            if outcome.stdout or outcome.stderr or outcome.display:
                stdout.append(outcome.stdout)
                stderr.append(outcome.stderr)
                display.extend(outcome.display)
        value = pack_items(results)
        if isinstance(value, Partly):
            self.note = _note_of_items(value, results)
        whole = _NOTHING._replace(
            value=value,
            stdout="".join(stdout),
            stderr="".join(stderr),
            display=tuple(display),
        )
        return whole, False

    def _object(self, task: TaskBody) -> tuple[CallOutcome, bool]:
        """A task of a type of the user's own."""
        own = load_object(task.body, self._service.load)
        outcome = self._interpreter.call(_all_steps, (own, self._service))
        return outcome, isinstance(outcome.value, dict)


def _note_of_items(value: Partly, results: Sequence[tuple[bool, Any]]) -> Note:
    failed = sum(not good for good, _ in value)
    first = next((failure for good, failure in results if not good), None)
    if isinstance(first, ExceptionRecord):
        return note_of(first, failed)
    return Note("SerializationError: the value of an item cannot be sent", "", failed)


def _all_steps(task: Any, engine: EngineService) -> Any:
    __tracebackhide__ = True
    try:
        task.pre_task(engine)
        return task.submit_task(engine)
    finally:
        task.post_task(engine)
