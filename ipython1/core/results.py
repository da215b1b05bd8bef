"""The results of commands and tasks, as plain data."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, NamedTuple

from ipython1.checks import check_int
from ipython1.core.failures import ExceptionRecord

MimeBundle = dict[str, Any]
"""Representations of one object: MIME type to text, bytes or JSON-like data."""

Displayed = tuple[MimeBundle, dict[str, Any]]
"""An object that was displayed: its representations and their metadata."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of one command of an engine's session.

    :ivar number: the command's number, from 1.
    :ivar raw: the source as received.
    :ivar translated: the Python code that was run, with magics and shell commands rewritten.
    :ivar stdout: what it printed, including C code and programs that it started.
    :ivar stderr: the same for standard error.
    :ivar result: the value of its last expression, or None if there is none.
    :ivar display: the objects it displayed, including figures.
    :ivar started: when it started, in seconds since the epoch.
    :ivar completed: when it ended, in seconds since the epoch.
    :ivar duration: how long it took, in seconds.
    :ivar failure: the exception it raised, or None.
    :ivar result_metadata: the metadata of ``result``, by MIME type; usually empty.
    """

    number: int
    raw: str
    translated: str
    stdout: str
    stderr: str
    result: MimeBundle | None
    display: tuple[Displayed, ...]
    started: float
    completed: float
    duration: float
    failure: ExceptionRecord | None = None
    result_metadata: dict[str, Any] | None = None

    def to_dict(self, engine_id: int) -> dict[str, Any]:
        """Return the dict that a client's ``execute`` returns for an engine, without absent or empty items.

        The times are local and have the form ``"2008/03/08 03:41:42"``.
        """
        shown: dict[str, Any] = {
            "id": engine_id,
            "number": self.number,
            "input": {"raw": self.raw, "translated": self.translated},
        }
        if self.stdout:
            shown["stdout"] = self.stdout
        if self.stderr:
            shown["stderr"] = self.stderr
        if self.result is not None:
            shown["result"] = self.result
        if self.display:
            shown["display"] = self.display
        shown["started"] = format_time(self.started)
        shown["completed"] = format_time(self.completed)
        shown["duration"] = self.duration
        return shown

    @property
    def size(self) -> int:
        """The approximate memory that this takes, in bytes."""
        size = 500 + len(self.raw) + len(self.translated) + len(self.stdout) + len(self.stderr)
        if self.result is not None:
            size += _bundle_size(self.result)
        for data, _ in self.display:
            size += _bundle_size(data)
        if self.failure is not None:
            size += len(self.failure.traceback) + len(self.failure.pickled or b"")
        return size


class CallOutcome(NamedTuple):
    """The result of a function call or a task's source; a tuple because it is created 40,000 times a second.

    ``value`` is the function's return value (None for source, and after a failure).  The other fields are those of
    :class:`CommandResult`.
    """

    value: Any
    stdout: str
    stderr: str
    display: tuple[Displayed, ...]
    started: float
    completed: float
    duration: float
    failure: ExceptionRecord | None


def format_time(moment: float) -> str:
    """Format seconds since the epoch as local time, like ``"2008/03/08 03:41:42"``."""
    return time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(moment))


def _bundle_size(bundle: MimeBundle) -> int:
    return sum(len(value) if isinstance(value, (str, bytes)) else 200 for value in bundle.values())


class ResultHistory:
    """The latest results, limited in number and in bytes; the newest is always kept.

    :param max_count: how many are kept.
    :param max_bytes: how much memory they may take together.
    """

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self._max_count = max(max_count, 1)
        self._max_bytes = max_bytes
        self._results: OrderedDict[int, tuple[CommandResult, int]] = OrderedDict()
        self._bytes = 0
        self._last = 0

    def add(self, result: CommandResult) -> None:
        """Add a result, and drop the oldest ones that exceed the limits."""
        size = result.size
        self._results[result.number] = (result, size)
        self._bytes += size
        self._last = result.number
        while len(self._results) > self._max_count or (
            self._bytes > self._max_bytes and len(self._results) > 1
        ):
            _, (_, dropped) = self._results.popitem(last=False)
            self._bytes -= dropped

    def get(self, number: int | None = None) -> CommandResult:
        """Return the result of command ``number``, by default the last one.

        :raises IndexError: if there is no such command, or its result is no longer kept.
        :raises TypeError: if ``number`` is not an integer.
        """
        if number is not None:
            check_int("the number of a command", number)
        if not self._last:
            raise IndexError("no command has been run yet")
        wanted = self._last if number is None else number
        entry = self._results.get(wanted)
        if entry is not None:
            return entry[0]
        if 0 < wanted < self._last:
            oldest = next(iter(self._results))
            raise IndexError(
                f"the result of command {wanted} is no longer kept; the oldest kept one is {oldest}"
            )
        raise IndexError(
            f"there is no command {wanted}: commands are numbered from 1, and the last one is {self._last}"
        )

    def since(self, number: int) -> list[CommandResult]:
        """Return the results of the commands after ``number`` that are kept, oldest first."""
        latest = (result for result, _ in reversed(self._results.values()))
        return list(takewhile(lambda result: result.number > number, latest))[::-1]

    def __iter__(self) -> Iterator[CommandResult]:
        return (result for result, _ in list(self._results.values()))

    def __len__(self) -> int:
        return len(self._results)
