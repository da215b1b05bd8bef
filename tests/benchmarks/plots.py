"""Pictures of a run, which can be read on light and on dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

from tests.benchmarks.report import place
from tests.benchmarks.results import Results
from tests.benchmarks.rows import ROWS

matplotlib.use("svg")

from matplotlib.figure import Figure

INK = "#7d8590"
"""Of text and axes; the ground is transparent."""

COLORS = ("#e5484d", "#3b82f6", "#f59e0b", "#10b981", "#a855f7", "#ec4899", "#14b8a6", "#84806f")
"""Of the contestants, this kernel's first."""

MARKS = "osD^vPX*"
HEIGHT = 3.4
WIDTH = 7.2
"""In inches."""


def draw(results: Results, directory: Path) -> list[str]:
    """Draw all pictures of which there are samples.

    :returns: the names of the files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, parts in PICTURES.items():
        there = [row for row in parts if results.contestants(row)]
        if there:
            figure = _picture(results, there)
            figure.savefig(directory / f"{name}.svg", metadata={"Date": None}, transparent=True)
            drawn.append(f"{name}.svg")
    return drawn


PICTURES = {
    "efficiency": ("efficiency",),
    "sizes": ("push_size", "pull_size"),
    "start": ("start_engines",),
    "scale": ("scale_register", "scale_broadcast"),
    "growth": ("scale_queue", "scale_results", "scale_clients"),
}
"""The rows of each picture, side by side."""


def _picture(results: Results, rows: Sequence[str]) -> Figure:
    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "ipython1",
        "font.family": "sans-serif",
        "font.size": 9,
        "text.color": INK,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots(1, len(rows), squeeze=False, sharey=_same_unit(rows))[0]
        for each, row in zip(axes, rows, strict=True):
            _lines(results, row, each)
        names = [
            name for name in results.entrants if any(results.series(row, name) for row in rows)
        ]
        if len(names) > 1:
            handles, labels = axes[0].get_legend_handles_labels()
            figure.legend(
                handles, labels, loc="outside lower center", ncols=min(len(names), 5), frameon=False
            )
    return figure


def _same_unit(rows: Sequence[str]) -> bool:
    return len({ROWS[name].unit for name in rows}) == 1


def _lines(results: Results, name: str, axes: Any) -> None:
    row = ROWS[name]
    for number, who in enumerate(results.entrants):
        series = results.series(name, who)
        if not series:
            continue
        color = COLORS[number % len(COLORS)]
        xs = [each.x for each in series]
        axes.plot(
            xs,
            [each.median for each in series],
            label=who,
            color=color,
            marker=MARKS[number % len(MARKS)],
            markersize=4,
            linewidth=2.2 if number == 0 else 1.2,
            zorder=3 if number == 0 else 2,
        )
        low, high = zip(*(each.quartiles for each in series), strict=True)
        axes.fill_between(xs, low, high, color=color, alpha=0.15, linewidth=0)
    if row.along != "engines":
        axes.set_xscale("log")
    points = [x for x in results.points(name) if x is not None]
    axes.set_xticks(points, [place(row, x).removesuffix(f" {row.along}") for x in points])
    axes.minorticks_off()
    axes.tick_params(axis="x", labelrotation=30 if row.along == "bytes" else 0)
    if row.unit == "%":
        axes.set_ylim(0, 105)
    elif row.along == "bytes":
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_title(row.title.replace(", ", ",\n"), fontsize=10)
    axes.set_xlabel("size" if row.along == "bytes" else row.along)
    axes.set_ylabel(row.unit)
    axes.grid(True, color=INK, alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
