"""What ``ipcluster top`` shows, as renderables of rich: pure functions of a state and what the user has chosen."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ipython1.kernel.host.logs import shown
from ipython1.kernel.watching.amounts import bytes_text, count_text, duration_text, rate_text
from ipython1.kernel.watching.topcontrols import ORDERS, Controls
from ipython1.kernel.watching.topstate import (
    TopState,
    doing_text,
    done_share,
    engine_state,
    left_text,
)
from ipython1.kernel.wire.monitoring import EngineInfo, FailureInfo, News, WorkInfo

KEYS: Final = (
    ("q", "quit"),
    ("↑↓", "scroll"),
    ("i h c m n t", "by id host CPU memory queue time"),
    ("b", "busy"),
    ("d", "done"),
)

STATE_STYLES: Final = {"busy": "green", "idle": "dim", "away": "bold red"}

WIDE: Final = 100
"""Columns from which on there is room for everything."""

MEDIUM: Final = 80
"""Columns from which on there is room for bars."""

NARROW: Final = 66
"""Columns below which only what matters most is shown."""

MATTERS: Final = frozenset({"engine", "state", "CPU", "memory", "doing"})
"""What that is of engines."""

ALL: Final = 1_000_000
"""Rows where everything is to be shown."""


@dataclass(frozen=True, slots=True)
class Screen:
    """What there is room for.

    :ivar height: lines; 0 for any number: everything is shown, once, without the keys.
    :ivar silent: for how many seconds the controller has not answered; 0 if it answers.
    """

    width: int
    height: int = 0
    silent: float = 0.0


@dataclass(frozen=True, slots=True)
class Rows:
    """How many rows each table gets, headers not counted."""

    work: int
    failures: int
    engines: int


def share_rows(state: TopState, controls: Controls, height: int) -> Rows:
    """Share the lines of a screen: work and failures get what they need up to a sixth each, engines the rest."""
    work = len(work_to_show(state, controls))
    failures = len(state.failures)
    if not height:
        return Rows(work, min(failures, 10), ALL)
    # Two lines about the cluster, the keys, and around the engines an empty line, their head, and their number.
    left = height - 6
    most = max(0, left // 6)
    rows_work = min(work, most)
    rows_failures = min(failures, most)
    # Each table that is there has a line for its head and one above it.
    used = sum(rows + 2 for rows in (rows_work, rows_failures) if rows)
    return Rows(rows_work, rows_failures, max(1, left - used))


def render(state: TopState, controls: Controls, screen: Screen) -> RenderableType:
    """Return everything that is shown."""
    news = state.latest
    if news is None:
        return Text("waiting for the controller ...", style="dim")
    rows = share_rows(state, controls, screen.height)
    parts: list[RenderableType] = [
        _cluster_line(news, len(state.engines), screen),
        _task_line(news),
    ]
    work = work_to_show(state, controls)[: rows.work]
    if work:
        parts += ["", _work_table(work, screen.width)]
    parts += ["", _engine_table(state, controls, rows.engines, screen)]
    failures = list(state.failures)[-rows.failures :] if rows.failures else []
    if failures:
        parts += ["", _failure_table(failures, screen.width)]
    if screen.height:
        parts.append(_keys_line())
    return Group(*parts)


def _line(*parts: Any) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    for part in parts:
        line.append_text(part if isinstance(part, Text) else Text(str(part)))
    return line


def _text(words: str) -> Text:
    """What others say, which is neither markup nor controls the terminal."""
    return Text(shown(words))


def _cluster_line(news: News, engines: int, screen: Screen) -> Text:
    name = f"cluster {news.name!r}" if news.name else "default cluster"
    traffic = news.traffic
    line = _line(
        Text(name, style="bold"),
        f"  up {duration_text(news.time - news.started)}"
        f" · {count_text(engines, 'engine')} · {count_text(news.clients, 'client')}"
        f" · in {bytes_text(traffic.received)}/s, out {bytes_text(traffic.sent)}/s",
    )
    if traffic.delay >= 0.1:
        line.append(
            f" · the controller is late by {duration_text(traffic.delay)}", style="bold yellow"
        )
    if screen.silent:
        line.append(f" · no answer for {duration_text(screen.silent)}", style="bold red")
    return line


def _task_line(news: News) -> Text:
    tasks = news.tasks
    failed = Text(f"{tasks.failed:,} failed", style="bold red" if tasks.failed else "dim")
    return _line(
        Text("tasks", style="bold"),
        f"  {tasks.scheduled:,} waiting · {tasks.pending:,} running · {tasks.succeeded:,} done · ",
        failed,
        f" · {rate_text(tasks.rate)}",
    )


def work_to_show(state: TopState, controls: Controls) -> list[WorkInfo]:
    """Return the work to show: what goes on first, then what was done last."""
    chosen = [each for each in state.work.values() if controls.done_work or each.completed is None]
    return sorted(
        chosen,
        key=lambda work: (
            work.completed is not None,
            -(work.completed or work.submitted),
            work.key,
        ),
    )


def _table(*columns: tuple[str, dict[str, Any]]) -> Table:
    """A table whose columns with a ``ratio`` get what the others leave."""
    expand = any("ratio" in options for _, options in columns)
    table = Table(
        box=None, pad_edge=False, expand=expand, header_style="bold", padding=(0, 2, 0, 0)
    )
    for name, options in columns:
        table.add_column(name, no_wrap=True, overflow="ellipsis", **options)
    return table


def _work_table(work: list[WorkInfo], width: int) -> Table:
    right: dict[str, Any] = {"justify": "right"}
    wide, narrow = width >= WIDE, width < MEDIUM
    table = _table(
        ("function", {"ratio": 1} if narrow else {"min_width": 12, "max_width": width // 4 - 8}),
        ("done", right),
        *(() if narrow else (("", {"width": max(8, min(30, width // 6))}),)),
        ("failed", right),
        *(() if narrow else (("running", right), ("left", right))),
        *((("each", right), ("by", {})) if wide else ()),
    )
    for each in work:
        done = each.succeeded + each.failed
        bar = ProgressBar(total=1.0, completed=done_share(each), width=None)
        unit = "" if narrow else f" {each.unit}"
        table.add_row(
            _text(each.what) or "-",
            f"{done:,} of {each.total:,}{unit}",
            *(() if narrow else (bar,)),
            Text(f"{each.failed:,}", style="bold red" if each.failed else "dim"),
            *(() if narrow else (f"{each.running:,}", time_text(each))),
            *(
                ("" if each.seconds is None else duration_text(each.seconds), _text(each.label))
                if wide
                else ()
            ),
        )
    return table


def time_text(work: WorkInfo) -> str:
    """Return how long work will take, or took: ``12 s``, ``took 3 min``; empty if nothing is known."""
    if work.completed is not None:
        return f"took {duration_text(max(0.0, work.completed - work.submitted))}"
    return left_text(work)


def _engine_table(state: TopState, controls: Controls, rows: int, screen: Screen) -> RenderableType:
    engines = controls.chosen(state.engines)
    first = controls.scrolled(len(engines), rows)
    visible = engines[first : first + rows]
    narrow = screen.width < NARROW
    hosts = not narrow and len({each.host for each in state.engines.values()}) > 1
    columns = _engine_columns(hosts)
    kept = [at for at, (name, _) in enumerate(columns) if not narrow or name in MATTERS]
    table = _table(*(columns[at] for at in kept))
    now = state.time
    for each in visible:
        row = _engine_row(each, now, hosts)
        table.add_row(*(row[at] for at in kept))
    if not engines:
        text = "no engine is busy" if state.engines else "no engine is registered"
        return Group(table, Text(text, style="dim"))
    if screen.height:
        more = "" if len(visible) == len(engines) else f" {first + 1:,}-{first + len(visible):,} of"
        order = ORDERS[controls.order][0]
        note = f"{'engines' if not more else 'engines' + more} {len(engines):,}, by {order}"
        return Group(table, Text(note + (" (reversed)" if controls.reverse else ""), style="dim"))
    return table


def _engine_columns(hosts: bool) -> list[tuple[str, dict[str, Any]]]:
    right: dict[str, Any] = {"justify": "right"}
    columns: list[tuple[str, dict[str, Any]]] = [("engine", right), ("state", {})]
    if hosts:
        columns.append(("host", {"max_width": 24}))
    columns += [("process", right), ("CPU", right), ("memory", right), ("queue", right)]
    return [*columns, ("tasks", right), ("for", right), ("doing", {"ratio": 1})]


def _engine_row(engine: EngineInfo, now: float, hosts: bool) -> list[RenderableType]:
    state = engine_state(engine)
    dim = "dim" if state == "idle" else ""
    row: list[RenderableType] = [str(engine.id), Text(state, style=STATE_STYLES[state])]
    if hosts:
        row.append(_text(engine.host))
    return [
        *row,
        Text(str(engine.pid) if engine.pid else "", style=dim),
        Text(cpu_text(engine), style=_cpu_style(engine.cpu) or dim),
        Text(memory_text(engine), style=dim),
        Text(str(engine.queued) if engine.queued else "-", style="" if engine.queued else "dim"),
        Text(str(engine.tasks) if engine.tasks else "-", style="" if engine.tasks else "dim"),
        "" if engine.since is None else duration_text(max(0.0, now - engine.since)),
        _text(doing_text(engine)),
    ]


def cpu_text(engine: EngineInfo) -> str:
    """Return what an engine's process uses of a processor: ``98 %``; ``-`` if that is not known."""
    return "-" if engine.cpu is None else f"{engine.cpu:.0f} %"


def memory_text(engine: EngineInfo) -> str:
    """Return the memory of an engine's process; ``-`` if that is not known."""
    return "-" if engine.memory is None else bytes_text(engine.memory)


def _cpu_style(cpu: float | None) -> str:
    if cpu is None or cpu < 50:
        return ""
    return "green" if cpu < 150 else "yellow"


def _failure_table(failures: list[FailureInfo], width: int) -> Table:
    # A long error must not take the place of when and where.
    what = max(4, min(30, width // 5))
    table = _table(
        ("failed", {}),
        ("engine", {"justify": "right"}),
        ("what", {"max_width": what}),
        ("error", {"ratio": 1}),
    )
    for each in reversed(failures):
        lines = each.error.splitlines()
        table.add_row(
            time.strftime("%H:%M:%S", time.localtime(each.when)),
            "-" if each.engine is None else str(each.engine),
            _text(each.what or f"{each.kind} {each.id}"),
            Text(shown(lines[0]) if lines else "(not told)", style="red"),
        )
    return table


def _keys_line() -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    for key, what in KEYS:
        line.append(f" {key} ", style="reverse")
        line.append(f" {what}  ", style="dim")
    return line
