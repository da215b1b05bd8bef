"""The options of tasks: what they are called, their defaults, and their checks.

Everything that takes options (tasks, mappers, executors) takes them as keywords and makes :class:`TaskOptions` of
them.  A new option is added in this module, to the three classes below, and then by whoever implements it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, Generic, Self, TypedDict, TypeVar

from ipython1.checks import check_bool, check_int, is_number
from ipython1.kernel.basics.taskinterfaces import ITask
from ipython1.kernel.objects.after import check_others, check_targets, pack_links
from ipython1.kernel.wire.tasklinks import Links

T = TypeVar("T")
D = TypeVar("D", bound=Callable[..., Any])

MAX_RETRIES: Final = 2**32 - 1
_PRIORITIES: Final = (-(2**31), 2**31 - 1)

_POSITIONAL: Final = inspect.Parameter.VAR_POSITIONAL
_KEYWORDS: Final = inspect.Parameter.VAR_KEYWORD
_EITHER: Final = inspect.Parameter.POSITIONAL_OR_KEYWORD
_KEYWORD_ONLY: Final = inspect.Parameter.KEYWORD_ONLY


def _given(others: Any) -> bool:
    """Return whether it is anything but the default, an empty tuple; arrays cannot be compared with it."""
    return not isinstance(others, tuple) or bool(others)


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """How a task is to be run.

    :param clear_before: forget all names on the engine before it begins; default False.
    :param clear_after: forget all names on the engine when it is done, also if it failed; default False.
    :param retries: how often it is run again when it fails, or its engine dies; default 0.
    :param recovery_task: another task, run in its place when all retries have failed. Its result is the result.
        Default None, for none.
    :param depend: a function of an engine's properties (a dict). The task runs only where it gives true; an
        exception in it counts as false. Default None, for any engine.
    :param timeout: seconds that a run may take, more than 0; then it is interrupted and fails with ``TaskTimeout``.
        Default None, for any time.
    :param priority: larger runs earlier, when the controller's scheduler is the ``PriorityScheduler``; an int of 32
        bits, default 0.
    :param after: the tasks that it runs after: a task id, a ``TaskResult``, or several of either, which must have
        succeeded; or ``After(...)`` of them to say how they must have come out. Default ``()``, for none.
    :param follow: the same, and it runs on an engine on which one of them has run. Default ``()``, for none.
    :param targets: the engines that may run it: the id of one, a list of ids, or a dict of properties that an engine
        must have. Default None, for any engine.
    """

    clear_before: bool = False
    clear_after: bool = False
    retries: int = 0
    recovery_task: Any = None
    depend: Callable[[dict[str, Any]], Any] | None = None
    timeout: float | None = None
    priority: int = 0
    after: Any = ()
    follow: Any = ()
    targets: Any = None

    def __post_init__(self) -> None:
        if _given(self.after) or _given(self.follow) or self.targets is not None:
            # What is wrong is found by ``check``.
            with suppress(TypeError, ValueError):
                object.__setattr__(self, "after", check_others("after", self.after))
                object.__setattr__(self, "follow", check_others("follow", self.follow))
                object.__setattr__(self, "targets", check_targets(self.targets))

    @property
    def links(self) -> Links | None:
        """What it says of other tasks, packed; None if it waits for none."""
        if not self.after and not self.follow:
            return None
        return pack_links(self.after, self.follow) or None

    def check(self) -> None:
        """Check each option by itself; see :func:`check_options` for the recovery tasks.

        :raises TypeError: when one has the wrong type.
        :raises ValueError: when one has an impossible value.
        """
        # What is as by default is passed over quickly, as options are often made for each task.
        if self.clear_before is not False:
            check_bool("clear_before", self.clear_before)
        if self.clear_after is not False:
            check_bool("clear_after", self.clear_after)
        retries, priority = self.retries, self.priority
        if type(retries) is not int or not 0 <= retries <= MAX_RETRIES:
            check_int("retries", retries, 0, MAX_RETRIES)
        if type(priority) is not int or priority:
            check_int("priority", priority, *_PRIORITIES)
        if self.timeout is not None:
            if not is_number(self.timeout):
                raise TypeError(
                    f"timeout must be a number of seconds or None, not {self.timeout!r}"
                )
            if not self.timeout > 0:
                raise ValueError(f"timeout must be more than 0 seconds, not {self.timeout}")
        if _given(self.after) or _given(self.follow):
            pack_links(check_others("after", self.after), check_others("follow", self.follow))
        if self.targets is not None:
            check_targets(self.targets)
        task = self.recovery_task
        if task is not None and not isinstance(task, OptionAttributes) and not is_task(task):
            raise TypeError(
                f"recovery_task must be a task (Task, MapTask, or an object that provides ITask), not {task!r:.100}"
            )
        if self.depend is not None and not callable(self.depend):
            raise TypeError(
                f"depend must be a function of the engine's properties, not {self.depend!r}"
            )

    @property
    def for_single_calls(self) -> bool:
        """Whether they say something about each call of a map, which then must be a task of its own."""
        return bool(
            self.clear_before
            or self.clear_after
            or self.retries
            or self.recovery_task is not None
            or self.timeout is not None
        )


class LaterOptions(TypedDict, total=False):
    """The keywords of those options that mappers take by keyword only."""

    timeout: float | None
    priority: int
    after: Any
    follow: Any
    targets: Any


class OptionKeywords(LaterOptions, total=False):
    """The keywords of all options."""

    clear_before: bool
    clear_after: bool
    retries: int
    recovery_task: Any
    depend: Callable[[dict[str, Any]], Any] | None


class _Option(Generic[T]):
    """An option as an attribute of a task."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, task: OptionAttributes | None, owner: type) -> T:
        value: T = getattr(DEFAULTS if task is None else task._options, self._name)
        return value

    def __set__(self, task: OptionAttributes, value: T) -> None:
        changed: dict[str, Any] = {self._name: value}
        options = replace(task._options, **changed)
        options.check()
        task._options = options  # type: ignore[misc]  # a slot or in __dict__, as the class has it


