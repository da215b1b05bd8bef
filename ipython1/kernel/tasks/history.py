"""What the controller knows of tasks, as users are shown it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ipython1.checks import check_int
from ipython1.core.results import format_time
from ipython1.core.texts import clip
from ipython1.kernel.host.logs import shown
from ipython1.kernel.wire.tasksync import STATES, TaskEntry

LIMIT = 100
"""Tasks that are shown unless another number is asked for."""

WIDTH = 60
"""Characters of what a task does that are shown of it."""

MOST = 10_000
"""Tasks that can be asked for at a time."""


class TaskHistory(list[TaskEntry]):
    """A list of what is known of tasks, in the order of their ids, which prints one line for each."""

    def __repr__(self) -> str:
        return "\n".join(["<Task History>", *map(_line, self)])

    def _repr_html_(self) -> str:
        from ipython1.notebook.cards import STATE_COLORS, dot, entries_html, seconds_text

        return entries_html(
            ["task", "state", "what", "engine", "submitted", "took", "error", "client"],
            (
                (
                    each.taskid,
                    dot(STATE_COLORS[each.state], each.state),
                    clip(shown(each.what), WIDTH),
                    "" if each.engineid is None else each.engineid,
                    format_time(each.submitted) if each.submitted else "",
                    "" if each.completed is None else seconds_text(each.run_time),
                    "" if each.error is None else ": ".join(each.error),
                    each.label,
                )
                for each in self
            ),
        )


def _line(entry: TaskEntry) -> str:
    parts = [f"[{entry.taskid}] {entry.state}"]
    if entry.what:
        parts.append(clip(shown(entry.what), WIDTH))
    if entry.engineid is not None:
        parts.append(f"engine {entry.engineid}")
    if entry.submitted:
        parts.append(f"submitted {format_time(entry.submitted)}")
    if entry.completed is not None:
        parts.append(f"took {entry.run_time:.3g} s")
        parts.append("result not kept" if entry.size is None else f"result {entry.size} bytes")
    if entry.error is not None:
        parts.append(": ".join(entry.error))
    return ", ".join(parts) + (f" ({entry.label})" if entry.label else "")


def history_question(limit: Any, before: Any, states: Any, own: Any) -> dict[str, Any]:
    """Check what ``history`` is given, and return the arguments of the question.

    :raises TypeError, ValueError: if one of them is invalid.
    """
    check_int("limit", limit, 1, MOST)
    if before is not None:
        check_int("before", before, 0, 2**63 - 1)
    if not isinstance(own, bool):
        raise TypeError(f"own must be a bool, not {own!r}")
    if states is not None:
        if isinstance(states, str) or not isinstance(states, Iterable):
            states = [states]
        states = list(states)
        wrong = [each for each in states if each not in STATES]
        if wrong:
            raise ValueError(f"states must be some of {', '.join(STATES)}, not {wrong[0]!r}")
    return {"limit": limit, "before": before, "states": states, "own": own}


def read_history(told: Iterable[Any]) -> TaskHistory:
    """Read the answer.

    :raises ProtocolError: if it is malformed.
    """
    return TaskHistory(map(TaskEntry.unpack, told))
