"""The peers' virtual environments in ``.venv/peers``, and how contestants' programs are started."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.contestant import load
from tests.benchmarks.workload import Plan

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / ".venv" / "peers"
"""Where environments are made; what is in it can be a link to one that is elsewhere."""

OWN = ("ipython1", "ipython1_network")
"""The contestants that run in this project's environment."""

PEERS = ("ipyparallel", "dask", "ray", "monarch", "dragon", "futures", "mpi4py")


def prepare(name: str) -> None:
    """Create or update the environment of a peer.

    :raises subprocess.CalledProcessError: if pip cannot install it; it has printed why.
    """
    directory = PLACE / name
    packages = load(name).packages
    if prepared(name):
        print(f"{name}: {directory} is there")
        return
    print(f"{name}: installing {', '.join(packages)} in {directory}", flush=True)
    # Not of this virtual environment, whose packages it would not see anyway.
    base = getattr(sys, "_base_executable", sys.executable)
    subprocess.run([base, "-m", "venv", str(directory)], check=True)
    pip = [str(directory / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", *packages], check=True)
    (directory / "prepared").write_text("\n".join(packages))


def prepared(name: str) -> bool:
    """Whether a peer's environment has all its packages."""
    try:
        return (PLACE / name / "prepared").read_text().split() == list(load(name).packages)
    except FileNotFoundError:
        return False


def command(name: str, plan: Plan) -> Sequence[str]:
    """The command that measures a contestant."""
    python = sys.executable if name in OWN else str(PLACE / name / "bin" / "python")
    program = ["-m", "tests.benchmarks.contestant", name, plan.to_json()]
    folder = Path(python).parent
    if name == "mpi4py":
        mpiexec = [str(folder / "mpiexec"), "-n", str(plan.engines + 1)]
        return [*mpiexec, python, "-m", "mpi4py", *program]
    if name == "dragon":
        # It takes a file, not a module.
        program = [str(ROOT / "tests/benchmarks/contestant.py"), *program[2:]]
        return [str(folder / "dragon"), "--single-node-override", *program]
    return [python, "-P", *program]
