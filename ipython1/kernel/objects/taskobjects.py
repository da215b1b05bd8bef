"""Tasks and their results, as users handle them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, Unpack

from zope.interface import implementer

from ipython1.core.results import format_time
from ipython1.kernel.basics.error import describe_exception
from ipython1.kernel.basics.naming import publish
from ipython1.kernel.basics.taskinterfaces import ITask
from ipython1.kernel.objects.after import After
from ipython1.kernel.objects.taskchecks import (
    check_args,
    check_expression,
    check_function,
    check_kwargs,
    check_push,
    pull_names,
)
from ipython1.kernel.objects.taskoptions import (
    DEFAULTS,
    OptionAttributes,
    OptionKeywords,
    make_options,
    shows_options,
)
from ipython1.kernel.wire.frames import Bytes


@shows_options
class BaseTask(OptionAttributes):
    """What all tasks have; base of :class:`StringTask`, :class:`MapTask` and your own types.

    {options}

    A type of your own overrides :meth:`submit_task`, and :meth:`process_result` if need be.  Its objects are
    pickled and sent to the engine.
    """

    __slots__ = ()

    pull: str | Sequence[str] | None = None
    push: Mapping[str, Any] | None = None

    def __init__(self, *options: Any, **named: Unpack[OptionKeywords]) -> None:
        if options or named:
            self.with_options(make_options(type(self).__name__, *options, **named))

    def check_depend(self, properties: Mapping[str, Any]) -> bool:
        """Whether it may run on an engine with these properties.

        :param properties: the engine's, a mapping of names and objects.
        :returns: what ``depend`` says; True without one, False when it raises an exception.
        """
        if self.depend is None:
            return True
        try:
            return bool(self.depend(dict(properties)))
        except Exception:
            return False

    def pre_task(self, engine: Any) -> None:
        """On the engine, before :meth:`submit_task`: forget names, and set those of ``push``, if that is asked for.

        :param engine: an ``ITaskEngine``.
        """
        if self.clear_before:
            engine.reset()
        if self.push:
            engine.push(self.push)

    def submit_task(self, engine: Any) -> Any:
        """On the engine: do the work.

        :param engine: an ``ITaskEngine``.
        :returns: the result, which must be picklable.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement submit_task")

    def post_task(self, engine: Any) -> None:
        """On the engine, after :meth:`submit_task`, also if that failed: forget names, if that is asked for.

        :param engine: an ``ITaskEngine``.
        """
        if self.clear_after:
            engine.reset()

    def process_result(self, result: Any, engineid: int) -> Any:
        """In the client, when the result is asked for: what to make of it.

        It is a method of the object that was submitted, as that is by then; the engine has it as it was submitted.

        :param result: what :meth:`submit_task` returned.
        :param engineid: the id of the engine on which it did.
        :returns: the result that users see. A dict becomes ``TaskResult.results``. An exception makes the task a
            failed one.
        """
        return result


@shows_options
@implementer(ITask)
class StringTask(BaseTask):
    """A task given as code, run as ``MultiEngineClient.execute`` would run it.

    All parameters are attributes as well.

    :param expression: Python or IPython code.
    :param pull: the name or names whose objects are the results; default None, for none.
    :param push: a dict of names to set before; default None, for none.
    {options}
    """

    __slots__ = ("__weakref__", "_options", "expression", "pull", "push")

    def __init__(
        self,
        expression: str,
        pull: str | Sequence[str] | None = None,
        push: Mapping[str, Any] | None = None,
        *options: Any,
        **named: Unpack[OptionKeywords],
    ) -> None:
        # Only what is unusual is looked at closely, and not through super(): tasks are made by the hundred thousand.
        if type(expression) is not str:
            check_expression(expression)
        if pull is not None and type(pull) is not str:
            pull_names(pull)
        if push is not None and type(push) is not dict:
            push = check_push(push)
        self.expression: str = expression
        self.pull: str | Sequence[str] | None = pull
        self.push: Mapping[str, Any] | None = push
        if options or named:
            self._options = make_options(type(self).__name__, *options, **named)
        else:
            self._options = DEFAULTS

    def submit_task(self, engine: Any) -> dict[str, Any]:
        """Run the code and pull the names.

        :returns: a dict of the names and their objects.
        :raises NotDefined: when there is no object of a name.
        """
        __tracebackhide__ = True
        return run_code(engine, self.expression, pull_names(self.pull))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.expression!r})"


