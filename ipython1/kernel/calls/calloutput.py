"""What engines send of a call while it runs: texts, displayed objects, and how many items of a map are done."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from twisted.logger import Logger

from ipython1.kernel.calls.liveoutput import ITEMS, STREAMS, Key, StreamedText
from ipython1.kernel.calls.livesteps import read_items, read_steps
from ipython1.kernel.calls.runningcall import engine_of
from ipython1.kernel.calls.twistedutil import call_own

log: Logger = Logger()

MOST_STEPS: Final = 2000
"""Displayed objects and updates that are kept for who waits; the last ones."""


class CallOutput:
    """The part of a pending result that takes and gives this.

    It is filled in the reactor's thread, and read in any.
    """

    name: str

    def _begin_output(self) -> None:
        self._output_listeners: list[Callable[[int, str, str], None]] = []
        self._output_texts: dict[Key, StreamedText] = {}
        self._items: dict[int, tuple[int, int]] = {}
        self._steps: deque[tuple[int, Any]] = deque(maxlen=MOST_STEPS)

    @property
    def items_done(self) -> tuple[int, int]:
        """How many items of a map are done, and how many of those have failed."""
        counts = list(self._items.values())
        return sum(done for done, _ in counts), sum(failed for _, failed in counts)

    def on_output(self, listener: Callable[[int, str, str], None]) -> None:
        """Call ``listener`` in the reactor's thread for each piece of streamed output.

        :param listener: called as ``listener(engine_id, stream, text)``; ``stream`` is ``'stdout'`` or ``'stderr'``.
        """
        self._output_listeners.append(listener)

    def streams(self) -> list[Key]:
        """Return the pairs of engine id and stream with streamed output so far."""
        return sorted(self._output_texts, key=lambda key: (key[0], key[1] != "stdout"))

    def output_since(self, key: Key, position: int) -> tuple[str, int]:
        """See :meth:`StreamedText.since <ipython1.kernel.calls.liveoutput.StreamedText.since>`."""
        return self._output_texts[key].since(position)

    @property
    def has_widgets(self) -> bool:
        """Whether engines have made widgets that nobody has taken yet."""
        return any(step["do"] == "open" for _, step in list(self._steps))

    def take_steps(self) -> list[tuple[int, Any]]:
        """Return what engines have displayed since the last call, with their ids."""
        steps = self._steps
        return [steps.popleft() for _ in range(len(steps))]

    def _output(self, key: int, stream: str, text: str) -> None:
        if stream == ITEMS:
            self._items[key] = read_items(text)
            return
        engine_id = engine_of(key)
        if stream not in STREAMS:
            self._steps.extend((engine_id, step) for step in read_steps(text))
            return
        self._output_texts.setdefault((engine_id, stream), StreamedText()).add(text)
        if self._output_listeners:
            call_own(partial(self._tell_output, engine_id, stream, text))

    def _tell_output(self, engine_id: int, stream: str, text: str) -> None:
        for listener in list(self._output_listeners):
            try:
                listener(engine_id, stream, text)
            except KeyboardInterrupt:
                raise
            except BaseException:
                # Errors of user code must not end the connection.
                log.failure("an output listener of {name} failed", name=self.name)