DEFAULTS: Final = TaskOptions()


class OptionAttributes:
    """Base of what has options, each of which is an attribute that can be set."""

    __slots__ = ()

    _options: TaskOptions = DEFAULTS

    clear_before: _Option[bool] = _Option()
    clear_after: _Option[bool] = _Option()
    retries: _Option[int] = _Option()
    recovery_task: _Option[Any] = _Option()
    depend: _Option[Callable[[dict[str, Any]], Any] | None] = _Option()
    timeout: _Option[float | None] = _Option()
    priority: _Option[int] = _Option()
    after: _Option[Any] = _Option()
    follow: _Option[Any] = _Option()
    targets: _Option[Any] = _Option()

    def with_options(self, options: TaskOptions) -> Self:
        """Give it other options.

        :returns: the object itself.
        """
        self._options = options  # type: ignore[misc]
        return self


_SIMPLE: Final = frozenset(("clear_before", "clear_after", "retries", "timeout", "priority"))
"""Options whose values are small, and often the same."""

NAMES: Final = tuple(field.name for field in fields(TaskOptions))
"""The options, in the order in which tasks take them by position."""

all_values: Final = attrgetter(*NAMES)
"""The values of options as a tuple, which is hashed and compared many times faster than they are themselves."""


def is_task(task: Any) -> bool:
    """Whether an object provides ``ITask``; the class does not, but its objects."""
    return bool(ITask.providedBy(task))


def options_of(task: Any) -> TaskOptions:
    """The options of a task.  What an object that merely provides ``ITask`` does not have is as by default.

    :raises TypeError: when it is no task.
    """
    if isinstance(task, OptionAttributes):
        return task._options
    if not is_task(task):
        raise TypeError(
            f"expected a task (Task, MapTask, or an object that provides ITask), not {task!r}"
        )
    return TaskOptions(**{name: getattr(task, name, getattr(DEFAULTS, name)) for name in NAMES})


@lru_cache(256, typed=True)
def _checked_before(**named: Any) -> TaskOptions:
    """Return checked options; those with the same values, which many tasks often have, are one object."""
    made = TaskOptions(**named)
    made.check()
    return made


def make_options(caller: str, *options: Any, **named: Any) -> TaskOptions:
    """Make the options that a user gave to ``caller``.

    :raises TypeError: if there is no such option, or one is given twice; it names ``caller``.
    :raises TypeError, ValueError: if the value of an option is invalid; see :func:`check_options` for recovery tasks.
    """
    try:
        if not options and named.keys() <= _SIMPLE:
            return _checked_before(**named)
    except (TypeError, ValueError):
        pass  # the way below says what is wrong
    try:
        made = TaskOptions(*options, **named)
    except TypeError:
        pass
    else:
        made.check()
        return made
    unknown = [name for name in named if name not in NAMES]
    if unknown:
        wrong = f"has no option {unknown[0]!r}"
    elif len(options) > len(NAMES):
        wrong = f"got {len(options)} options, but there are only {len(NAMES)}"
    else:
        wrong = f"got the option {next(name for name in NAMES[: len(options)] if name in named)!r} twice"
    raise TypeError(f"{caller} {wrong}. The options are: {', '.join(NAMES)}.")


def check_options(options: TaskOptions, owner: object = None) -> None:
    """Check options, and those of all recovery tasks.

    :param owner: the task that has them, if there is one already.
    :raises TypeError: when one has the wrong type, or a recovery task is no task.
    :raises ValueError: when one has an impossible value, or the recovery tasks form a loop.
    """
    seen = {id(owner)}
    options.check()
    while (task := options.recovery_task) is not None:
        if id(task) in seen:
            raise ValueError(f"the recovery tasks of {task!r} form a loop")
        seen.add(id(task))
        options = options_of(task)
        options.check()
        if options.after or options.follow:
            raise ValueError(
                f"a recovery task takes over at once and has neither after nor follow, but {task!r:.100} has"
            )


# -- what users are shown ------------------------------------------------------------------------------------------


def shows_options(documented: D) -> D:
    """Have ``help()`` and ``inspect.signature()`` show the options that a function or class takes as ``**keywords``.

    They come after its other parameters. They can be given by position if it takes ``*options`` as well. In the
    docstring they take the place of the line ``{options}``.
    """
    function = vars(documented)["__init__"] if isinstance(documented, type) else documented
    signature = inspect.signature(function)
    collects = {each.kind for each in signature.parameters.values()} & {_POSITIONAL, _KEYWORDS}
    kind = _EITHER if _POSITIONAL in collects else _KEYWORD_ONLY
    shown = [each for each in signature.parameters.values() if each.kind not in collects]
    present = {each.name for each in shown}
    for name, option in inspect.signature(TaskOptions).parameters.items():
        if name not in present:
            shown.append(option.replace(kind=kind))
    vars(function)["__signature__"] = signature.replace(parameters=shown)
    options, text = inspect.getdoc(TaskOptions), inspect.getdoc(documented)
    if options and text:  # there are none under -OO
        documented.__doc__ = text.replace("{options}", options[options.index(":param") :])
    return documented
