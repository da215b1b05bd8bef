"""What a notebook shows of a task's result."""

from __future__ import annotations

import traceback
from typing import Any

from ipython1.core.texts import clip, short_repr
from ipython1.kernel.basics.error import describe_exception
from ipython1.notebook.bounds import bounded
from ipython1.notebook.cards import BAD, GOOD, Html, card_html, dot, seconds_text
from ipython1.notebook.html import ERR, bundle_html, details, escape, pre

_MOST_NAMES = 50
_MOST_DISPLAYED = 50


def task_html(task: Any) -> str:
    """Return a card: where and when a task ran, what it gave, wrote and displayed, or its traceback.

    :param task: a ``TaskResult``.
    """
    failure = task.failure
    rows: list[tuple[str, Any]] = [
        ("engine", "" if task.engineid is None else task.engineid),
        ("submitted", task.submitted),
        ("completed", task.completed),
        (
            "took",
            f"{seconds_text(task.run_time)} on the engine, {seconds_text(task.duration)} in all",
        ),
    ]
    if failure is None:
        results = task.results
        rows += [
            (name, Html(f"<code>{escape(clip(short_repr(value), 1000))}</code>"))
            for name, value in list(results.items())[:_MOST_NAMES]
        ]
        if len(results) > _MOST_NAMES:
            rows.append(("...", f"and {len(results) - _MOST_NAMES} more"))
        state = dot(GOOD, "succeeded")
    else:
        state = dot(BAD, "failed")
    parts = [] if failure is None else [_failure(failure)]
    for name, text in (("stdout", task.stdout), ("stderr", task.stderr)):
        if text:
            shown = bounded(text.rstrip("\n"), f"the result's {name}")
            parts.append(
                details(name, pre(shown, ERR) if name == "stderr" else pre(shown), len(text) < 2000)
            )
    for each in task.display[:_MOST_DISPLAYED]:
        data, metadata = each if isinstance(each, (tuple, list)) else (each, {})
        parts.append(bundle_html(data, metadata))
    return card_html(f"TaskResult {task.taskid}", rows, "".join(parts), state)


def _failure(failure: BaseException) -> str:
    notes = getattr(failure, "__notes__", None)
    text = "\n".join(map(str, notes)) if notes else "".join(traceback.format_exception(failure))
    return details(
        f"<code>{escape(clip(describe_exception(failure), 500))}</code>",
        pre(bounded(text, "the result's failure")),
    )