Task = StringTask


@shows_options
@implementer(ITask)
class MapTask(BaseTask):
    """A task given as a function and its arguments.

    All parameters are attributes as well.

    :param function: is called on the engine; what it returns is the result.
    :param args: its positional arguments, a sequence; default None, for none.
    :param kwargs: its keyword arguments, a dict; default None, for none.
    {options}
    """

    __slots__ = ("__weakref__", "_options", "args", "function", "kwargs")

    def __init__(
        self,
        function: Callable[..., Any],
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *options: Any,
        **named: Unpack[OptionKeywords],
    ) -> None:
        # Only what is unusual is looked at closely: tasks are made by the hundred thousand.
        if not callable(function):
            check_function(function)
        if args is None:
            args = ()
        elif type(args) is not tuple and type(args) is not list:
            check_args(args)
        if kwargs is None:
            kwargs = {}
        elif type(kwargs) is not dict:
            check_kwargs(kwargs)
        self.function: Callable[..., Any] = function
        self.args: Sequence[Any] = args
        self.kwargs: Mapping[str, Any] = kwargs
        if options or named:
            self._options = make_options(type(self).__name__, *options, **named)
        else:
            self._options = DEFAULTS

    def submit_task(self, engine: Any) -> Any:
        """Call the function."""
        return self.function(*self.args, **self.kwargs)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.function!r})"


def run_code(engine: Any, source: str, names: Sequence[str]) -> dict[str, Any]:
    """Run code in a task, and pull names.

    :param engine: an ``ITaskEngine``.
    :returns: a dict of the names and their objects.
    :raises NotDefined: when there is no object of a name.
    """
    __tracebackhide__ = True
    engine.run_source(source)
    return dict(zip(names, engine.pull(names), strict=True)) if names else {}


_NUMBERS = re.compile(r"\d+")


def template_of(expression: str) -> str:
    """What is the same in code that differs in numbers only: ``a = 1`` and ``a = 2`` take the same time."""
    return _NUMBERS.sub("0", expression)


class Namespace:
    """Results as attributes.

    :param results: the objects by name.
    """

    def __init__(self, results: Mapping[str, Any]) -> None:
        self.__dict__.update(results)

    def __repr__(self) -> str:
        return f"Namespace({self.__dict__!r})"

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__)


Process: TypeAlias = Callable[[Any, int], Any]
"""A task's ``process_result``."""


class ReadValue(Protocol):
    """Reads a result's payload, given its status, the engine, and the task's ``process_result``."""

    def __call__(
        self, status: int, payload: Bytes, engine: int, process: Process | None, /
    ) -> TaskValue: ...


