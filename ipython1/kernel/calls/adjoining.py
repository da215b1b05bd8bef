"""Receiving the parts of a large array next to each other, so that joining them copies nothing.

The parts are received where they belong in the whole as soon as the lengths of all are known.  If some part does not
begin to come at about the same time as the others, each is received alone, and they are joined by copying.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from ipython1.kernel.wire.bulk import LARGE_BUFFER, Incoming, allocate

PATIENCE: Final = 0.02
"""Seconds from the first part to the last one."""

_DATA: Final = 2
"""The buffer that holds the data, where an array is pulled: after the names, and what says how it is made."""

_wholes: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
"""What was allocated for the parts of one array, and not joined yet, by its id."""


class CallLater(Protocol):
    """The reactor's."""

    def __call__(self, delay: float, call: Callable[[], None], /) -> Any: ...


class Adjoining:
    """The parts of one call.

    ========  ============================================  =====================================
    state     event                                         becomes
    ========  ============================================  =====================================
    waiting   the last part begins to come                  over: all are received side by side
    waiting   a part is of another form; ``PATIENCE``       over: each is received alone
              seconds pass; the call ends
    ========  ============================================  =====================================
    """

    def __init__(self, call_later: CallLater) -> None:
        self._call_later = call_later
        self._waiting: dict[int, Incoming] = {}
        self._timer: Any = None
        self._over = False

    def begins(self, ids: Sequence[int], engine_id: int, incoming: Incoming) -> None:
        """The part of an engine begins to come.

        :param ids: all engines of the call, in order.
        """
        if self._over or len(ids) < 2 or engine_id not in ids or not incoming.hold():
            return
        self._waiting[engine_id] = incoming
        if len(incoming.sizes) != _DATA + 1 or incoming.sizes[_DATA] < LARGE_BUFFER:
            self.end()
        elif len(self._waiting) == len(ids):
            self._side_by_side([self._waiting[each] for each in ids])
            self.end()
        elif self._timer is None:
            self._timer = self._call_later(PATIENCE, self.end)

    def _side_by_side(self, parts: Sequence[Incoming]) -> None:
        try:
            whole = allocate(sum(part.sizes[_DATA] for part in parts))
        except MemoryError:
            return  # each of them says so, or there is room for it alone
        assert isinstance(whole, memoryview)
        _wholes[id(whole.obj)] = whole.obj
        start = 0
        for part in parts:
            end = start + part.sizes[_DATA]
            part.place(_DATA, whole[start:end])
            start = end

    def end(self) -> None:
        """Receive what waits where it is to be received by now."""
        self._over = True
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        waiting, self._waiting = self._waiting, {}
        for incoming in waiting.values():
            incoming.go_on()


def adjoined(arrays: Sequence[Any]) -> Any:
    """Return the array that arrays of numpy make together, if they were received side by side; else None.

    They share its memory, and are not to be used any more.

    :param arrays: of one type, without subclasses.
    """
    import numpy

    first = arrays[0]
    whole = _memory_of(first)
    if whole is None:
        return None
    place = first.ctypes.data
    for array in arrays:
        if (
            array.ctypes.data != place
            or _memory_of(array) is not whole
            or not array.flags.c_contiguous
            or array.shape[1:] != first.shape[1:]
        ):
            return None
        place += array.nbytes
    if not first.dtype.itemsize:
        return None
    joined = numpy.frombuffer(
        whole, first.dtype, (place - first.ctypes.data) // first.dtype.itemsize
    )
    if joined.ctypes.data != first.ctypes.data:
        return None
    _wholes.pop(id(whole), None)
    return joined.reshape(-1, *first.shape[1:])


def _memory_of(array: Any) -> Any:
    base = array.base
    while hasattr(base, "base"):
        base = base.base
    memory = base.obj if isinstance(base, memoryview) else base
    return memory if memory is not None and _wholes.get(id(memory)) is memory else None
