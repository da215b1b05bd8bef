"""The output of running commands: stored within limits, and split into lines that are labelled by engine.

:class:`StreamedText` stores the output of one stream of one engine.  :class:`LiveLines` decides what is shown to a
waiting user.  Neither does any I/O.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

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

STREAMS: Final = ("stdout", "stderr")

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
class Shown:
    """The part of a command's output that was already shown.

    :ivar counts: the number of characters of each stream.
    :ivar cut: the streams of which something was left out.
    :ivar moment: the input of the session during which it was shown; in later ones, everything is shown again.
    """

    counts: dict[Key, int] = field(default_factory=dict)
    cut: set[Key] = field(default_factory=set)
    moment: object = None

    def rest(self, engine_id: int, stream: str, text: str) -> str:
        """Return the part of ``text``, the whole output, that remains to be shown."""
        key = (engine_id, stream)
        if key in self.cut:
            return ""
        return text[self.counts.get(key, 0) :]


class _Allowance:
    """A token bucket: a burst, refilled at a constant rate."""

    def __init__(self, burst: int, per_second: int) -> None:
        self._burst = burst
        self._per_second = per_second
        self.left = float(burst)

    def refill(self, seconds: float) -> None:
        self.left = min(self._burst, self.left + seconds * self._per_second)


class _Stream:
    """One engine's stdout or stderr: the incomplete line, and the number of lines left out."""

    def __init__(self) -> None:
        self.partial = ""
        self.partial_since = 0.0
        self.left_out = 0
        self.allowance = _Allowance(*LINES_OF_ONE)


class LiveLines:
    """Splits the output of engines into lines for display, no faster than can be read.

    Lines that arrive too fast are left out, with a mark that shows their number.  A flood from one engine does not
    suppress the output of others.

    :param clock: returns the time in seconds.
    :param more: where the lines are that are left out, for the marks.
    :ivar shown: the output that was processed so far.
    """

    def __init__(self, clock: Callable[[], float], more: str = "the result has more") -> None:
        self._clock = clock
        self._more = more
        self._now = clock()
        self._streams: dict[Key, _Stream] = {}
        self._allowance = _Allowance(*LINES_OF_ALL)
        self.shown = Shown()

    def feed(self, key: Key, text: str, dropped: int = 0) -> Iterator[tuple[Key, str]]:
        """Process ``text``, before which ``dropped`` characters were lost; yield the lines to show."""
        self._refill()
        stream = self._streams.setdefault(key, _Stream())
        if dropped or _CUT.search(text):
            self.shown.cut.add(key)
        *lines, rest = (stream.partial + text).split("\n")
        if lines or not stream.partial:
            stream.partial_since = self._now
        stream.partial = rest
        for line in lines:
            yield from self._line(key, stream, line, len(line) + 1)

    def close(self, key: Key, rest: str) -> Iterator[tuple[Key, str]]:
        """Process ``rest``, the remaining output of a stream that is complete; yield the lines to show."""
        if key in self._streams:
            self._streams[key].partial = ""
        if rest:
            yield from self.feed(key, rest if rest.endswith("\n") else rest + "\n")

    def tick(self) -> Iterator[tuple[Key, str]]:
        """Yield the lines that are due: incomplete ones, and marks for lines that were left out."""
        self._refill()
        for key, stream in self._streams.items():
            if stream.partial and self._now - stream.partial_since >= PARTIAL_AFTER:
                line, stream.partial = stream.partial, ""
                yield from self._line(key, stream, line, len(line))
            elif stream.left_out and self._allows(stream):
                yield key, self._mark(stream)

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
    """Return a line without text that a carriage return overwrites, shortened if it is too long."""
    if "\r" in line:
        line = next((part for part in reversed(line.split("\r")) if part), "")
    if len(line) > MAX_LINE:
        line = f"{line[: MAX_LINE // 2]} [... {len(line) - MAX_LINE} characters ...] {line[-MAX_LINE // 2 :]}"
    return line
