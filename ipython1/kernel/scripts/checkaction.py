"""``python -m ipython1 --check``: what is installed, and what this machine can do."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from ipython1.config import ConfigError
from ipython1.daemon import osprocess
from ipython1.kernel.basics.error import KernelError
from ipython1.kernel.host.hosts import user_label
from ipython1.kernel.scripts import arguments
from ipython1.kernel.scripts.arguments import OneLineParser
from ipython1.kernel.scripts.tables import aligned
from ipython1.kernel.watching.amounts import bytes_text
from ipython1.system import resource
from ipython1.version import __version__

REQUIRED: Final = (
    *("Twisted", "foolscap", "zope.interface", "cryptography", "pyOpenSSL", "cloudpickle"),
    *("ipython", "traitlets", "configobj", "psutil", "tqdm", "rich", "setproctitle", "argcomplete"),
)
OPTIONAL: Final = {
    "numpy": "arrays without copies",
    "mpi4py": "engines under MPI",
    "ipykernel": "notebooks",
    "ipywidgets": "cards and progress in notebooks",
    "joblib": "the joblib backend",
    "distributed": "dask on the engines",
    "prometheus-client": "numbers for Prometheus",
}
PROGRAMS: Final = {
    "ssh": "kind ssh",
    "mpiexec": "kind mpiexec",
    "sbatch": "kind slurm",
    "qsub": "kinds sge, pbs and torque",
    "bsub": "kind lsf",
    "condor_submit": "kind htcondor",
    "flux": "kind flux",
}

EXAMPLES: Final = """\
examples:
  python -m ipython1 --check        versions, and what this machine can do
  python -m ipython1 ipcluster -n 4 the same as: ipcluster -n 4
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check.

    :ivar state: ``'ok'``, ``'no'`` for what is not there and need not be, or ``'bad'`` for what has to be mended.
    """

    group: str
    name: str
    state: str
    text: str


def make_parser() -> OneLineParser:
    """The command line."""
    parser = OneLineParser(
        "python -m ipython1",
        description="Check this installation, or run one of the commands.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.words = ("ipcluster", "ipcontroller", "ipengine")
    parser.add_argument(
        "--check",
        action="store_true",
        help="tell versions and what this machine can do, and try a cluster of one engine; exit status 1 if "
        "something has to be mended",
    )
    parser.add_argument("--json", action="store_true", help="with --check: as a JSON list")
    parser.add_argument(
        "--ipython-dir",
        type=arguments.directory,
        metavar="DIR",
        help="the directory to check (default: $IPYTHONDIR or ~/.ipython)",
    )
    parser.add_argument("--version", action="version", version=f"ipython1 {__version__}")
    return parser


def main(argv: Sequence[str]) -> int:
    """Do what the command line says; return the exit status."""
    parser = make_parser()
    given, others = parser.parse_known_args(argv)
    if others:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    if not given.check:
        parser.print_help()
        return 0
    found = []
    group = ""
    for finding in check(given.ipython_dir):
        found.append(finding)
        if not given.json:
            if finding.group != group:
                print(("\n" if group else "") + finding.group)
                group = finding.group
            print(
                "  " + aligned([[finding.name.ljust(18), finding.state.ljust(3), finding.text]])[0]
            )
            sys.stdout.flush()
    if given.json:
        print(json.dumps([asdict(each) for each in found], indent=1))
    return 1 if any(each.state == "bad" for each in found) else 0


def check(directory: Path | None = None) -> Iterator[Finding]:
    """Look at everything, one thing after the other.

    :param directory: the IPython directory; default: the usual one.
    """
    yield from _versions()
    yield from _machine()
    yield from _launchers()
    yield from _directory(directory)
    yield _cluster()


def _versions() -> Iterator[Finding]:
    group = "versions"
    yield Finding(group, "ipython1", "ok", f"{__version__} in {Path(__file__).parents[2]}")
    known = sys.version_info[:2] >= (3, 11)
    where = f"{platform.python_version()}, {sys.executable}"
    yield Finding(group, "Python", "ok" if known else "bad", where)
    if sys.flags.optimize:
        yield Finding(group, "assertions", "bad", "start Python without -O and PYTHONOPTIMIZE")
    for name in REQUIRED:
        version = _version(name)
        text = version or f"missing; install it with: pip install {name}"
        yield Finding(group, name, "ok" if version else "bad", text)
    for name, what in OPTIONAL.items():
        version = _version(name)
        yield Finding(
            group, name, "ok" if version else "no", f"{version or 'not installed'} ({what})"
        )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _machine() -> Iterator[Finding]:
    import psutil

    group = "this machine"
    yield Finding(group, "system", "ok", f"{platform.platform()}, {user_label()}")
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    yield Finding(group, "cores", "ok", f"{cores}; so many engines are started by default")
    memory = psutil.virtual_memory()
    text = f"{bytes_text(memory.available)} of {bytes_text(memory.total)} are free"
    yield Finding(group, "memory", "ok", text)
    yield _shared_memory()
    yield _open_files()
    warm = osprocess.can_fork_warm()
    text = (
        "processes are forked from a warm one"
        if warm
        else "each process starts anew, which takes longer"
    )
    yield Finding(group, "quick starts", "ok" if warm else "no", text)
    linux = osprocess.is_linux()
    text = "the system ends what a process leaves behind" if linux else "found through psutil"
    yield Finding(group, "no orphans", "ok" if linux else "no", text)
    yield _address()


def _shared_memory() -> Finding:
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return Finding(
            "this machine", "shared memory", "no", "large objects travel through sockets"
        )
    free = shutil.disk_usage(folder).free
    return Finding("this machine", "shared memory", "ok", f"{bytes_text(free)} free in {folder}")


def _open_files() -> Finding:
    if resource is None:
        return Finding("this machine", "open files", "ok", "no limit")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return Finding("this machine", "open files", "ok", "no limit")
    text = f"{hard:,} at most; a controller needs one for each engine and client"
    return Finding("this machine", "open files", "ok" if hard >= 1024 else "no", text)


def _address() -> Finding:
    name = socket.gethostname()
    try:
        address = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0]
    except OSError as problem:
        text = f"{name} cannot be resolved ({problem.strerror}); other hosts need --client-location"
        return Finding("this machine", "address", "no", text)
    return Finding("this machine", "address", "ok", f"{name} is {address}")


def _launchers() -> Iterator[Finding]:
    for program, what in PROGRAMS.items():
        path = shutil.which(program)
        text = f"{path or 'not found'} ({what})"
        yield Finding("starting engines elsewhere", program, "ok" if path else "no", text)


def _directory(given: Path | None) -> Iterator[Finding]:
    from ipython1.kernel.config import config_manager
    from ipython1.kernel.host.security import IPythonDirs

    group = "directory"
    try:
        dirs = IPythonDirs.resolve(given)
        if dirs.ipython_dir.exists():
            dirs.prepare()
            free = shutil.disk_usage(dirs.ipython_dir).free
            text = f"{dirs.ipython_dir}, {bytes_text(free)} free"
            yield Finding(group, "files", "ok" if free > 100e6 else "bad", text)
        else:
            yield Finding(group, "files", "ok", f"{dirs.ipython_dir} is made at the first start")
        path = config_manager.path(dirs.ipython_dir)
        config_manager.get_config(given)
        text = str(path) if Path(path).exists() else "none; the defaults hold"
        yield Finding(group, "settings", "ok", text)
    except (KernelError, ConfigError, OSError) as problem:
        yield Finding(group, "files", "bad", str(problem))


def _cluster() -> Finding:
    """Start a cluster of one engine in a directory of its own, and use it."""
    from ipython1.kernel.clusters.cluster import Cluster

    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ipython1-check-") as folder:
        try:
            with Cluster(n=1, kind="local", ipython_dir=folder) as cluster:
                started = time.monotonic() - begun
                answer = cluster.multiengine().execute("6 * 7", targets=0)[0]
        except (KernelError, OSError) as problem:
            text = " ".join(str(problem).split("\n")[:3])
            return Finding("a trial", "one engine", "bad", text)
    right = answer.get("result") in (42, "42") or "42" in str(answer)
    text = f"started in {started:.1f} s, computed, and stopped"
    return Finding("a trial", "one engine", "ok" if right else "bad", text)
