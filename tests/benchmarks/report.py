"""A run as text, and compared with an earlier one."""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.results import Results, Sample
from tests.benchmarks.rows import EXTRA_PARTS, PARTS, Row


def number(value: float) -> str:
    """A value with three or four significant digits."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 2 if abs(value) >= 1 else 3
    return f"{value:.3g}" if abs(value) >= 100 else f"{value:.{digits}f}"


def spread(sample: Sample) -> str:
    """The quartiles of a sample; nothing for one value."""
    if len(sample.values) < 2:
        return ""
    first, third = sample.quartiles
    return f"{number(first)}–{number(third)}"


def processor(sample: Sample) -> str:
    """Processor time for each operation, by role."""
    parts = [f"{role} {median(values):,.0f}" for role, values in sample.cpu.items()]
    return f"us of cpu: {', '.join(parts)}" if parts else ""


def instructions(sample: Sample) -> str:
    """Thousands of instructions for each operation, by role."""
    parts = [f"{k} {median(values) / 1000:,.0f}" for k, values in sample.instructions.items()]
    return f"1,000 instructions: {', '.join(parts)}" if parts else ""


def median(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def place(row: Row, x: float | None) -> str:
    """Where in a row: ``16 KB``, ``4 engines``, ``0.1 ms``."""
    if x is None:
        return ""
    if row.along == "bytes":
        for size, unit in ((2**20, "MB"), (2**10, "KB")):
            if x >= size:
                return f"{x / size:g} {unit}"
    return f"{x:,g} {row.along}"


def lines(results: Results) -> Iterator[str]:
    """A run, for a terminal."""
    told = results.machine
    yield (
        f"{told.get('commit', '')}  Python {told.get('python', '')}, {told.get('cores', '')} cores, "
        f"{told.get('processor', '')}, load {told.get('load', '')} at the start"
    )
    counted = any(sample.instructions for sample in results)
    yield f"instructions: {'for each operation' if counted else 'n/a, this machine does not count them'}"
    for name, entrant in results.entrants.items():
        if entrant.version or entrant.trouble:
            yield f"{name} {entrant.version}{': ' if entrant.trouble else ''}{entrant.trouble}"
    for part in (*PARTS, *EXTRA_PARTS):
        rows = results.rows(part)
        if rows:
            yield ""
            yield part
        for row in rows:
            yield from _row(results, row)


def _row(results: Results, row: Row) -> Iterator[str]:
    goal = f"  (goal {row.goal:,g})" if row.goal is not None else ""
    yield f"  {row.title}, {row.unit}{goal}"
    for x in results.points(row.name):
        for who in results.contestants(row.name):
            sample = results.find(row.name, who, x)
            if sample is not None:
                where = f"{place(row, x):>14}" if x is not None else ""
                figures = f"{where}{number(sample.median):>10}  {spread(sample):<20}"
                used = "  ".join(filter(None, (processor(sample), instructions(sample))))
                yield f"    {who:<12}{figures} {used}".rstrip()


def compare(old: Results, new: Results) -> Iterator[str]:
    """Both runs' medians side by side, of what both have.

    Better and worse is said where the quartiles do not meet.
    """
    yield f"  {'what':<62}{'old':>10}{'new':>10}{'new/old':>9}"
    for sample in new:
        before = old.find(sample.row, sample.who, sample.x)
        if before is None:
            continue
        (row,) = (each for each in new.rows() if each.name == sample.row)
        what = (
            " ".join(filter(None, (sample.who, sample.row, place(row, sample.x)))) + f", {row.unit}"
        )
        ratio = sample.median / before.median if before.median else float("inf")
        yield (
            f"  {what:<62}{number(before.median):>10}{number(sample.median):>10}{ratio:>9.2f}"
            f"  {verdict(row, before, sample)}"
        ).rstrip()


def verdict(row: Row, old: Sample, new: Sample) -> str:
    """``better``, ``worse``, or nothing when the quartiles meet."""
    (old_low, old_high), (new_low, new_high) = old.quartiles, new.quartiles
    if new_low > old_high:
        return "better" if row.higher_is_better else "worse"
    if new_high < old_low:
        return "worse" if row.higher_is_better else "better"
    return ""
