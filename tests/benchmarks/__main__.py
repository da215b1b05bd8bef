"""Measure, and write what was measured; ``scripts/benchmark`` runs this."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks import report, results
from tests.benchmarks.environments import OWN, PEERS, prepare
from tests.benchmarks.rounds import run_rounds
from tests.benchmarks.rows import EXTRA_PARTS, PARTS
from tests.benchmarks.workload import Plan

LIMIT = 300.0
"""Seconds that one contestant's turn may take; a slow part of the kernel's own takes longer."""

SLOW_LIMIT = 1800.0

QUICK_NUMBERS = {
    "real_engines": 2,
    "growth": 300,
    "scale_clients": 20,
    "light_processes": 2,
    "million": 1000,
    "costs_tasks": 200,
    "costs_window": 300,
    "costs_clients": 2,
    "watched_light": 2000,
    "costs_results": 600,
    "journal_results": 3000,
}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/benchmark",
        description="Measure the kernel on this machine, and its peers at the same work in the same run.",
        epilog="Machines are noisy: compare within one run.",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=[*PARTS, *EXTRA_PARTS],
        help=f"measure just this part (repeatable); by default {', '.join(PARTS)}",
    )
    parser.add_argument(
        "--against",
        type=_peers,
        default=(),
        metavar="PEER,...",
        help=f"measure these too, or 'all': {', '.join(PEERS)}",
    )
    parser.add_argument(
        "--prepare", action="store_true", help="first install the peers, each in .venv/peers"
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (%(default)s)")
    parser.add_argument(
        "--quick", action="store_true", help="small numbers, to see whether everything works"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples")
    parser.add_argument("--plots", type=Path, metavar="DIRECTORY", help="draw pictures (SVG)")
    parser.add_argument(
        "--document",
        type=Path,
        metavar="DIRECTORY",
        help="write what the documentation shows, figures.txt and the pictures, of all parts",
    )
    parser.add_argument(
        "--compare", type=Path, metavar="OLD.json", help="also print ratios to an earlier run"
    )
    parser.add_argument(
        "--from",
        dest="given",
        type=Path,
        action="append",
        metavar="FILE",
        help="measure nothing, but report, draw and compare what --json wrote; several files are put together",
    )
    return parser


def _peers(text: str) -> Sequence[str]:
    names = PEERS if text == "all" else text.split(",")
    for name in names:
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(PEERS)}")
    return names


def plan(options: argparse.Namespace) -> Plan:
    parts = options.only or [*PARTS, *(EXTRA_PARTS if options.document else ())]
    if not options.quick:
        return Plan("", "", parts)
    return Plan(
        "",
        "",
        parts,
        engines=2,
        size=2**20,
        share=0.02,
        sizes=(2**10, 2**18),
        lengths=(0.001, 0.01),
        starts=(1, 2),
        lights=(2, 4),
        numbers=QUICK_NUMBERS,
    )


def measured(options: argparse.Namespace) -> results.Results:
    """Run what was asked for."""
    if options.prepare:
        for name in options.against or PEERS:
            try:
                prepare(name)
            except subprocess.CalledProcessError as error:
                print(f"{name}: not installed: {error}", file=sys.stderr, flush=True)
        if not options.against:
            raise SystemExit
    made = plan(options)
    slow = any(part in (*EXTRA_PARTS, "scale") for part in made.parts)
    machine = results.machine() | {"size": made.size, "engines": made.engines}
    found = run_rounds(
        [*OWN, *options.against], made, options.rounds, SLOW_LIMIT if slow else LIMIT
    )
    found.machine = machine
    return found


def main() -> int:
    options = arguments().parse_args()
    # The processes of a measurement are ended in any case.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # Before the long run, so that it is not lost when they are missing.
    if options.plots or options.document:
        from tests.benchmarks import document, plots
    try:
        old = results.read(options.compare) if options.compare else None
        found = results.read(*options.given) if options.given else measured(options)
    except (OSError, ValueError) as error:
        print(f"scripts/benchmark: {error}", file=sys.stderr)
        return 2
    if options.json:
        found.save(options.json)
    print(*report.lines(found), sep="\n", flush=True)
    if options.plots:
        plots.draw(found, options.plots)
    if options.document:
        document.write(found, options.document)
    if old is not None:
        print("", *report.compare(old, found), sep="\n", flush=True)
    # A peer that cannot be measured is no failure; the report says why.
    own = found.entrants.get("ipython1")
    return 1 if own is not None and own.trouble else 0


if __name__ == "__main__":
    sys.exit(main())
