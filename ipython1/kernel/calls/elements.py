"""The elements of a call's result, one by one, each as soon as it is there.

The elements of a map are its items, those of other calls what each engine gave.
"""

from __future__ import annotations

import operator
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from queue import Empty, SimpleQueue
from typing import Any, Final

from ipython1.checks import check_timeout
from ipython1.kernel.basics.error import CompositeError, describe_exception
from ipython1.kernel.basics.othernames import NamesHelp
from ipython1.kernel.basics.publicmethods import reporting
from ipython1.kernel.calls.attendance import interrupted
from ipython1.kernel.calls.calls import Entry, Reading, Request
from ipython1.kernel.calls.othernames import PENDING
from ipython1.kernel.calls.runningcall import Call, engine_of
from ipython1.kernel.calls.twistedutil import reactor_in_thread, refuse_in_reactor_thread
from ipython1.kernel.objects.enginewaits import waiting
from ipython1.notebook.frontend import person_waits

CONDITIONS: Final = (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION)


class Layout:
    """Which element comes from which part of a call.

    :param request: the request of the call.
    :param keys: the parts, in order, by their keys.
    :param numbers: the numbers of each part's elements.
    """

    def __init__(
        self, request: Request, keys: Sequence[int], numbers: Sequence[Sequence[int]]
    ) -> None:
        self._request = request
        self._places: list[tuple[int, int]] = [(0, 0)] * sum(map(len, numbers))
        self.numbers: dict[int, Sequence[int]] = dict(zip(keys, numbers, strict=True))
        self._entries: dict[int, list[Entry]] = {}
        for key, own in self.numbers.items():
            for position, number in enumerate(own):
                self._places[number] = (key, position)

    @classmethod
    def of(cls, request: Request, keys: Sequence[int]) -> Layout | None:
        """Create the layout of a call; None if its result does not consist of such elements."""
        if request.items is not None:
            places = request.items.places()
            return (
                None if places is None or len(places) != len(keys) else cls(request, keys, places)
            )
        if request.conclude is not None or not (request.listed or request.single):
            return None
        return cls(request, keys, [(number,) for number in range(len(keys))])

    def __len__(self) -> int:
        return len(self._places)

    def part_of(self, number: int) -> int:
        """Return the key of the part that an element comes from."""
        return self._places[number][0]

    def entry(self, number: int, reading: Reading) -> Entry:
        """Return an element, from what its part gave."""
        key, position = self._places[number]
        return self.entries(key, reading)[position]

    def entries(self, key: int, reading: Reading) -> list[Entry]:
        """Return all elements of a part."""
        entries = self._entries.get(key)
        if entries is None:
            entries = self._entries[key] = self._read(key, reading)
        return entries

    def _read(self, key: int, reading: Reading) -> list[Entry]:
        request = self._request
        if request.items is not None:
            entries = request.items.entries(reading, self.numbers[key])
            return [self._raisable(each, reading) for each in entries]
        if reading.failure is not None:
            return [self._raisable(Entry(None, reading.failure), reading)]
        return [Entry(request.one(reading.value) if request.single else reading.value)]

    def by_engine(self, read: Callable[[int], Reading]) -> dict[int, Any]:
        """Return what each engine gave, by its id; of a map, the list of its items.

        :param read: returns what a part of the call gave.
        :raises Exception: that of an element that failed.
        """
        found: dict[int, Any] = {}
        for key in self.numbers:
            values = [each.get() for each in self.entries(key, read(key))]
            if self._request.items is None:
                found[key] = values[0]
            else:
                found.setdefault(engine_of(key), []).extend(values)
        return found

    def _raisable(self, entry: Entry, reading: Reading) -> Entry:
        """Return an entry that ends neither this program nor a loop over the elements as if all were well."""
        failure = entry.failure
        if failure is None or (
            isinstance(failure, Exception) and not isinstance(failure, StopIteration)
        ):
            return entry
        told = (type(failure), failure, reading.text or describe_exception(failure))
        return Entry(None, CompositeError(self._request.name, [told], [reading.engine_id]))


class Cursor:
    """Says which element an iterator gives next; knows nothing of waiting.

    :param completed: whether they come in the order in which they arrive, or in their own.
    """

    def __init__(self, layout: Layout, completed: bool) -> None:
        self._layout = layout
        self._completed = completed
        self._given = 0
        self._seen: set[int] = set()
        self._there: deque[int] = deque()

    @property
    def over(self) -> bool:
        """Whether all were given."""
        return self._given >= len(self._layout)

    def peek(self, outcomes: Mapping[int, object]) -> int | None:
        """Return the number of the next element; None if it is not there.

        :param outcomes: of the parts that are there, by their keys, in the order of their arrival.
        """
        if not self._completed:
            there = self._layout.part_of(self._given) in outcomes
            return self._given if there else None
        if not self._there:
            new = [each for each in list(outcomes) if each not in self._seen]
            self._seen.update(new)
            for key in new:
                self._there.extend(self._layout.numbers[key])
        return self._there[0] if self._there else None

    def advance(self) -> None:
        """Note that the next element was given."""
        self._given += 1
        if self._completed:
            self._there.popleft()

    def give_up(self) -> None:
        """Note that nothing more comes."""
        self._given = len(self._layout)


