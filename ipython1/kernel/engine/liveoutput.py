"""What code has written and displayed since the last look, in the form in which it is sent to those who watch it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from ipython1.core.condenser import Condenser
from ipython1.core.livedisplays import LiveDisplays
from ipython1.core.texts import shorten
from ipython1.kernel.objects.mapparts import count_items

STREAM_INTERVAL: Final = 0.05
"""Seconds between looks at the output of running code."""

STREAM_MOST: Final = 60_000
"""Characters that are sent of what came between two looks; fit into one frame.  The result itself has all of it."""

DISPLAY: Final = "display"
"""The name under which displayed objects are sent, among the names of streams; the text is JSON."""

ITEMS: Final = "items"
"""The name under which it is sent how many items of a map are done."""

STREAMS: Final = ("stdout", "stderr")


class OutputSource(Protocol):
    """Gives what running code has written since the last look; see :class:`~ipython1.core.capture.OutputCapture`."""

    @property
    def peeked_in(self) -> int: ...

    def peek(self) -> tuple[str, str]: ...


class LiveOutput:
    """Looks at what code writes and displays while it runs.

    A bar that is drawn thousands of times a second is sent once for each look, as it is then.

    :param source: what it writes.
    :param displays: what it displays.
    """

    def __init__(self, source: OutputSource, displays: LiveDisplays) -> None:
        self._source = source
        self.displays = displays
        self._key: object = None
        self._condensers: tuple[Condenser, ...] = ()
        self._items = (0, 0)
        self._left = ("", "")
        self._left_in = -1

    def look(self, key: object, runs: Callable[[], bool]) -> list[tuple[str, bytes]]:
        """Return what a piece of code has written and displayed since the last look: names of streams, and texts.

        :param key: identifies the code.
        :param runs: tells whether it still runs.
        """
        if key != self._key:
            self._key = key
            self._condensers = (Condenser(), Condenser())
            self._items = (0, 0)
        texts = self._source.peek()
        if self._left_in >= 0:
            if self._left_in == self._source.peeked_in:
                texts = (self._left[0] + texts[0], self._left[1] + texts[1])
            self._left_in = -1
        if not runs():
            # It may be of what runs now, which is decided when that is looked at.
            self._left, self._left_in = texts, self._source.peeked_in
            return []
        found = [
            (stream, shorten(condenser.condense(text), STREAM_MOST).encode(errors="replace"))
            for stream, text, condenser in zip(STREAMS, texts, self._condensers, strict=True)
            if text
        ]
        found += self.rest()
        items = count_items()
        if items is not None and items != self._items:
            self._items = items
            found.append((ITEMS, pack_items(items)))
        return [(stream, data) for stream, data in found if data]

    def rest(self) -> list[tuple[str, bytes]]:
        """Return what was displayed and not fetched; from any thread."""
        return [(DISPLAY, steps) for steps in self.displays.take()]

    def ended(self) -> list[tuple[str, bytes]]:
        """Return that, and how many items of a map are done; in the main thread, when a command has ended."""
        items = count_items()
        return self.rest() + ([] if items is None else [(ITEMS, pack_items(items))])


def pack_items(items: tuple[int, int]) -> bytes:
    """Return the text that tells how many items are done, and how many of those failed."""
    return b"%d %d" % items
