"""An engine's session: runs commands and tasks, and keeps the names they define.

Plain Python takes a fast path (parse, compile, run); code that only IPython understands, recognised by a syntax
error, an undefined first word or a coroutine, is passed to IPython.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Protocol

from ipython1.checks import check_settable
from ipython1.core.capture import OutputCapture
from ipython1.core.failures import ExceptionRecord, record_exception
from ipython1.core.forks import leave
from ipython1.core.interrupt import InterruptGate
from ipython1.core.livedisplays import LiveDisplays
from ipython1.core.planner import Plan, Planner
from ipython1.core.results import CallOutcome, CommandResult, ResultHistory
from ipython1.core.shell import open_shell
from ipython1.core.tracebacks import is_internal
from ipython1.core.traits import trait_values

__all__ = ["CallOutcome", "CommandResult", "Interpreter"]

DEFAULT_HISTORY_BYTES: Final = 64 << 20


class _Capture(Protocol):
    """The part of :class:`~ipython1.core.capture.OutputCapture` that a session needs."""

    def take(self) -> tuple[str, str]: ...

    def close(self) -> None: ...


class Interpreter:
    """The session of this process; there can be only one.  Call its methods in the main thread only, except
    :meth:`get_result` and :meth:`keys`, which any thread may call.

    :param capture: captures output; None creates an :class:`~ipython1.core.capture.OutputCapture`, which
        :meth:`close` closes.
    :param history_size: how many results, inputs and ``Out`` values are kept.
    :param history_bytes: how much memory the kept results may take.
    :param gate: closed (``gate.current = None``) when user code has ended, so that a late interrupt cannot hit the
        code after it.

    :ivar user_ns: the namespace of user code, which is that of the module ``__main__``.
    :ivar user_code_ended: called when user code has failed, before that is recorded; for example
        :meth:`~ipython1.core.userhandlers.UserHandlers.put_aside`.
    """

    def __init__(
        self,
        capture: _Capture | None = None,
        *,
        history_size: int = 1000,
        history_bytes: int = DEFAULT_HISTORY_BYTES,
        gate: InterruptGate | None = None,
    ) -> None:
        if history_size < 1:
            raise ValueError(f"history_size must be at least 1, not {history_size}")
        self._own_capture = capture is None
        self._capture: _Capture = capture if capture is not None else OutputCapture()
        self._gate = gate if gate is not None else InterruptGate()
        self.user_code_ended: Callable[[], None] = lambda: None
        try:
            shell = self._shell = open_shell(history_size)
        except BaseException:
            if self._own_capture:
                self._capture.close()
            raise
        self._history_size = history_size
        self._results = ResultHistory(history_size, history_bytes)
        self._planner = Planner(shell)
        self._history_traits = trait_values(
            shell.history_manager, ("input_hist_parsed", "input_hist_raw")
        )
        self._take = self._capture.take
        self._sink = shell.sink
        self._pre_callbacks = shell.events.callbacks["pre_execute"]
        self._post_callbacks = shell.events.callbacks["post_execute"]
        self._post_done = False
        """Whether IPython has already called these for the current task."""
        self._usual_pre_callbacks = len(self._pre_callbacks)
        self._closed = False
        self._in_child = False

    @property
    def user_ns(self) -> dict[str, Any]:
        namespace: dict[str, Any] = self._shell.user_ns
        return namespace

    @property
    def shell(self) -> Any:
        """IPython's shell of the session."""
        return self._shell

    @property
    def displays(self) -> LiveDisplays:
        """What running code displays, as it comes."""
        live: LiveDisplays = self._sink.live
        return live

    @property
    def hidden_names(self) -> dict[str, Any]:
        """The names in :attr:`user_ns` that the session has put there, with their objects."""
        hidden: dict[str, Any] = self._shell.user_ns_hidden
        return hidden

    @property
    def number(self) -> int:
        """The number of the next command."""
        return self._shell.execution_count

    def forked(self) -> None:
        """Make this process, forked by user code, exit where that code ends (see ``ipython1.core.forks``)."""
        self._in_child = True
        self._take = lambda: leave(None)

    def close(self) -> None:
        """Restore the process's streams, ``__main__`` and hooks; further calls do nothing."""
        if self._closed:
            return
        self._closed = True
        self._planner.close()
        self._shell.close()
        if self._own_capture:
            self._capture.close()

    # -- commands ---------------------------------------------------------------------------------------------------

    def execute(self, source: str) -> CommandResult:
        """Run a command as if it had been typed at IPython's prompt.

        Exceptions, including ``SystemExit`` and ``KeyboardInterrupt``, are stored in the result's ``failure``.

        :raises TypeError: if ``source`` is not a string.
        """
        if not isinstance(source, str):
            raise TypeError(f"a command must be a str, not {type(source).__name__}")
        shell = self._shell
        number = shell.execution_count
        shell.execution_count = number + 1
        started = begin = 0.0
        error: BaseException | None = None
        try:
            try:
                self._note_input(source)
                shell.translated = source
                started = time.time()
                begin = time.perf_counter()
                error = self._run_command(source, number)
            except BaseException as exc:
                error = exc
            self._gate.current = None
        except KeyboardInterrupt as exc:  # it arrived after the end of user code
            error = exc
            self._gate.current = None
        duration = time.perf_counter() - begin
        if shell.has_problems:
            problem = shell.take_problems()
            error = error or problem
        failure = None if error is None else self._record(error, remember=True)
        error = None  # break the cycle: it refers to this frame
        outcome = self._command_result(number, source, started, duration, failure)
        self._results.add(outcome)
        return outcome

    def _run_command(self, source: str, number: int) -> BaseException | None:
        """Run a command here, or in IPython, which catches and returns its exception."""
        plan = self._planner.command(source, number)
        if plan is not None:
            self._run_plan(plan)
            return None
        error = self._shell.run_ipython(source)
        self._planner.logging = bool(getattr(self._shell.logger, "log_active", False))
        return error

    def _command_result(
        self,
        number: int,
        source: str,
        started: float,
        duration: float,
        failure: ExceptionRecord | None,
    ) -> CommandResult:
        stdout, stderr = self._take()
        display, result = self._sink.take()
        return CommandResult(
            number,
            source,
            self._translated(source),
            stdout,
            stderr,
            None if result is None else result[0],
            display,
            started,
            started + duration,
            duration,
            failure,
            None if result is None or not result[1] else result[1],
        )

    def _note_input(self, source: str) -> None:
        traits = self._history_traits
        for kept in (traits["input_hist_parsed"], traits["input_hist_raw"]):
            kept.append(source)
            if len(kept) > self._history_size + 1:
                kept[-self._history_size - 1] = ""  # In[N] keeps its place, not its text

    def _translated(self, source: str) -> str:
        translated: str = self._shell.translated or source
        if translated.endswith("\n") and not source.endswith("\n"):
            translated = translated[:-1]
        return translated

    def _run_plan(self, plan: Plan) -> None:
        statements, expression = plan
        shell = self._shell
        namespace = shell.user_ns
        namespace.pop("__warningregistry__", None)
        if len(self._pre_callbacks) > self._usual_pre_callbacks:
            shell.events.trigger("pre_execute")
        try:
            if statements is not None:
                exec(statements, namespace)
            if expression is not None:
                value = eval(expression, namespace)
                if value is not None:
                    sys.displayhook(value)
        finally:
            if self._post_callbacks:
                shell.events.trigger("post_execute")

    def _record(self, error: BaseException, *, remember: bool) -> ExceptionRecord:
        """Convert an exception to plain data; with ``remember``, ``%tb`` shows it."""
        if self._in_child:
            leave(error.with_traceback(_user_part(error.__traceback__)))
        # A signal handler that strikes while this is recorded would spoil the record.
        self.user_code_ended()
        record = record_exception(error)
        if remember:
            tb = _user_part(error.__traceback__)
            sys.last_type, sys.last_value, sys.last_traceback = type(error), error, tb
            if sys.version_info >= (3, 12):
                sys.last_exc = error
            try:
                error.__traceback__ = tb
            except Exception:  # a class may forbid it
                pass
        return record

    # -- tasks ------------------------------------------------------------------------------------------------------

    def call(
        self,
        function: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        remember: bool = False,
    ) -> CallOutcome:
        """Call a function as a task, without a command number and without storing anything.

        :param remember: whether its exception is kept for debuggers and ``%tb``, with all that its frames hold.
        """
        started = begin = 0.0
        try:
            started = time.time()
            begin = time.perf_counter()
            value = function(*args, **kwargs) if kwargs else function(*args)
            if self._post_callbacks and not self._post_done:
                self._shell.events.trigger("post_execute")
            self._post_done = False
            self._gate.current = None
        except BaseException as exc:
            return self._failed(exc, started, begin, remember)
        duration = time.perf_counter() - begin
        stdout, stderr = self._take()
        if self._sink.bundles or self._shell.has_problems:
            return self._unusual(value, stdout, stderr, started, duration)
        # This is several times faster than to call the class.
        fields = (value, stdout, stderr, (), started, started + duration, duration, None)
        return tuple.__new__(CallOutcome, fields)

    def run_source(self, source: str) -> None:
        """Run source text in a task (see :meth:`call`), to which its output, displayed objects and exception belong.

        Plain Python is compiled once per text; magics, shell commands and top-level ``await`` go to IPython.

        :raises TypeError: if ``source`` is not a string.
        """
        if not isinstance(source, str):
            raise TypeError(f"a task's source must be a str, not {type(source).__name__}")
        code = self._planner.task(source)
        if code is not None:
            exec(code, self._shell.user_ns)
            return
        error = self._shell.run_ipython_task(source, self._planner.task_sources)
        self._post_done = True
        if error is not None:
            raise error

    def _failed(
        self, exc: BaseException, started: float, begin: float, remember: bool
    ) -> CallOutcome:
        self._gate.current = None
        self._post_done = False
        duration = time.perf_counter() - begin
        if self._shell.has_problems:
            self._shell.take_problems()
        failure = self._record(exc, remember=remember)
        stdout, stderr = self._take()
        display, _ = self._sink.take()
        return CallOutcome(
            None, stdout, stderr, display, started, started + duration, duration, failure
        )

    def _unusual(
        self, value: Any, stdout: str, stderr: str, started: float, duration: float
    ) -> CallOutcome:
        """Return the outcome of a task that displayed something, or after which an error occurred."""
        problem = self._shell.take_problems()
        failure = None if problem is None else self._record(problem, remember=False)
        more_out, more_err = self._take()
        display, _ = self._sink.take()
        return CallOutcome(
            None if failure else value,
            stdout + more_out,
            stderr + more_err,
            display,
            started,
            started + duration,
            duration,
            failure,
        )

    # -- names and results ------------------------------------------------------------------------------------------

    def push(self, namespace: Mapping[str, object]) -> None:
        """Set names in the namespace.

        :raises TypeError: if ``namespace`` is not a mapping, or a name is not a string; then nothing is set.
        :raises ValueError: if a name is one that Python itself needs, such as ``__builtins__``; then nothing is set.
        """
        self._shell.user_ns.update(_checked(namespace))

    def pull(self, keys: str | Sequence[str]) -> Any:
        """Return the object with one name, or a list of the objects with several names.

        :raises NameError: if a name is not defined.
        :raises TypeError: if ``keys`` is neither a string nor a sequence of strings.
        """
        if isinstance(keys, str):
            return self._get(keys)
        return [self._get(key) for key in keys]

    def _get(self, key: str) -> Any:
        if not isinstance(key, str):
            raise TypeError(f"a name must be a str, not {type(key).__name__}")
        try:
            return self._shell.user_ns[key]
        except KeyError:
            raise NameError(f"name {key!r} is not defined", name=key) from None

    def push_function(self, namespace: Mapping[str, Callable[..., Any]]) -> None:
        """Set names to functions.

        :raises TypeError: if a value is not callable; then nothing is set.
        """
        for key, function in _checked(namespace).items():
            if not callable(function):
                raise TypeError(f"{key!r} is {_described(function)}, not a function")
        self._shell.user_ns.update(namespace)

    def pull_function(self, keys: str | Sequence[str]) -> Any:
        """Like :meth:`pull`, for functions.

        :raises NameError: if a name is not defined.
        :raises TypeError: if an object is not callable.
        """
        found = self.pull(keys)
        pairs = [(keys, found)] if isinstance(keys, str) else zip(keys, found, strict=True)
        for key, function in pairs:
            if not callable(function):
                raise TypeError(f"{key!r} is {_described(function)}, not a function")
        return found

    def keys(self) -> list[str]:
        """Return the names set by user code and pushes, sorted, except those that begin with an underscore."""
        namespace = self._shell.user_ns
        hidden = self._shell.user_ns_hidden
        missing = object()
        return sorted(
            name
            for name, value in list(namespace.items())
            if isinstance(name, str)
            and not name.startswith("_")
            and value is not hidden.get(name, missing)
        )

    def reset(self) -> None:
        """Forget all names and ``Out``; command numbers continue, and :meth:`get_result` keeps its results."""
        self._shell.reset(new_session=False)
        self._planner.forget_tasks()

    def get_result(self, i: int | None = None) -> CommandResult:
        """Return the result of command ``i``, by default the last one.

        :raises IndexError: if there is no such command, or its result is no longer kept.
        """
        return self._results.get(i)

    def sources_since(self, number: int) -> list[tuple[int, str]]:
        """Return the numbers and sources, as Python, of the commands after ``number`` whose results are kept."""
        return [(each.number, each.translated) for each in self._results.since(number)]


def _checked(namespace: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(namespace, Mapping):
        raise TypeError(f"names and values must be a mapping, not {_described(namespace)}")
    for key in namespace:
        if not isinstance(key, str):
            raise TypeError(f"a name must be a str, not {type(key).__name__}")
        check_settable(key)
    return namespace


def _described(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1] in 'aeiou' else 'a'} {name}"


def _user_part(tb: TracebackType | None) -> TracebackType | None:
    """Return a traceback from its first user frame on, so that it keeps none of this package's frames alive."""
    rest = tb
    while rest is not None and is_internal(rest.tb_frame.f_code.co_filename):
        rest = rest.tb_next
    return rest if rest is not None else tb
