"""The part of ``--check`` about other programs: MPI, ssh, batch systems and Jupyter."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from typing import Final

from ipython1.kernel.scripts.findings import LIMIT, Finding, ask, within_limit

GROUP: Final = "starting engines elsewhere"
JUPYTER: Final = "Jupyter"

PROGRAMS: Final = {
    "slurm": ("sbatch", "squeue", "scancel"),
    "sge, pbs, torque": ("qsub", "qstat", "qdel"),
    "lsf": ("bsub", "bjobs", "bkill"),
    "htcondor": ("condor_submit", "condor_q", "condor_rm"),
    "flux": ("flux",),
}
"""What the launchers of batch systems call."""

FRONTENDS: Final = {"jupyterlab": "JupyterLab", "notebook": "Jupyter Notebook"}

FOLDERS_LIMIT: Final = 3 * LIMIT
"""Seconds for looking through the folders of PATH, which may be far away, and for programs that have a limit, too."""

_AGENT: Final = {
    1: "an agent runs, but has no keys; add one with: ssh-add",
    2: "no agent; only keys without a passphrase work unattended",
}
_WORLD: Final = "from mpi4py import MPI; print('world', MPI.COMM_WORLD.size)"
_LIBRARY: Final = "from mpi4py import MPI; print(MPI.Get_library_version().split(',')[0])"
_AS_ROOT: Final = "allow-run-as-root"


def check_elsewhere() -> Iterator[Finding]:
    """Look at one program after the other."""
    yield within_limit(GROUP, "ssh", ssh, limit=FOLDERS_LIMIT)
    yield within_limit(GROUP, "ssh agent", agent, limit=FOLDERS_LIMIT)
    yield within_limit(GROUP, "MPI", mpi, limit=FOLDERS_LIMIT)
    yield within_limit(GROUP, "mpi4py", mpi4py, limit=FOLDERS_LIMIT)
    for kind, programs in PROGRAMS.items():
        yield within_limit(GROUP, kind, partial(batch_system, kind, programs))
    yield jupyter()


def ssh() -> Finding:
    """The client of ssh."""
    path = shutil.which("ssh")
    if path is None:
        text = "not found (kind ssh); install a client of OpenSSH"
        return Finding(GROUP, "ssh", "missing", text)
    answer = ask([path, "-V"])
    state = "ok" if answer.status == 0 else "missing"
    return Finding(GROUP, "ssh", state, f"{path}: {answer.line}")


def agent() -> Finding:
    """The agent that holds keys for ssh."""
    path = shutil.which("ssh-add")
    if path is None:
        return Finding(GROUP, "ssh agent", "missing", "ssh-add not found")
    answer = ask([path, "-l"])
    if answer.status != 0:
        text = _AGENT.get(answer.status or 0, answer.line)
        return Finding(GROUP, "ssh agent", "missing", text)
    keys = len(answer.text.strip().splitlines())
    return Finding(GROUP, "ssh agent", "ok", f"has {keys} key{'s' if keys > 1 else ''}")


def mpi() -> Finding:
    """The launcher of MPI."""
    path = shutil.which("mpiexec")
    if path is None:
        text = "mpiexec not found (kind mpiexec); install Open MPI or MPICH"
        return Finding(GROUP, "MPI", "missing", text)
    answer = ask([path, "--version"])
    state = "ok" if answer.status == 0 else "missing"
    version = answer.line.removesuffix(":")
    # MPICH begins with a heading.
    for line in answer.text.splitlines() if version == "HYDRA build details" else ():
        name, _, value = line.partition(":")
        if name.strip() == "Version":
            version = f"MPICH (Hydra) {value.strip()}"
    return Finding(GROUP, "MPI", state, f"{path}: {version}")


def mpi4py() -> Finding:
    """Whether mpi4py can be imported, and is of the same MPI as mpiexec."""
    name = "mpi4py"
    library = ask([sys.executable, "-P", "-c", _LIBRARY])
    if "ModuleNotFoundError" in library.text:
        text = "not installed; with an MPI, install it with: pip install 'ipython1[mpi]'"
        return Finding(GROUP, name, "missing", text)
    if library.status != 0:
        return Finding(GROUP, name, "missing", f"cannot be used: {library.last}")
    path = shutil.which("mpiexec")
    if path is None:
        return Finding(GROUP, name, "missing", f"{library.line}; but there is no mpiexec")
    world = ask([path, "-n", "2", sys.executable, "-P", "-c", _WORLD])
    if world.text.count("world 2") == 2:
        return Finding(GROUP, name, "ok", f"{library.line}; two processes found each other")
    if "world 1" in world.text:
        text = f"{library.line} is another MPI than that of {path}; rebuild mpi4py with this one"
        return Finding(GROUP, name, "missing", text)
    if _AS_ROOT in world.text:
        text = f"{library.line}; as root, use --mpiexec='mpiexec --allow-run-as-root'"
        return Finding(GROUP, name, "missing", text)
    return Finding(GROUP, name, "missing", f"{library.line}; mpiexec -n 2 fails: {world.line}")


def batch_system(kind: str, programs: tuple[str, ...]) -> Finding:
    """The programs of a batch system."""
    lacking = [program for program in programs if shutil.which(program) is None]
    if not lacking:
        text = ", ".join(programs)
        return Finding(GROUP, kind, "ok", f"{text} in {_folder(programs[0])}")
    text = f"{', '.join(lacking)} not found; start such engines on a host that can submit jobs"
    return Finding(GROUP, kind, "missing", text)


def _folder(program: str) -> str:
    return (shutil.which(program) or "").rpartition("/")[0]


def jupyter() -> Finding:
    """Where notebooks can be opened."""
    found = []
    for name, shown in FRONTENDS.items():
        try:
            found.append(f"{shown} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    if found:
        return Finding(JUPYTER, "front end", "ok", ", ".join(found))
    text = "none in this environment; install one with: pip install jupyterlab"
    return Finding(JUPYTER, "front end", "missing", text)
