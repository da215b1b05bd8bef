"""The output of running commands: stored within limits, and split into lines that are labelled by engine.

:class:`StreamedText` stores the output of one stream of one engine.  :class:`LiveLines` decides what is shown to a
waiting user.  Neither does any I/O.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ipython1.core.terminaltext import TerminalText

MAX_KEPT: Final = 1 << 20
"""Characters per engine and stream that a client keeps while a command runs; older ones are dropped."""

LINES_OF_ONE: Final = (100, 20)
"""Lines of one stream that may be shown in a burst, and per second after that."""

LINES_OF_ALL: Final = (400, 100)
"""The same for all engines together."""

RESUME_WITH: Final = 10
"""Lines that must be allowed before a flood is shown again, as single lines between marks are unreadable."""

MAX_LINE: Final = 2000
"""Characters; longer lines are shortened when they are shown."""

PARTIAL_AFTER: Final = 1.0
"""Seconds after which an incomplete line is shown."""

STEADY_AFTER: Final = 0.3
"""Seconds after which a complete line that was drawn again and again is final."""

BLOCK_STEADY_AFTER: Final = 1.0
"""The same where several lines are drawn together: the cursor is hidden, or has been moved up."""

STREAMS: Final = ("stdout", "stderr")

ITEMS: Final = "items"
"""The name under which engines tell how many items of a map are done, and how many of those have failed."""

Key = tuple[int, str]
"""An engine's id and the name of a stream."""

_CUT: Final = re.compile(r"\[\.\.\. \d+ (bytes of output|characters) were cut here \.\.\.\]")


class StreamedText:
    """The last :data:`MAX_KEPT` characters of a growing text; thread-safe."""

    def __init__(self, most: int = MAX_KEPT) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._pieces: deque[str] = deque()
        self._begin = 0
        self._end = 0

    def add(self, text: str) -> None:
        """Append text."""
        with self._lock:
            self._pieces.append(text)
            self._end += len(text)
            while self._pieces and self._end - self._begin - len(self._pieces[0]) >= self._most:
                self._begin += len(self._pieces.popleft())

    def since(self, position: int) -> tuple[str, int]:
        """Return the text after a position.

        :param position: a number of characters.
        :returns: the text that is still available, and the number of characters before it that were dropped.
        """
        with self._lock:
            text = "".join(self._pieces)
            begin = self._begin
        return text[max(position - begin, 0) :], max(begin - position, 0)

    def __str__(self) -> str:
        text, dropped = self.since(0)
        return f"[... {dropped} characters were cut here ...]\n{text}" if dropped else text


@dataclass(slots=True)
class Displayed:
    """What an engine has displayed while the command ran.

    :ivar count: the number of objects.
    :ivar places: which of them were shown at once.
    """

    count: int = 0
    places: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Shown:
    """The part of a command's output that was already shown.

    :ivar counts: the number of characters of each stream.
    :ivar cut: the streams of which something was left out.
    :ivar moment: the input of the session during which it was shown; in later ones, everything is shown again.
    :ivar lasts: the last line of each stream that was shown.
    :ivar displayed: the displayed objects that were shown, by engine.
    """

    counts: dict[Key, int] = field(default_factory=dict)
    cut: set[Key] = field(default_factory=set)
    moment: object = None
    lasts: dict[Key, str] = field(default_factory=dict)
    displayed: dict[int, Displayed] = field(default_factory=dict)

    def rest(self, engine_id: int, stream: str, text: str) -> str:
        """Return the part of ``text``, the whole output, that remains to be shown."""
        key = (engine_id, stream)
        if key in self.cut:
            return ""
        count, last = self.counts.get(key, 0), self.lasts.get(key, "")
        if f"{text}\n"[max(count - len(last), 0) : count] != last:
            return text  # live output has got lost on its way
        return text[count:]

    def undisplayed(self, engine_id: int, displayed: Sequence[Any]) -> Sequence[Any]:
        """Return the displayed objects that remain to be shown; all of them if some were not heard of before."""
        known = self.displayed.get(engine_id)
        if known is None or known.count != len(displayed):
            return displayed
        return [each for place, each in enumerate(displayed) if place not in known.places]


