"""What tasks say of other tasks that they run after, and of the engines that they may run on."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

from ipython1.checks import check_bool, check_int
from ipython1.kernel.wire.tasklinks import FAILURE, FOLLOW, MOST_LINKS, SUCCESS, Links
from ipython1.kernel.wire.taskwire import MOST_TARGETS

_MOST_ID: Final = 2**63 - 1


@dataclass(frozen=True)
class After:
    """Tasks that another task runs after, and how they must have come out.

    A task whose wish cannot come true any more is not run; it fails with ``DependencyFailed``.

    :param tasks: a task id, a ``TaskResult``, or several of either.
    :param success: whether the task runs when they have succeeded; default True.
    :param failure: whether it runs when they have failed, have been aborted or were not run themselves; default False.
    :raises TypeError: if an argument has the wrong type.
    :raises ValueError: if both are False.
    """

    tasks: Any
    success: bool = True
    failure: bool = False

    def __post_init__(self) -> None:
        ids = [_id_of(task, "tasks") for task in _items(self.tasks, "tasks")]
        set_attribute = object.__setattr__
        set_attribute(self, "tasks", tuple(dict.fromkeys(ids)))
        set_attribute(self, "success", check_bool("success", self.success))
        set_attribute(self, "failure", check_bool("failure", self.failure))
        if not (self.success or self.failure):
            raise ValueError("After(..., success=False, failure=False) can never come true")

    @property
    def flags(self) -> int:
        """They as they travel."""
        return (SUCCESS if self.success else 0) | (FAILURE if self.failure else 0)


Others: TypeAlias = tuple[int | After, ...]
"""Task ids, which mean that these must have succeeded, and what else was said of some."""


def _is_number(value: Any) -> bool:
    """Return whether it is one int, of whatever type; arrays have the method as well."""
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


def _items(value: Any, name: str) -> list[Any]:
    if isinstance(value, After) or _is_number(value) or hasattr(value, "taskid"):
        return [value]
    if (
        hasattr(value, "addCallback")
        or hasattr(value, "add_done_callback")
        or getattr(value, "gives_values", False)
    ):
        # Many of these can be iterated over, and what they give may look like ids.
        raise TypeError(
            f"{name} must be tasks, and {value!r:.100} is none: its items are values, not task ids; wait for it, or "
            "use submit() for each item and name what that returns"
        )
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping)):
        return list(value)
    raise TypeError(
        f"{name} must be a task id (an int, as returned by run), a TaskResult, an After, or several of these, "
        f"not {value!r:.100}"
    )


def _id_of(task: Any, name: str) -> int:
    number = getattr(task, "taskid", task)
    if isinstance(number, bool) or not _is_number(number):
        raise TypeError(
            f"{name} must be task ids (ints, as returned by run) or TaskResults, not {task!r:.100}"
        )
    return check_int(f"a task id in {name}", int(number.__index__()), 0, _MOST_ID)


def check_others(name: str, value: Any) -> Others:
    """Return what ``after`` or ``follow`` is given in a form that does not change.

    :raises TypeError, ValueError: if it is not as described for :class:`After`.
    """
    if isinstance(value, tuple) and not value:
        return ()
    return tuple(
        [
            each if isinstance(each, After) else _id_of(each, name)
            for each in _items(() if value is None else value, name)
        ]
    )


@lru_cache(256)
def pack_links(after: Others, follow: Others) -> Links:
    """Pack what a task says of others.

    :raises ValueError: if they are too many.
    """
    ids: dict[int, dict[int, None]] = {}
    for others, flag in ((follow, FOLLOW), (after, 0)):
        for each in others:
            tasks, flags = (
                (each.tasks, each.flags) if isinstance(each, After) else ((each,), SUCCESS)
            )
            # Who follows a task waits for it as well.
            known = ids.get(flags | FOLLOW, {})
            chosen = ids.setdefault(flags | flag, {})
            chosen.update((task_id, None) for task_id in tasks if flag or task_id not in known)
    links = Links.pack(ids.items())
    if len(links) > MOST_LINKS:
        number = sum(map(len, ids.values()))
        raise ValueError(
            f"a task cannot run after {number} tasks whose ids are so far apart; let tasks in between wait for some "
            "of them each"
        )
    return links


class Properties(dict[str, Any]):
    """Properties that an engine must have, with these values, to run a task; a function of its properties."""

    def __call__(self, properties: Mapping[str, Any]) -> bool:
        return all(name in properties and properties[name] == self[name] for name in self)


@dataclass(frozen=True)
class Both:
    """Properties that an engine must have, and a function of its properties that must give true as well."""

    wanted: Properties
    depend: Callable[[dict[str, Any]], Any]

    def __call__(self, properties: dict[str, Any]) -> bool:
        return self.wanted(properties) and bool(self.depend(properties))


Targets: TypeAlias = tuple[int, ...] | Properties | None


def check_targets(value: Any) -> Targets:
    """Return ``targets`` in a form that does not change.

    :raises TypeError, ValueError: if they are neither ids of engines, nor properties, nor None.
    """
    if value is None or isinstance(value, Properties):
        return value
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise TypeError(f"a property in targets must be named by a str, not {name!r:.100}")
        if not value:
            raise ValueError("targets must not be an empty dict; leave them out for any engine")
        for name, wanted in value.items():
            _check_comparable(name, wanted)
        return Properties(value)
    ids = [value] if _is_number(value) else value
    if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
        raise TypeError(
            "targets must be the id of an engine (an int), a list of them, a dict of properties that an engine must "
            f"have, or None for any engine, not {value!r:.100}"
        )
    found = sorted({_engine(each) for each in ids})
    if not found:
        raise ValueError("targets must not be empty; leave them out for any engine")
    if len(found) > MOST_TARGETS:
        raise ValueError(
            f"targets can name up to {MOST_TARGETS} engines, not {len(found)}; name a property instead"
        )
    return tuple(found)


def _check_comparable(name: str, wanted: Any) -> None:
    """Refuse what no property of an engine could be found equal to, for which the task would wait for ever."""
    try:
        same = bool(wanted == wanted)
    except Exception as problem:
        raise TypeError(
            f"property {name!r} in targets cannot be a {type(wanted).__name__}, which == does not compare as a whole "
            f"({problem}); use depend= with a function of the engine's properties"
        ) from None
    if not same:
        raise ValueError(
            f"property {name!r} in targets cannot be {wanted!r:.100}, which equals nothing; use depend= with a "
            "function of the engine's properties"
        )


def _engine(value: Any) -> int:
    if isinstance(value, bool) or not _is_number(value):
        raise TypeError(f"targets must be ids of engines (ints), not {value!r:.100}")
    return check_int("the id of an engine in targets", int(value.__index__()), 0, 2**31 - 1)
