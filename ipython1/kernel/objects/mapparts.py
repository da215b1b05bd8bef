"""One engine's part of a map: the calls for its items, and what came of each.

An item that fails does not keep the others from running.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from ipython1.core.failures import ExceptionRecord, record_exception
from ipython1.core.texts import clip, short_repr
from ipython1.kernel.basics.error import SerializationError
from ipython1.kernel.objects.brought import ATOMS
from ipython1.kernel.objects.exceptions import exception_of
from ipython1.kernel.objects.serialize import dumps

_WIDTH: Final = 60
_MOST_SHOWN: Final = 100
"""Failed items that are shown; a message about more of them would show no more than that anyway."""


class ItemFailure(NamedTuple):
    """What an item raised.

    :ivar shown: a short ``repr`` of the item; empty if it is not to be shown.
    """

    record: ExceptionRecord
    shown: str = ""


class MapPart(NamedTuple):
    """What came of the items of a part.

    :ivar values: by position, with None for those that failed; it ends early if the part was stopped.
    :ivar failures: by position.
    :ivar stopped: the interrupt that ended the part before its last item, or None.
    """

    values: list[Any]
    failures: dict[int, ItemFailure]
    stopped: ExceptionRecord | None = None

    def results(self) -> list[Any]:
        """Return the values, with exceptions in place of those that failed."""
        results = list(self.values)
        for position, failure in self.failures.items():
            results[position] = exception_of(failure.record)
        return results

    def problem(self) -> BaseException | None:
        """Return the first exception; None if all went well."""
        if self.failures:
            return exception_of(self.failures[min(self.failures)].record)
        return None if self.stopped is None else exception_of(self.stopped)


_present: tuple[list[Any], dict[int, ItemFailure]] | None = None
"""What came of the items of the part that is worked on, or was last."""


def count_items() -> tuple[int, int] | None:
    """Return how many items of the present part are done, and how many of those failed; None without a part.

    From any thread.
    """
    present = _present
    return None if present is None else (len(present[0]), len(present[1]))


def forget_items() -> None:
    """Forget the present part, which is done."""
    global _present
    _present = None


def map_items(function: Callable[..., Any], parts: Sequence[Any]) -> MapPart:
    """Call ``function`` for each item, in a plain loop: whatever it raises, that item alone fails.

    ``KeyboardInterrupt`` ends the part.
    """
    __tracebackhide__ = True
    values: list[Any] = []
    failures = _Failures()
    global _present
    _present = (values, failures)
    add = values.append
    try:
        if len(parts) == 1:
            for item in parts[0]:
                try:
                    add(function(item))
                except KeyboardInterrupt:
                    raise
                except BaseException as problem:
                    failures[len(values)] = failures.of(problem, (item,))
                    add(None)
        else:
            for items in zip(*parts, strict=True):
                try:
                    add(function(*items))
                except KeyboardInterrupt:
                    raise
                except BaseException as problem:
                    failures[len(values)] = failures.of(problem, items)
                    add(None)
    except KeyboardInterrupt as problem:
        return MapPart(values, dict(failures), record_exception(problem))
    return MapPart(values, dict(failures))


class _Failures(dict[int, ItemFailure]):
    """The failures of a part by position; one record for all equal errors, as a mistake often hits every item."""

    def __init__(self) -> None:
        super().__init__()
        self._records: dict[object, ExceptionRecord] = {}

    def of(self, problem: BaseException, items: Sequence[object]) -> ItemFailure:
        shown = show_item(items) if len(self) < _MOST_SHOWN else ""
        likeness = _likeness(problem)
        if likeness is None:
            return ItemFailure(record_exception(problem), shown)
        record = self._records.get(likeness)
        if record is None:
            record = self._records[likeness] = record_exception(problem)
        return ItemFailure(record, shown)


def _likeness(problem: BaseException) -> object:
    """Return an object that is equal for errors with the same record; None if that cannot be told."""
    kind = type(problem)
    chained = problem.__cause__ is not None or problem.__context__ is not None
    if kind.__module__ != "builtins" or chained or vars(problem):
        return None
    about = (*problem.args, getattr(problem, "name", None), getattr(problem, "obj", None))
    kinds = tuple(map(type, about))
    if not ATOMS.issuperset(kinds):
        return None
    places = []
    tb = problem.__traceback__
    while tb is not None:
        places.append((tb.tb_frame.f_code, tb.tb_lineno))
        tb = tb.tb_next
    return kind, kinds, about, tuple(places)


def show_item(items: Sequence[object]) -> str:
    """Return a short ``repr``, in one line, of the items that a function is called with."""
    return clip(", ".join(" ".join(short_repr(item).split()) for item in items), _WIDTH)


def without_unsendable(part: MapPart) -> MapPart:
    """Return a part in which the values that cannot be pickled are failures."""
    values, failures = list(part.values), dict(part.failures)
    for position, value in enumerate(part.values):
        try:
            dumps(value)
        except SerializationError as problem:
            values[position] = None
            failures[position] = ItemFailure(record_exception(problem))
    return MapPart(values, failures, part.stopped)
