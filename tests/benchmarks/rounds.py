"""Run contestants in turn."""

from __future__ import annotations

import compileall
import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks import meters
from tests.benchmarks.contestant import load
from tests.benchmarks.environments import OWN, ROOT, command, prepared
from tests.benchmarks.results import Entrant, Results
from tests.benchmarks.rows import EXTRA_PARTS, SHARED_PARTS
from tests.benchmarks.workload import BEGUN, Contestant, Plan

SHOWN = 2000
"""Characters of a failed program's output that are kept."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One contestant's part of a round."""

    contestant: str
    plan: Plan


def turns(names: Sequence[str], plan: Plan, rounds: int) -> Iterator[Turn]:
    """All turns of a run: in each round, every contestant; slow parts of the kernel's own run once."""
    for number in range(rounds):
        for name in names:
            parts = [part for part in plan.parts if takes_part(name, part, number == 0)]
            if parts:
                yield Turn(name, replace(plan, parts=parts))


def takes_part(name: str, part: str, first: bool) -> bool:
    """Whether a contestant has rows of a part in a round.

    :param first: whether it is the first round.
    """
    if name == "ipython1":
        return first or part not in EXTRA_PARTS
    if name == "ipython1_network":
        return part == "data"
    return part in SHARED_PARTS


def run_rounds(names: Sequence[str], plan: Plan, rounds: int, limit: float) -> Results:
    """Measure all contestants.

    :param limit: seconds that one contestant's turn may take.
    """
    results = Results()
    for folder in ("ipython1", "tests"):
        # pip has done the same for the peers.
        compileall.compile_dir(ROOT / folder, quiet=2)
    for name in names:
        if name != "ipython1_network":
            results.entrants[name] = entrant(load(name))
    for turn in turns(names, plan, rounds):
        name = turn.contestant
        shown = results.entrants["ipython1" if name in OWN else name]
        if name not in OWN and not prepared(name):
            shown.trouble = "not installed; --prepare installs it"
            continue
        if shown.trouble:
            continue
        print(f"{name}: {', '.join(turn.plan.parts)} ...", flush=True)
        begun = time.monotonic()
        try:
            trouble = take_turn(turn, results, limit)
        except (KeyboardInterrupt, SystemExit):
            print("interrupted; this is what was measured", flush=True)
            break
        if trouble:
            shown.trouble = trouble
            print(f"{name}: {trouble}", flush=True)
        print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
    return results


def entrant(kind: type[Contestant]) -> Entrant:
    """What the adapter of a contestant tells about itself."""
    how = {}
    for name in vars(Contestant):
        method = vars(kind).get(name)
        if callable(method) and not name.startswith("_") and method.__doc__ and name != "roles":
            how[name] = method.__doc__.strip().rstrip(".")
    return Entrant(note=kind.note, how=how)


def take_turn(turn: Turn, results: Results, limit: float) -> str:
    """Run one contestant's program; what it has measured is kept even if it fails.

    :returns: what went wrong, or the empty string.
    """
    mark = uuid.uuid4().hex
    with tempfile.TemporaryDirectory(prefix="ipython1-bench-", ignore_cleanup_errors=True) as place:
        output = Path(place) / "samples"
        plan = replace(turn.plan, output=str(output), mark=mark)
        try:
            return run_program(command(turn.contestant, plan), Path(place), mark, limit)
        finally:
            if output.exists():
                collect(output, "ipython1" if turn.contestant in OWN else turn.contestant, results)


def collect(output: Path, who: str, results: Results) -> None:
    """Add what a contestant's program has written."""
    for line in output.read_text().splitlines(keepends=True):
        if line.endswith("\n"):  # the program may have been killed while it wrote the last one
            told = json.loads(line)
            if "version" in told:
                results.entrants[who].version = told["version"]
            else:
                results.add(who, told)


def run_program(arguments: Sequence[str], place: Path, mark: str, limit: float) -> str:
    """Run a program to its end, and end what it leaves.

    :returns: why it failed, or the empty string.
    """
    environ = {
        **os.environ,
        meters.MARK: mark,
        BEGUN: repr(time.monotonic()),
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(place),
        "IPYTHONDIR": str(place / "ipython"),
        # The first of the path, for systems that start their own programs by name.
        "PATH": os.pathsep.join([str(Path(arguments[0]).parent), os.environ.get("PATH", "")]),
    }
    # As users run it: compiled modules are kept.
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    (place / "ipython").mkdir(mode=0o700)
    with (place / "printed").open("w+") as printed:
        process = subprocess.Popen(
            arguments,
            cwd=place,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
        late = False
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            end(process, mark)
        printed.seek(0)
        text = printed.read()[-SHOWN:]
    if late:
        return f"stopped after {limit:g} s\n{text}"
    if process.returncode:
        return f"ended with status {process.returncode}\n{text}"
    return ""


def end(process: subprocess.Popen[bytes], mark: str) -> None:
    """Kill what is left of a program's processes, and wait until they are gone."""
    # Not by a session of its own, in which some systems do not work.
    left = meters.marked(mark) | meters.descendants(process.pid)
    if process.poll() is None:
        left.add(process.pid)
    while left:
        kill(left)
        left = meters.marked(mark)  # a supervisor may have started another one meanwhile
    process.wait()


def kill(pids: Iterable[int]) -> None:
    """Kill processes, and wait until they are gone."""
    with contextlib.ExitStack() as opened:
        files = []
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                file = os.pidfd_open(pid)
                opened.callback(os.close, file)
                signal.pidfd_send_signal(file, signal.SIGKILL)
                files.append(file)
        for file in files:
            select.select([file], [], [])
