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

    def _repr_html_(self) -> str:
        from ipython1.notebook.cards import STATE_COLORS, dot, entries_html

        return entries_html(
            ["submitted", "engines", "call", "state", "client", "id"],
            (
                (
                    _time(each.submitted),
                    compress_ids(each.targets),
                    each.call,
                    dot(STATE_COLORS[each.state], each.state),
                    each.label,
                    each.id,
                )
                for each in self
            ),
        )


def _time(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def _line(entry: CallEntry) -> str:
    submitted = _time(entry.submitted)
    engines = compress_ids(entry.targets)
    return f"{submitted} [{engines}] {entry.call}: {entry.state}  ({entry.id})"