class _Allowance:
    """A token bucket: a burst, refilled at a constant rate."""

    def __init__(self, burst: int, per_second: int) -> None:
        self._burst = burst
        self._per_second = per_second
        self.left = float(burst)

    def refill(self, seconds: float) -> None:
        self.left = min(self._burst, self.left + seconds * self._per_second)


class _Stream:
    """One engine's stdout or stderr as on a terminal, and the number of lines left out.

    :ivar settled: the number of the first line that was not shown as a final one.
    :ivar sizes: the characters of the lines before that which can still change, by number.
    :ivar touched: when each of the lines that can still change was last written.
    :ivar since: since when the line with the cursor has it, and the number of that line.
    :ivar hinted: the text of the incomplete line that was shown, and when.
    """

    def __init__(self, now: float) -> None:
        self.terminal = TerminalText()
        self.settled = 0
        self.sizes: dict[int, int] = {}
        self.touched: dict[int, float] = {0: now}
        self.since = (0, now)
        self.hinted = ("", now)
        self.left_out = 0
        self.allowance = _Allowance(*LINES_OF_ONE)

    def begin_again(self) -> None:
        """Begin with an empty terminal."""
        self.terminal = TerminalText()
        self.settled = 0
        self.sizes.clear()
        self.touched.clear()


