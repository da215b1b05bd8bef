"""What a notebook shows of a call that may still be running."""

from __future__ import annotations

from typing import Any

from ipython1.core.texts import clip, compress_ids
from ipython1.kernel.basics.error import describe_exception
from ipython1.notebook.progress import done_of

_MOST_FAILURES = 20


class PendingCard:
    """Gives a pending result the form that notebooks show: how far it is, and what failed so far."""

    def _repr_html_(self) -> str:
        return _card(self)


def _card(pending: Any) -> str:
    # Imported when they are needed, as a client is to be loaded fast.
    from ipython1.notebook.cards import (
        BAD,
        GOOD,
        WAITING,
        card_html,
        dot,
        engines_text,
        progress_html,
    )

    done, total, failed_count, unit = pending.count()
    over = pending.done()
    failed = pending.failures()
    if failed_count or failed:
        state = dot(BAD, f"{failed_count or len(failed)} failed")
    else:
        state = dot(GOOD if over else WAITING, "finished" if over else "running")
    bar = progress_html(done, total, done_of(done, total, unit)) if total else ""
    rows = [
        ("engines", engines_text(pending.engine_ids) if pending.engine_ids else ""),
        ("not done", "" if over else clip(compress_ids(pending.unfinished), 200)),
    ]
    return card_html(f"PendingResult of {pending.name}", rows, bar + _failures(failed), state)


def _failures(failed: dict[int, BaseException]) -> str:
    from ipython1.notebook.bounds import bounded, share_of
    from ipython1.notebook.html import details, escape, pre

    shown = sorted(failed.items())[:_MOST_FAILURES]
    most = share_of(len(shown))
    lines = "".join(
        details(
            f"<code>[{engine_id}] {escape(clip(describe_exception(problem), 300))}</code>",
            pre(bounded("\n".join(getattr(problem, "__notes__", ())), "its result", most)),
        )
        if getattr(problem, "__notes__", None)
        else f"<div><code>[{engine_id}] {escape(clip(describe_exception(problem), 300))}</code></div>"
        for engine_id, problem in shown
    )
    left = len(failed) - len(shown)
    return lines + (f"<div>... and {left} more</div>" if left > 0 else "")
