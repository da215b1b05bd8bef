"""Cards: what a client, a cluster, a call or a task is and does, as a small table with a title.

Everything is escaped here, except for what was made by functions of :mod:`ipython1.notebook.html`, which is marked as
:class:`Html`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ipython1.core.texts import clip, compress_ids
from ipython1.notebook.html import MUTED, details, escape, table_html

GOOD: Final = "var(--jp-success-color1, #2e9e44)"
WAITING: Final = "var(--jp-warn-color1, #e08a00)"
BAD: Final = "var(--jp-error-color1, #d33)"
IDLE: Final = "var(--jp-info-color1, #0a8ea0)"

_MOST: Final = 1000
"""Characters of a value that are shown."""

_IDS: Final = 200
"""Characters of a list of ids that are shown."""

_CARD: Final = (
    "display: inline-block; box-sizing: border-box; max-width: 100%; padding: 0.5em 0.9em; margin: 0.2em 0; "
    "line-height: 1.45; border: 1px solid var(--jp-border-color2, rgba(128, 128, 128, 0.4)); border-radius: 4px"
)
_CELL: Final = "text-align: left; vertical-align: top; padding: 0.1em 1em 0.1em 0; background: none"


STATE_COLORS: Final = {
    "scheduled": IDLE,
    "pending": WAITING,
    "succeeded": GOOD,
    "failed": BAD,
}
"""The colours of the states of tasks and calls."""

_TASKS: Final = 1000
"""Characters of a list of tasks that are shown."""


class Html(str):
    """Text that is HTML already."""


def html_of(value: Any) -> str:
    """Return a value as HTML."""
    return value if isinstance(value, Html) else escape(clip(str(value), _MOST))


def dot(color: str, text: object) -> Html:
    """Return text after a coloured dot, which shows a state at a glance."""
    return Html(
        f'<span style="white-space: nowrap"><span style="color: {color}">&#9679;</span> {html_of(text)}</span>'
    )


def muted(text: object) -> Html:
    """Return text that is less important."""
    return Html(f'<span style="{MUTED}">{html_of(text)}</span>')


def engines_text(ids: Iterable[int]) -> str:
    """Return a text such as ``4: 0-3``."""
    known = sorted(ids)
    return f"{len(known)}: {clip(compress_ids(known), _IDS)}" if known else "none"


def card_html(title: str, rows: Iterable[tuple[str, Any]], below: str = "", state: str = "") -> str:
    """Return a card.

    :param title: its title.
    :param rows: names and values; those whose value is empty are left out.
    :param below: HTML that follows the table.
    :param state: HTML that follows the title.
    """
    lines = "".join(
        f'<tr style="background: none"><td style="{_CELL}; {MUTED}">{escape(name)}</td>'
        f'<td style="{_CELL}">{html_of(value)}</td></tr>'
        for name, value in rows
        if str(value)
    )
    table = f'<table style="margin: 0.2em 0; border: none"><tbody>{lines}</tbody></table>'
    head = f"<div><b>{escape(title)}</b>{f' &nbsp; {state}' if state else ''}</div>"
    return f'<div class="ipython1-card" style="{_CARD}">{head}{table if lines else ""}{below}</div>'


def entries_html(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table of plain values; columns without any are left out."""
    lines = [[html_of(cell) for cell in row] for row in rows]
    used = [
        index
        for index in range(len(heads))
        if not lines or any(line[index:][:1] > [""] for line in lines)
    ]
    return table_html(
        [heads[index] for index in used],
        ([line[index] if index < len(line) else "" for index in used] for line in lines),
    )


def seconds_text(seconds: float) -> str:
    """Return a duration with a unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def client_html(
    name: str,
    location: str,
    connected: bool,
    ids: Iterable[int],
    rows: Iterable[tuple[str, Any]] = (),
) -> str:
    """Return the card of a client.

    :param name: its class.
    :param location: where its controller is.
    :param ids: the ids of the engines that it knows.
    """
    state = dot(GOOD, "connected") if connected else dot(BAD, "not connected")
    return card_html(
        name, [("controller", location), ("engines", engines_text(ids)), *rows], state=state
    )


def task_queue_html(
    states: Mapping[str, Any],
    unsatisfied: Any,
    reasons: Mapping[int, str],
    warnings: Iterable[str],
) -> str:
    """Return a table of how many tasks, or which, are in each state.

    :param states: numbers or lists of ids.
    :param unsatisfied: the number or ids of the tasks that no engine may run.
    :param reasons: why tasks wait, by their ids.
    :param warnings: what is wrong with the controller.
    """

    def row(state: str, tasks: Any, color: str) -> list[Any]:
        if isinstance(tasks, int):
            return [dot(color, state), tasks]
        return [dot(color, state), len(tasks), clip(compress_ids(tasks), _TASKS)]

    rows = [row(state, tasks, STATE_COLORS.get(state, IDLE)) for state, tasks in states.items()]
    if unsatisfied:
        rows.append(row("no engine may run", unsatisfied, BAD))
    why = entries_html(["task", "waits because"], reasons.items()) if reasons else ""
    return (
        entries_html(["tasks", "number", "ids"], rows)
        + (details(f"why {len(reasons)} wait", why) if why else "")
        + "".join(f"<div>{dot(WAITING, each)}</div>" for each in warnings)
    )


def progress_html(done: int, total: int, text: str) -> str:
    """Return a progress bar with text next to it."""
    return f'<div><progress value="{done}" max="{max(total, 1)}"></progress> {escape(text)}</div>'