class Elements(NamesHelp):
    """The part of a pending result that gives its elements.

    Iteration yields them in order, and waits for each.  ``len()`` is their number; ``pending[0]`` and slices give them
    by position.  Where one failed, its engine's exception is raised when it is reached; the others can still be got.
    One that would end this program, such as ``SystemExit``, is raised as a ``CompositeError``.
    """

    _elsewhere = PENDING
    name: str
    prints: bool
    _call: Call | None
    _known: dict[int, Reading]
    _decode_lock: threading.Lock
    _begun: float
    _ended: float | None
    _laid_out: Layout | None = None

    def done(self) -> bool:
        raise NotImplementedError

    def result(self, timeout: float | None = None) -> Any:
        raise NotImplementedError

    def exception(self, timeout: float | None = None) -> BaseException | None:
        raise NotImplementedError

    def _read(self, call: Call, key: int) -> Reading:
        """Return what a part of the call gave."""
        raise NotImplementedError

    @property
    def outputs(self) -> Mapping[int, Mapping[str, Any]]:
        raise NotImplementedError

    # -- waiting

    def _wait_until(self, over: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until ``over``, or the call is; returns whether one of these is so.

        :raises WaitInterrupted: on Ctrl-C.
        """
        call = self._call
        if over() or self.done() or call is None:
            return True
        refuse_in_reactor_thread()
        if reactor_in_thread.ended:
            reactor_in_thread.check()
        deadline = None if timeout is None else time.monotonic() + timeout
        changes: SimpleQueue[None] = SimpleQueue()

        def changed() -> None:
            changes.put(None)

        call.watch(changed)
        try:
            with waiting(self):  # type: ignore[arg-type]
                call.end.read_until(lambda: over() or self.done(), timeout)
                while not (over() or self.done()):
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        return False
                    try:
                        changes.get(timeout=left)
                    except Empty:
                        return over() or self.done()
        except KeyboardInterrupt:
            raise interrupted([self]) from None  # type: ignore[list-item]
        finally:
            call.unwatch(changed)
        return True

    @reporting
    def wait(self, timeout: float | None = None, return_when: str = ALL_COMPLETED) -> bool:
        """Wait until engines are done; does not raise their errors.

        :param timeout: the maximum time to wait, in seconds; default: no limit.
        :param return_when: one of the constants of ``concurrent.futures``: ``ALL_COMPLETED`` (default),
            ``FIRST_COMPLETED`` (one engine is done), or ``FIRST_EXCEPTION`` (one engine failed, or all are done).
        :returns: whether it is so.
        :raises WaitInterrupted: on Ctrl-C; the call keeps running.
        """
        if return_when not in CONDITIONS:
            raise ValueError(
                f"return_when must be one of {', '.join(CONDITIONS)}, not {return_when!r}"
            )
        timeout = check_timeout("timeout", timeout)
        if self._call is None:
            return self._wait_for_answer(timeout)
        if return_when == FIRST_COMPLETED:
            return self._wait_until(self._any_is_done, timeout)
        if return_when == FIRST_EXCEPTION:
            return self._wait_until(lambda: bool(self.failures()), timeout)
        return self._wait_until(self.done, timeout)

    def _any_is_done(self) -> bool:
        return self._call is not None and bool(self._call.outcomes)

    def _wait_for_answer(self, timeout: float | None) -> bool:
        raise NotImplementedError

    def failures(self) -> dict[int, BaseException]:
        """Return the errors so far, also while the call is running on other engines.

        :returns: the exceptions by engine id.
        """
        call = self._call
        if call is None:
            return {}
        found: dict[int, BaseException] = {}
        with self._decode_lock:
            for each in list(call.outcomes.values()):
                problem = call.request.problem_of(each, self._known)
                if problem is not None:
                    found.setdefault(each.engine_id, problem)
        return found

    def whole_outputs(self, ids: Iterable[int]) -> dict[int, dict[str, str]]:
        """Return what engines wrote, also while the call is running on other engines.

        :param ids: the engines that are asked about.
        :returns: ``stdout`` and ``stderr`` by engine id, of those that are done.
        """
        call = self._call
        if call is None:
            return {}
        found = {each: {"stdout": "", "stderr": ""} for each in set(ids) - set(call.unfinished)}
        with self._decode_lock:
            for each in list(call.outcomes.values()) if found else ():
                whole = found.get(each.engine_id)
                if whole is not None:
                    output = call.request.reading(each, self._known).output
                    for stream in whole:
                        whole[stream] += output.get(stream) or ""
        return found

    # -- elements

    def _layout(self) -> Layout | None:
        """Return where the elements come from; None if only the whole result tells them."""
        call = self._call
        if self._laid_out is None and call is not None:
            self._wait_until(lambda: call.is_accepted)
            if not call.keys:
                self.result()  # raises why it was refused
            self._laid_out = Layout.of(call.request, call.keys)
        return self._laid_out

    def _whole(self) -> Sequence[Any]:
        result = self.result()
        if not hasattr(result, "__getitem__"):
            raise TypeError(f"the result of {self.name} is no list; get_result() returns it")
        whole: Sequence[Any] = result
        return whole

    def _entry(self, layout: Layout, number: int) -> Entry:
        key, call = layout.part_of(number), self._call
        assert call is not None
        self._wait_until(lambda: key in call.outcomes)
        if key not in call.outcomes:
            self.result()  # raises why the call ended without that
        return layout.entry(number, self._read(call, key))

    def _all_read(self) -> None:
        """Do after the last element what reading the whole does: warn of missing parts, show what was printed."""
        call = self._call
        arranges = call is not None and call.request.arrange is not None
        if self.done() and (arranges or (self.prints and person_waits())):
            self.exception()

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        layout = self._layout()
        return len(self._whole()) if layout is None else len(layout)

    def __iter__(self) -> Iterator[Any]:
        layout = self._layout()
        return iter(self._whole()) if layout is None else _Iteration(self, layout, False, False)

    def __getitem__(self, which: int | slice) -> Any:
        __tracebackhide__ = True
        layout = self._layout()
        if layout is None:
            return self._whole()[which]
        if isinstance(which, slice):
            return [self._entry(layout, each).get() for each in range(len(layout))[which]]
        try:
            position = operator.index(which)
        except TypeError:
            raise TypeError(
                f"results are numbered from 0, so the index must be an int or a slice, not {which!r}; "
                "get_dict() returns them by engine id"
            ) from None
        if not -len(layout) <= position < len(layout):
            raise IndexError(f"{self.name} has {len(layout)} results, numbered from 0")
        return self._entry(layout, position % len(layout)).get()

    @reporting
    def as_completed(self, *, numbered: bool = False) -> Iterator[Any]:
        """Iterate over the elements in the order in which the engines are done.

        :param numbered: whether to yield pairs of an element's position and the element; default: False.
        :returns: an iterator.  Where an element failed, it raises the engine's exception, and goes on after that.
        """
        layout = self._layout()
        if layout is not None:
            return _Iteration(self, layout, True, numbered)
        return iter(enumerate(self._whole()) if numbered else self._whole())

    @reporting
    def get_dict(self, timeout: float | None = None) -> dict[int, Any]:
        """Return what each engine gave, by its id; of a map, the list of the results of its items.

        :param timeout: the maximum time to wait, in seconds; default: no limit.
        :raises: as :meth:`get_result`.
        """
        call, layout = self._call, self._layout()
        self.get_result(timeout=timeout)
        if layout is None or call is None:
            raise TypeError(f"the result of {self.name} has nothing for each engine")
        return layout.by_engine(lambda key: self._read(call, key))

    def get_result(
        self, default: Any = None, block: bool = True, timeout: float | None = None
    ) -> Any:
        raise NotImplementedError

    # -- times

    @property
    def wall_time(self) -> float:
        """Seconds from the call until the last engine was done, or until now."""
        return (time.monotonic() if self._ended is None else self._ended) - self._begun

    @property
    def serial_time(self) -> float:
        """Seconds that code took on the engines, added up; of those that are done so far.

        The quotient of this and :attr:`wall_time` is the speedup.
        """
        call = self._call
        if call is None:
            return 0.0
        outputs = [self._read(call, key).output for key in list(call.outcomes)]
        return float(sum(each.get("duration", 0.0) for each in outputs))


class _Iteration:
    """Iterates over the elements."""

    def __init__(self, elements: Elements, layout: Layout, completed: bool, numbered: bool) -> None:
        self._elements = elements
        self._layout = layout
        self._cursor = Cursor(layout, completed)
        self._numbered = numbered

    def __iter__(self) -> _Iteration:
        return self

    def __next__(self) -> Any:
        __tracebackhide__ = True
        if self._cursor.over:
            self._elements._all_read()
            raise StopIteration
        number = self._wait()
        value = self._elements._entry(self._layout, number).get()
        return (number, value) if self._numbered else value

    def _wait(self) -> int:
        """Wait for the next element, and return its number; a wait that was interrupted can be repeated."""
        elements, cursor, call = self._elements, self._cursor, self._elements._call
        assert call is not None
        elements._wait_until(lambda: cursor.peek(call.outcomes) is not None)
        number = cursor.peek(call.outcomes)
        if number is None:
            cursor.give_up()
            elements.result()  # raises why the call ended without that
        assert number is not None
        cursor.advance()
        return number
