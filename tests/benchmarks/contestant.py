"""Measure one contestant: ``python -m tests.benchmarks.contestant NAME PLAN``.

Its rounds start this with the Python of the contestant's own environment.
"""

from __future__ import annotations

import importlib
import sys

from tests.benchmarks.workload import Contestant, Plan, run


def load(name: str) -> type[Contestant]:
    """The adapter of a contestant."""
    found = importlib.import_module(f"tests.benchmarks.contestants.{name}").CONTESTANT
    assert issubclass(found, Contestant)
    return found


if __name__ == "__main__":
    run(load(sys.argv[1])(Plan.from_json(sys.argv[2])))
