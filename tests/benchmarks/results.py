"""Samples of a run: their medians and quartiles, and their JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.environments import ROOT
from tests.benchmarks.rows import ROWS, Row

FORMAT = 1
"""Of the JSON; another one is not read."""


@dataclass(slots=True)
class Sample:
    """What one contestant reached in one row, in all rounds.

    :ivar who: the contestant.
    :ivar x: where, of a row that is measured at several points.
    :ivar values: in the row's unit.
    :ivar cpu: microseconds of processor time for an operation, by role; the values of each round.
    :ivar instructions: the same for the number of instructions, where they are counted.
    """

    row: str
    who: str
    x: float | None = None
    values: list[float] = field(default_factory=list)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    instructions: dict[str, list[float]] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        if len(self.values) < 2:
            return self.values[0], self.values[0]
        first, _, third = statistics.quantiles(self.values, n=4, method="inclusive")
        return first, third


@dataclass(slots=True)
class Entrant:
    """A contestant in a run.

    :ivar version: of the system; empty if it did not start.
    :ivar note: what a reader must know to compare its figures.
    :ivar how: how it did each row.
    :ivar trouble: why it was left out, or what went wrong.
    """

    version: str = ""
    note: str = ""
    how: dict[str, str] = field(default_factory=dict)
    trouble: str = ""


class Results:
    """All samples of a run.

    :ivar machine: what it ran on.
    :ivar entrants: the contestants, by name.
    """

    def __init__(self) -> None:
        self.machine: dict[str, Any] = {}
        self.entrants: dict[str, Entrant] = {}
        self._samples: dict[tuple[str, str, float | None], Sample] = {}

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._samples.values())

    def add(self, who: str, told: Mapping[str, Any]) -> None:
        """Add what a contestant's program has written."""
        sample = self._sample(told["row"], who, told["x"])
        sample.values.extend(told["values"])
        for into, given in (
            (sample.cpu, told["cpu"]),
            (sample.instructions, told["instructions"]),
        ):
            for role, value in given.items():
                into.setdefault(role, []).append(value)

    def merge(self, other: Sample) -> None:
        """Add what another run has for the same."""
        sample = self._sample(other.row, other.who, other.x)
        sample.values.extend(other.values)
        for into, given in ((sample.cpu, other.cpu), (sample.instructions, other.instructions)):
            for role, values in given.items():
                into.setdefault(role, []).extend(values)

    def _sample(self, row: str, who: str, x: float | None) -> Sample:
        key = (row, who, x)
        return self._samples.setdefault(key, Sample(row, who, x))

    def find(self, row: str, who: str, x: float | None = None) -> Sample | None:
        return self._samples.get((row, who, x))

    def series(self, row: str, who: str) -> list[Sample]:
        """The samples of a row at its points, in their order."""
        found = [each for each in self if (each.row, each.who) == (row, who) and each.x is not None]
        return sorted(found, key=lambda each: each.x or 0.0)

    def rows(self, part: str | None = None) -> list[Row]:
        """The rows that have samples, in the order of the list of rows."""
        there = {each.row for each in self}
        return [row for row in ROWS.values() if row.name in there and part in (None, row.part)]

    def contestants(self, row: str | None = None) -> list[str]:
        """Those that have samples, in the order of the run."""
        there = {each.who for each in self if row in (None, each.row)}
        return [name for name in self.entrants if name in there]

    def points(self, row: str) -> Sequence[float | None]:
        """Where a row has samples."""
        found = {each.x for each in self if each.row == row}
        return sorted(found, key=lambda x: -1.0 if x is None else x)

    def save(self, path: Path) -> None:
        path.write_text(
            json.dumps(
                {
                    "format": FORMAT,
                    "machine": self.machine,
                    "contestants": {name: asdict(each) for name, each in self.entrants.items()},
                    "samples": [asdict(each) for each in self],
                }
            )
        )


def read(*paths: Path) -> Results:
    """Read runs, and put them together.

    :raises ValueError: if a file holds something else.
    """
    results = Results()
    for path in paths:
        _read(results, path)
    return results


def _read(results: Results, path: Path) -> None:
    try:
        held = json.loads(path.read_text())
        if held["format"] != FORMAT:
            raise ValueError(f"{path} is of another format: {held['format']}")
        results.machine = held["machine"]
        for name, each in held["contestants"].items():
            entrant = results.entrants.setdefault(name, Entrant(**each))
            entrant.version = entrant.version or each["version"]
        for each in held["samples"]:
            if each["row"] in ROWS and each["values"]:
                results.merge(Sample(**each))
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a result of this benchmark: {error!r}") from None


def machine() -> dict[str, Any]:
    """What this run is made on."""
    return {
        "when": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "commit": _commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()
