"""What was: the calls that clients made without waiting for them, and the results that are kept of these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ipython1.kernel.basics.error import (
    InvalidDeferredID,
    ProtocolError,
    ResultAlreadyRetrieved,
    ResultNotCompleted,
)
from ipython1.kernel.controller.journal.interface import Journal
from ipython1.kernel.controller.journal.rows import CommandHistory
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.callhistory import (
    FAILED,
    PENDING,
    SUCCEEDED,
    CallEntry,
    pack_call_id,
    unpack_call_id,
)

MOST: Final = 10_000
"""Calls that one question can ask for."""

AT_ONCE: Final = 1_000
"""Calls that are looked through at a time."""


class CallHistory:
    """Answers questions about what was.

    :param label_of: who a client is, for people, by its uuid.
    """

    def __init__(self, journal: Journal, label_of: Callable[[bytes], str]) -> None:
        self._journal = journal
        self._label_of = label_of

    async def entries(self, limit: int, before: float | None = None) -> list[CallEntry]:
        """The last ``limit`` calls, latest first; of those submitted before a time.

        :raises ProtocolError: if there cannot be so many.
        """
        if not 0 <= limit <= MOST:
            raise ProtocolError(f"{limit} calls were asked for; up to {MOST} can be")
        if not limit:
            return []
        return [self._entry(row) for row in await self._journal.command_history(limit, before)]

    def _entry(self, row: CommandHistory) -> CallEntry:
        client = row.origin.hex()
        over = len(row.outcomes) >= len(row.targets)
        good = all(outcome.status == messages.OK for outcome in row.outcomes)
        sizes = [outcome.size for outcome in row.outcomes if outcome.size is not None]
        return CallEntry(
            pack_call_id(client, row.number),
            row.method,
            row.targets,
            (SUCCEEDED if good else FAILED) if over else PENDING,
            row.submitted,
            max((outcome.completed for outcome in row.outcomes), default=None) if over else None,
            sum(sizes) if len(sizes) == len(row.outcomes) and over else None,
            client,
            self._label_of(row.origin),
        )

    async def entry(self, call_id: str) -> CallEntry:
        """One call, whose results are kept.

        :raises InvalidDeferredID, ResultNotCompleted, ResultAlreadyRetrieved: if they are not.
        """
        try:
            origin, number = unpack_call_id(call_id)
        except ValueError:
            raise InvalidDeferredID(f"{call_id!r} is not the id of a call; see history()") from None
        row = await self._find(origin, number)
        if row is None:
            raise InvalidDeferredID(
                f"the controller knows no call {call_id}: it was never submitted, or too long ago"
            )
        entry = self._entry(row)
        if entry.state == PENDING:
            raise ResultNotCompleted(f"the call {call_id} is not done on all engines")
        if entry.size is None:
            raise ResultAlreadyRetrieved(
                f"the client of the call {call_id} has its results; the controller keeps them no longer than that"
            )
        return entry

    async def _find(self, origin: bytes, number: int) -> CommandHistory | None:
        before: float | None = None
        while rows := await self._journal.command_history(AT_ONCE, before):
            for row in rows:
                if row.origin == origin and row.number == number:
                    return row
            before = rows[-1].submitted
        return None
