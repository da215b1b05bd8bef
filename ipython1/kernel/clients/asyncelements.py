"""The elements of a call's result as an asynchronous iterator, each as soon as it is there."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator
from typing import Any

from ipython1.kernel.calls.awaited import error_for_loop
from ipython1.kernel.calls.calls import Reading
from ipython1.kernel.calls.elements import Cursor, Layout
from ipython1.kernel.calls.runningcall import Call
from ipython1.kernel.clients.awaitable import AwaitableDeferred, Watched, awaitable


class AsyncElements(Watched):
    """The part of an asynchronous pending result that gives its elements.

    They are what each engine gave, or the items of a map. ``async for`` gives them in order; ``len()`` is their number.
    Where one failed, its engine's exception is raised when it is reached; the next step of the iterator goes on with
    the one after it.  An exception that would end a loop is raised as the ``__cause__`` of a ``RuntimeError``.
    """

    _call: Call
    _laid_out: Layout | None = None

    @abstractmethod
    def get_result(self, default: Any = None, block: bool = True) -> AwaitableDeferred:
        """Return a Deferred of the whole result."""

    @abstractmethod
    def _reading(self, key: int) -> Reading:
        """Return what a part of the call gave."""

    def _layout(self) -> Layout | None:
        if self._laid_out is None:
            self._laid_out = Layout.of(self._call.request, self._call.keys)
        return self._laid_out

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        layout = self._layout()
        if layout is None:
            raise TypeError(
                f"the number of elements of the result of {self._call.request.name} is known only when it is there: "
                "await get_result()"
            )
        return len(layout)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._iterate(completed=False, numbered=False)

    def as_completed(self, *, numbered: bool = False) -> AsyncIterator[Any]:
        """Iterate over the elements in the order in which the engines are done.

        :param numbered: whether to yield pairs of an element's position, from 0, and the element; default: False.
        :returns: an asynchronous iterator.  Where an element failed, it raises the engine's exception, and goes on
            after that.
        """
        return self._iterate(completed=True, numbered=numbered)

    def _iterate(self, completed: bool, numbered: bool) -> AsyncIterator[Any]:
        layout = self._layout()
        if layout is None:
            return self._whole(numbered)
        return _Iteration(self, layout, Cursor(layout, completed), numbered)

    async def _whole(self, numbered: bool) -> AsyncIterator[Any]:
        for number, value in enumerate(await self.get_result()):
            yield (number, value) if numbered else value

    def get_dict(self) -> AwaitableDeferred:
        """Return what each engine gave, by its id; of a map, the list of the results of its items.

        :returns: a Deferred of a dict.  It fails as that of :meth:`get_result` does, and with ``TypeError`` if the
            result has nothing for each engine.
        """
        return awaitable(self._get_dict())

    async def _get_dict(self) -> dict[int, Any]:
        await self.get_result()
        layout = self._layout()
        if layout is None:
            raise TypeError(f"the result of {self._call.request.name} has nothing for each engine")
        return layout.by_engine(self._reading)

    async def _change(self) -> None:
        """Wait until something of the call has changed."""
        changed = AwaitableDeferred()

        def tell() -> None:
            if not changed.called:
                changed.callback(None)

        self._call.watch(tell)
        try:
            await changed
        finally:
            self._call.unwatch(tell)


class _Iteration(AsyncIterator[Any]):
    """Iterates over the elements; several coroutines may do so together."""

    def __init__(
        self, elements: AsyncElements, layout: Layout, cursor: Cursor, numbered: bool
    ) -> None:
        self._elements = elements
        self._layout = layout
        self._cursor = cursor
        self._numbered = numbered

    async def __anext__(self) -> Any:
        number = await self._next()
        reading = self._elements._reading(self._layout.part_of(number))
        value, failure = self._layout.entry(number, reading)
        if failure is not None:
            raise error_for_loop(failure).with_traceback(None)
        return (number, value) if self._numbered else value

    async def _next(self) -> int:
        """Wait for the next element, and return its number."""
        elements, cursor = self._elements, self._cursor
        while not cursor.over:
            number = cursor.peek(elements._call.outcomes)
            if number is not None:
                cursor.advance()
                return number
            if elements.ready:
                cursor.give_up()
                await elements.get_result()  # raises why the call ended without that
            else:
                await elements._change()
        raise StopAsyncIteration