class LiveLines:
    """Splits the output of engines into lines for display, no faster than can be read.

    Lines that arrive too fast are left out, with a mark that shows their number.  A flood from one engine does not
    suppress the output of others.  A line is final when it is complete; one that is drawn again and again, such as a
    progress bar, when it has not changed for a while.  :meth:`moving` gives the lines that are not final.

    :param clock: returns the time in seconds.
    :param more: where the lines are that are left out, for the marks.
    :param hints: whether an incomplete line is shown after a while like a complete one, as :meth:`moving` is not used.
    :ivar shown: the output that was processed so far.
    """

    def __init__(
        self, clock: Callable[[], float], more: str = "the result has more", hints: bool = True
    ) -> None:
        self._clock = clock
        self._more = more
        self._hints = hints
        self._now = clock()
        self._streams: dict[Key, _Stream] = {}
        self._allowance = _Allowance(*LINES_OF_ALL)
        self.shown: Shown = Shown()

    def feed(self, key: Key, text: str, dropped: int = 0) -> Iterator[tuple[Key, str]]:
        """Process ``text``, before which ``dropped`` characters were lost; yield the lines to show."""
        self._refill()
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = _Stream(self._now)
        if dropped or _CUT.search(text):
            self.shown.cut.add(key)
        stream.terminal.feed(text)
        self._note_changes(key, stream)
        number = stream.terminal.rows[stream.terminal.row].number
        if number != stream.since[0]:
            stream.since = (number, self._now)
        yield from self._settle(key, stream)

    def _note_changes(self, key: Key, stream: _Stream) -> None:
        terminal = stream.terminal
        for row in (*terminal.gone, *terminal.rows):
            if row.changed:
                row.changed = False
                stream.touched[row.number] = self._now
                if row.number < stream.settled:
                    self._take_back(key, stream, row.number)

    def _take_back(self, key: Key, stream: _Stream, number: int) -> None:
        """A final line has changed, so it and those below are shown again."""
        for each in range(number, stream.settled):
            self.shown.counts[key] -= stream.sizes.pop(each, 0)
        self.shown.lasts.pop(key, None)
        stream.settled = number

    def _settle(self, key: Key, stream: _Stream) -> Iterator[tuple[Key, str]]:
        """Yield the lines that are final now."""
        terminal = stream.terminal
        cursor = terminal.rows[terminal.row].number
        gone = len(terminal.gone)
        for place, row in enumerate((*terminal.gone, *terminal.rows)):
            if row.number < stream.settled:
                continue
            moves = row.rewritten or terminal.hidden
            limit = BLOCK_STEADY_AFTER if terminal.hidden or terminal.went_up else STEADY_AFTER
            recent = self._now - stream.touched.get(row.number, 0.0) < limit
            if place >= gone and (not row.end or row.number >= cursor or (moves and recent)):
                break
            stream.settled = row.number + 1
            line = str(row)
            stream.sizes[row.number] = len(line) + len(row.end)
            self.shown.lasts[key] = line + row.end
            yield from self._line(key, stream, line, len(line) + len(row.end))
        if gone:
            terminal.gone.clear()
            first = terminal.rows[0].number
            for of_rows in (stream.sizes, stream.touched):
                for number in [each for each in of_rows if each < first]:
                    del of_rows[number]

    def moving(self) -> list[tuple[Key, str]]:
        """Return the lines that are not final: incomplete ones, and those that are drawn again and again."""
        found: list[tuple[Key, str]] = []
        for key, stream in sorted(self._streams.items()):
            lines = [str(row) for row in stream.terminal.rows if row.number >= stream.settled]
            found += [(key, _as_seen(line)) for line in lines if line.strip()]
        return found

    def close(self, key: Key, rest: str) -> Iterator[tuple[Key, str]]:
        """Process ``rest``, the remaining output of a stream that is complete; yield the lines to show."""
        if key in self._streams:
            self._streams[key].begin_again()
        if rest:
            yield from self.feed(key, rest if rest.endswith("\n") else rest + "\n")

    def tick(self) -> Iterator[tuple[Key, str]]:
        """Yield the lines that are due: those that have come to rest, and marks for lines that were left out."""
        self._refill()
        for key, stream in self._streams.items():
            yield from self._settle(key, stream)
            if self._hints:
                yield from self._hint(key, stream)
            if stream.left_out and self._allows(stream):
                yield key, self._mark(stream)

    def _hint(self, key: Key, stream: _Stream) -> Iterator[tuple[Key, str]]:
        line = str(stream.terminal.rows[stream.terminal.row])
        before, when = stream.hinted
        due = self._now - max(when, stream.since[1]) >= PARTIAL_AFTER
        if due and line.strip() and line != before:
            stream.hinted = (line, self._now)
            yield key, _as_seen(line)

    def end(self) -> Iterator[tuple[Key, str]]:
        """Yield the marks that were not shown yet."""
        for key, stream in self._streams.items():
            if stream.left_out:
                yield key, self._mark(stream)

    def _refill(self) -> None:
        now = self._clock()
        self._allowance.refill(now - self._now)
        for stream in self._streams.values():
            stream.allowance.refill(now - self._now)
        self._now = now

    def _allows(self, stream: _Stream) -> bool:
        least = RESUME_WITH if stream.left_out else 1
        return self._allowance.left >= least and stream.allowance.left >= least

    def _line(self, key: Key, stream: _Stream, line: str, size: int) -> Iterator[tuple[Key, str]]:
        self.shown.counts[key] = self.shown.counts.get(key, 0) + size
        if not self._allows(stream):
            stream.left_out += 1
            self.shown.cut.add(key)
            return
        if stream.left_out:
            yield key, self._mark(stream)
        self._allowance.left -= 1
        stream.allowance.left -= 1
        yield key, _as_seen(line)

    def _mark(self, stream: _Stream) -> str:
        count, stream.left_out = stream.left_out, 0
        return f"[... {count} line{'' if count == 1 else 's'} not shown here; {self._more} ...]"


def _as_seen(line: str) -> str:
    """Return a line shortened if it is too long."""
    if len(line) > MAX_LINE:
        line = f"{line[: MAX_LINE // 2]} [... {len(line) - MAX_LINE} characters ...] {line[-MAX_LINE // 2 :]}"
    return line
