"""Custody of results: which of the rows that an engine has sent are safe, so that it may forget them.

An engine numbers its rows, keeps each until it is told that all up to a number are safe, and sends the others again
when it comes back.  A row is safe when nothing more depends on it: it did not end its task, or was a repetition; or the
result is in the journal; or nobody keeps a journal.

=========  ===================================================  =========
a row is   on                                                   becomes
=========  ===================================================  =========
(unseen)   its frame                                            received
(unseen)   the announcement of a bulk transfer                  announced
announced  the end of the transfer, well or not                 received
announced  the loss of the link; announced again                announced
received   all results that came of its frame are in journal    safe
safe       all rows before it are safe, the end of the turn     told
=========  ===================================================  =========
"""

from __future__ import annotations

from collections import deque

from ipython1.kernel.basics.error import ProtocolError


class Rows:
    """Rows that came together.

    :ivar last: the number of the last of them.
    :ivar waits: for how many batches of results they wait, and for a transfer.
    """

    __slots__ = ("last", "waits")

    def __init__(self, last: int, waits: int) -> None:
        self.last: int = last
        self.waits: int = waits


class Custody:
    """The rows of one engine.

    :ivar seen: the highest number that has come; None before the first.
    """

    __slots__ = ("_announced", "_rows", "_safe", "_told", "seen")

    def __init__(self) -> None:
        self._rows: deque[Rows] = deque()
        self._announced: dict[int, Rows] = {}
        self._safe = 0
        self._told = 0
        self.seen: int | None = None

    def received(self, first: int, count: int) -> Rows | None:
        """Rows came in one frame, or with the end of one transfer; returns those that have not come before.

        :raises ProtocolError: when some before them did not come.
        """
        rows = self._announced.pop(first, None) if count == 1 else None
        if rows is None:
            return self._add(first, first + count - 1, 0)
        rows.waits -= 1
        return rows

    def announced(self, number: int) -> None:
        """A transfer brings a row.

        :raises ProtocolError: when some before it did not come.
        """
        if number not in self._announced:
            rows = self._add(number, number, 1)
            if rows is not None:
                self._announced[number] = rows

    def _add(self, first: int, last: int, waits: int) -> Rows | None:
        if self.seen is None:
            # What is before these was safe in the hands of an earlier controller.
            self.seen = self._safe = self._told = first - 1
        if first > self.seen + 1:
            raise ProtocolError(
                f"the engine has sent result {first} after {self.seen}; those between are missing"
            )
        if last <= self.seen:
            return None
        self.seen = last
        rows = Rows(last, waits)
        self._rows.append(rows)
        return rows

    def back(self) -> None:
        """The engine may have missed what it was told."""
        self._told = -1 if self.seen is not None else 0

    def to_tell(self) -> int | None:
        """All up to this row are safe; None when that was said."""
        rows = self._rows
        while rows and not rows[0].waits:
            self._safe = rows.popleft().last
        if self._safe == self._told:
            return None
        self._told = self._safe
        return self._safe
