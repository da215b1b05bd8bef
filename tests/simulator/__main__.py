"""Run many histories; see ``scripts/simulate``."""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator

from tests.simulator.history import History, Told, tell
from tests.simulator.plants import PLANTS

Names = tuple[str, ...]


def _run(job: tuple[int, Names, Names]) -> Told:
    return tell(*job)


def run_all(seeds: range, kinds: Names, loads: Names, jobs: int) -> Iterator[Told]:
    """What became of each, in the order of the seeds."""
    work = zip(seeds, itertools.repeat(kinds), itertools.repeat(loads), strict=False)
    if jobs == 1:
        yield from map(_run, work)
        return
    with multiprocessing.Pool(jobs) as pool:
        yield from pool.imap(_run, work, chunksize=20)


def main() -> int:
    """:returns: 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="only this one, with its story")
    parser.add_argument("--trace", action="store_true", help="with --seed: every frame, too")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument(
        "--faults",
        default=",".join(History.KINDS),
        help="which, separated by commas (default all: %(default)s); empty for none",
    )
    parser.add_argument(
        "--loads", default=",".join(History.LOADS), help="what users do (default: %(default)s)"
    )
    parser.add_argument("--plant", choices=sorted(PLANTS), help="a bug; fails if it is not found")
    given = parser.parse_args()
    kinds = _names(parser, given.faults, History.KINDS)
    loads = _names(parser, given.loads, History.LOADS)
    if os.environ.get("PYTHONHASHSEED") != "0":
        print("without PYTHONHASHSEED=0 a seed is not always the same history", file=sys.stderr)
    if given.seed is not None:
        told = tell(given.seed, kinds, loads, given.trace)
        print(told.story)
        print("all promises were kept" if told.problem is None else f"BROKEN: {told.problem}")
        return 0 if told.problem is None else 1
    seeds = range(given.first, given.first + given.seeds)
    if given.plant:
        return _find(given.plant, seeds, kinds, loads)
    return _many(seeds, run_all(seeds, kinds, loads, given.jobs))


def _find(plant: str, seeds: range, kinds: Names, loads: Names) -> int:
    """Look for a planted bug; 0 if it is found."""
    with PLANTS[plant]():
        for count, told in enumerate(run_all(seeds, kinds, loads, 1), 1):
            if told.problem is not None:
                print(f"found with {count} seeds: seed {told.seed}: {str(told.problem)[:200]}")
                return 0
    print(f"not found with {len(seeds)} seeds")
    return 1


def _names(parser: argparse.ArgumentParser, text: str, known: Names) -> Names:
    names = tuple(name for name in text.split(",") if name)
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"there is no {unknown[0]!r}; there are {', '.join(known)}")
    return names


def _many(seeds: range, histories: Iterator[Told]) -> int:
    begin = time.monotonic()
    broken: list[Told] = []
    steps = tasks = commands = faults = 0
    for count, told in enumerate(histories, 1):
        steps += told.steps
        tasks += told.tasks
        commands += told.commands
        faults += told.faults
        if told.problem is not None:
            broken.append(told)
            print(f"seed {told.seed}: {str(told.problem)[:200]}", flush=True)
        if count % 500 == 0:
            print(f"{count} histories, {len(broken)} broken", file=sys.stderr, flush=True)
    seconds = time.monotonic() - begin
    if broken:
        print(f"the story of seed {broken[0].seed}:\n{broken[0].story}")
    print(
        f"{len(seeds)} histories in {seconds:.1f} s ({60 * len(seeds) / seconds:.0f} a minute): {steps} events, "
        f"{tasks} tasks, {commands} commands, {faults} faults; {len(broken)} broken"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
