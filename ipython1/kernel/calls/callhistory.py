"""Earlier calls, as the controller remembers them."""

from __future__ import annotations

import time
from typing import Any

from ipython1.core.texts import compress_ids
from ipython1.kernel.wire.callhistory import CallEntry


class CallHistory(list[CallEntry]):
    """Calls that were made without waiting for them, latest first; prints as one line for each."""

    @classmethod
    def of(cls, rows: list[Any]) -> CallHistory:
        """What the controller's answer says."""
        return cls(map(CallEntry.unpack, rows))

    def __repr__(self) -> str:
        return "\n".join(["<Call History>", *map(_line, self)])


def _line(entry: CallEntry) -> str:
    submitted = time.strftime("%H:%M:%S", time.localtime(entry.submitted))
    engines = compress_ids(entry.targets)
    return f"{submitted} [{engines}] {entry.call}: {entry.state}  ({entry.id})"
