"""The generated part of the documentation: ``figures.txt``, and the pictures that it shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks import plots
from tests.benchmarks.report import instructions, number, place, processor, spread
from tests.benchmarks.results import Results, Sample
from tests.benchmarks.rows import EXTRA_PARTS, PARTS, SHARED_PARTS, Row

CAPTIONS = {
    "efficiency": "How much of the ideal rate is reached, by the length of a task.",
    "sizes": "An array to one engine and back, by its size. Both axes are logarithmic.",
    "start": "From ``ipcluster`` until all engines are usable.",
    "scale": "Light engines on one controller.",
    "growth": "What becomes slower when there is more of something.",
}

TITLES = {
    "import": "Import",
    "startup": "Start",
    "calls": "Calls",
    "data": "Data",
    "tasks": "Tasks",
    "scale": "A thousand engines",
    "million": "A million tasks",
    "journal": "The journal alone",
    "costs": "What the journal costs",
    "watched": "What it costs to be looked at",
    "codec": "One message",
}


def write(results: Results, directory: Path) -> None:
    """Write everything."""
    directory.mkdir(parents=True, exist_ok=True)
    drawn = plots.draw(results, directory)
    text = "\n".join(lines(results, drawn, directory.name)) + "\n"
    (directory / "figures.txt").write_text(text, encoding="utf-8")


def lines(results: Results, drawn: Sequence[str], folder: str) -> Iterator[str]:
    """The text, in reStructuredText."""
    yield ".. Written by scripts/benchmark --document."
    yield ""
    yield from _machine(results)
    for part in (*PARTS, *EXTRA_PARTS):
        rows = results.rows(part)
        if not rows:
            continue
        yield from _heading(TITLES[part], "-")
        if part in SHARED_PARTS:
            yield from _beside_peers(results, [row for row in rows if row.along is None])
        else:
            yield from _alone(results, rows)
        for name in drawn:
            stem = name.removesuffix(".svg")
            if any(row in plots.PICTURES[stem] for row in (each.name for each in rows)):
                yield f".. figure:: /{folder}/{name}"
                yield f"   :alt: {CAPTIONS[stem].replace('`', '')}"
                yield ""
                yield f"   {CAPTIONS[stem]}"
                yield ""
    yield from _processor_time(results)
    yield from _how(results)


def _machine(results: Results) -> Iterator[str]:
    told = results.machine
    yield (
        f"Measured at {told['when']} UTC, revision {told['commit'] or 'unknown'}, on {told['cores']} cores "
        f"({told['processor']}), {told['system']}, Python {told['python']}, with all processes on this machine. "
        f"{told['engines']} engines; large objects have {told['size'] // 2**20} MB. "
        f"Each figure is a median; below it are the quartiles."
    )
    yield ""
    for name, entrant in results.entrants.items():
        if entrant.trouble:
            reason = entrant.trouble.strip().splitlines()
            yield f"``{name}`` is not complete here: {reason[0]}."
            yield ""


def _heading(text: str, line: str) -> Iterator[str]:
    yield text
    yield line * len(text)
    yield ""


def _table(header: Sequence[str], body: Sequence[Sequence[str]], widths: str) -> Iterator[str]:
    yield ".. list-table::"
    yield "   :header-rows: 1"
    yield f"   :widths: {widths}"
    yield ""
    for row in (header, *body):
        for number_of, cell in enumerate(row):
            yield f"   {'* -' if number_of == 0 else '  -'} {cell}".rstrip()
    yield ""


def _cell(sample: Sample | None, best: bool = False) -> str:
    if sample is None:
        return ""
    value = f"**{number(sample.median)}**" if best else number(sample.median)
    around = spread(sample)
    return f"| {value}\n       | {around}" if around else value


def _beside_peers(results: Results, rows: Sequence[Row]) -> Iterator[str]:
    """A column for each contestant, and the best one in bold; then what only the kernel has."""
    shared = [row for row in rows if len(results.contestants(row.name)) > 1]
    names = [name for name in results.entrants if any(results.find(r.name, name) for r in shared)]
    body = []
    for row in shared:
        found = [results.find(row.name, name) for name in names]
        medians = [each.median for each in found if each is not None]
        best = max(medians) if row.higher_is_better else min(medians)
        cells = [_cell(each, each is not None and each.median == best) for each in found]
        body.append([f"{row.title}, {row.unit}", _goal(row), *cells])
    if body:
        yield from _table(
            ["what", "goal", *names], body, " ".join(["30", "8", *["12"] * len(names)])
        )
    yield from _alone(results, [row for row in rows if row not in shared])


def _alone(results: Results, rows: Sequence[Row]) -> Iterator[str]:
    body = []
    for row in rows:
        for x in results.points(row.name):
            sample = results.find(row.name, "ipython1", x)
            where = "" if x is None else f", {place(row, x)}"
            # The goal of a row with several points is that of the last one.
            goal = _goal(row) if x in (None, results.points(row.name)[-1]) else ""
            body.append([f"{row.title}{where}, {row.unit}", goal, _cell(sample)])
    if body:
        yield from _table(["what", "goal", "ipython1"], body, "60 12 28")


def _goal(row: Row) -> str:
    return "" if row.goal is None else f"{row.goal:,g}"


def _processor_time(results: Results) -> Iterator[str]:
    """What each process uses for an operation."""
    body = []
    counted = False
    for part in SHARED_PARTS:
        for row in results.rows(part):
            if row.along is None:
                for who in results.contestants(row.name):
                    sample = results.find(row.name, who)
                    if sample is not None and sample.cpu:
                        used = processor(sample).removeprefix("us of cpu: ")
                        more = instructions(sample)
                        counted = counted or bool(more)
                        body.append([f"{row.title}, {row.unit}", who, f"{used} {more}".rstrip()])
    if body:
        yield from _heading("Processor time", "-")
        yield (
            "Microseconds for one operation, user and system, all threads: one call, one transfer, one task. "
            "Systems that do not wait but poll use more."
        )
        if not counted:
            yield "This machine does not count instructions."
        yield ""
        yield from _table(["what", "who", "processor time"], body, "40 16 44")


def _how(results: Results) -> Iterator[str]:
    """What was measured of each contestant."""
    yield from _heading("What each one did", "-")
    for name, entrant in results.entrants.items():
        if entrant.version:
            yield f"**{name}** {entrant.version}: {entrant.note}."
            yield ""
            body = [
                [f"``{method}``", how.replace("\n", " ")] for method, how in entrant.how.items()
            ]
            yield from _table(["what", "how"], body, "30 70")