class TaskResult:
    """What became of a task.

    :ivar taskid: the task's number.
    :ivar engineid: the id of the engine it ran on last; None if it ran on none.
    :ivar failure: the exception it ended with, of its own type if it can be rebuilt here, or None.
    :ivar submitted, completed: local time, like ``"2008/03/08 03:41:42"``.
    :ivar duration: seconds from submission to completion.
    :ivar run_time: seconds that it took on the engine.
    :ivar stdout, stderr: what it wrote.
    :ivar display: the objects it displayed, as MIME bundles.
    """

    __slots__ = (
        "_completed",
        "_payload",
        "_process",
        "_read",
        "_status",
        "_submitted",
        "_value",
        "engineid",
        "run_time",
        "taskid",
    )

    def __init__(
        self,
        taskid: int,
        engineid: int | None,
        submitted: float,
        completed: float,
        run_time: float,
        read: ReadValue,
        status: int = 0,
        payload: Bytes = b"",
        process: Process | None = None,
    ) -> None:
        self.taskid: int = taskid
        self.engineid: int | None = engineid
        self._submitted = submitted
        self._completed = completed
        self.run_time: float = run_time
        self._read = read
        self._status = status
        self._payload = payload
        self._process = process
        self._value: TaskValue | None = None

    def _get(self) -> TaskValue:
        value = self._value
        if value is None:
            engine = -1 if self.engineid is None else self.engineid
            value = self._value = self._read(self._status, self._payload, engine, self._process)
        return value

    @property
    def submitted(self) -> str:
        """When it was submitted."""
        return format_time(self._submitted)

    @property
    def completed(self) -> str:
        """When it was done."""
        return format_time(self._completed)

    @property
    def duration(self) -> float:
        """Seconds from submission to completion."""
        return max(0.0, self._completed - self._submitted)

    @property
    def failure(self) -> BaseException | None:
        """The exception it ended with, or None."""
        return self._get().failure

    @property
    def stdout(self) -> str:
        """What it wrote to standard output."""
        return self._get().stdout

    @property
    def stderr(self) -> str:
        """What it wrote to standard error."""
        return self._get().stderr

    @property
    def display(self) -> Sequence[Any]:
        """What it displayed."""
        return self._get().display

    def raise_exception(self) -> None:
        """Do nothing if it went well.

        :raises Exception: the one that it ended with, of its own type, if it failed.
        """
        failure = self.failure
        if failure is not None:
            raise failure

    def _good(self) -> TaskValue:
        """Return the value of a task that went well.

        :raises Exception: the task's own, if it failed.
        """
        value = self._get()
        if value.failure is not None:
            raise value.failure
        return value

    @property
    def results(self) -> dict[str, Any]:
        """The results by name; ``{'result': value}`` for a function's return value.

        :raises Exception: the task's own, if it failed.
        """
        value = self._good()
        result = value.result
        if isinstance(result, dict) and value.named:
            return result
        return {} if value.named and result is None else {"result": result}

    @property
    def result(self) -> Any:
        """What a :class:`MapTask`'s function returned; for others, the same as :attr:`results`.

        :raises Exception: the task's own, if it failed.
        """
        value = self._good()
        return self.results if value.named else value.result

    @property
    def keys(self) -> list[str]:
        """The names of the results.

        :raises Exception: the task's own, if it failed.
        """
        return list(self.results)

    @property
    def ns(self) -> Namespace:
        """The results as attributes.

        :raises Exception: the task's own, if it failed.
        """
        return Namespace(self.results)

    def __getitem__(self, key: str) -> Any:
        return self.results[key]

    def __repr__(self) -> str:
        failure = self.failure
        shown = repr(self.results) if failure is None else describe_exception(failure)
        return f"TaskResult[ID:{self.taskid}]:{shown}"

    def _repr_html_(self) -> str:
        from ipython1.kernel.objects.taskcard import task_html

        return task_html(self)


class TaskValue:
    """A result, read.

    :ivar result: what the task gave.
    :ivar named: whether that is a dict of names (or nothing).
    """

    __slots__ = ("display", "failure", "named", "result", "stderr", "stdout")

    def __init__(
        self,
        result: Any = None,
        named: bool = False,
        failure: BaseException | None = None,
        stdout: str = "",
        stderr: str = "",
        display: Sequence[Any] = (),
    ) -> None:
        self.result: Any = result
        self.named: bool = named
        self.failure: BaseException | None = failure
        self.stdout: str = stdout
        self.stderr: str = stderr
        self.display: Sequence[Any] = display


publish("ipython1.kernel.taskobjects", After, BaseTask, StringTask, MapTask, TaskResult)
