"""Engines as ranks of MPI jobs, under every MPI that works here."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from ipython1.daemon import osprocess
from tests.test_ipcluster import LIMIT, IpclusterCase, until
from tests.testbeds import mpi_program

ALLREDUCE = """
from ipython1.kernel import client
mec = client.MultiEngineClient()
mec.execute('''
from mpi4py import MPI
comm = MPI.COMM_WORLD
rank = comm.rank
total = comm.allreduce(rank + 1)
''')
print(mec.get_ids(), mec.pull("rank"), mec.pull("total"))
for engine in mec.get_ids():
    mec.set_properties({"rank": engine}, targets=engine)
tc = client.TaskClient()
def on(rank):
    return client.Task(
        "total = comm.allreduce(rank * n)",
        push={"n": 10},
        pull="total",
        depend=lambda properties: properties["rank"] == rank,
    )
ids = [tc.run(on(engine)) for engine in mec.get_ids()]
print([tc.get_task_result(id, block=True)["total"] for id in ids])
"""


ONE_FAILS = """
[mpi]
fails = '''
from mpi4py import MPI as mpi
mpi.rank = mpi.COMM_WORLD.rank
if mpi.rank == 1:
    raise ValueError("bad\\nluck")
mpi.COMM_WORLD.Barrier()
'''
"""


class MpiCase(IpclusterCase):
    """One MPI.

    :cvar name: as ``tests.testbeds.mpi`` calls it.
    """

    name: str

    def setUp(self) -> None:
        self.launcher, self.python = mpi_program(self.name)
        super().setUp()

    def up(self, n: int = 2) -> subprocess.Popen[str]:
        return self.start("mpiexec", f"--engines={n}", "--mpi=mpi4py", f"--mpiexec={self.launcher}")

    def check_example(self) -> None:
        """The program in the documentation prints what the page shows; it must run first, for the numbers."""
        examples = Path(__file__).resolve().parents[1] / "docs" / "examples"
        shown = self.run_python((examples / "mpi_pi.py").read_text())
        self.assertEqual(shown, (examples / "mpi_pi.shown").read_text())

    def check_allreduce(self, n: int = 2) -> None:
        ranks, total = list(range(n)), sum(range(n))
        self.assertEqual(
            self.run_python(ALLREDUCE), f"{ranks} {ranks} {[total + n] * n}\n{[total * 10] * n}\n"
        )

    def check_a_rank_that_fails(self) -> None:
        """Its own words are told in one line, and it does not wait for the others, which wait for it."""
        (self.directory / "ipython1.kernel.ini").write_text(ONE_FAILS)
        mpiexec = f"--mpiexec={self.launcher}"
        error = self.run_ipcluster("mpiexec", "-n", "2", mpiexec, "--mpi=fails", status=1).stderr
        first, second = error.splitlines()
        self.assertRegex(
            first,
            r"ipcluster: mpiexec-1 exited with status \d+: ipengine: cannot set up MPI with --mpi=fails: "
            "ValueError: bad luck; ",
        )
        self.assertEqual(second, "ipcluster: no engine could be started")
        self.nothing_is_left()

    def launcher_pid(self, process: subprocess.Popen[str]) -> int:
        """The process of ``mpiexec``: the child of the nanny that is not the controller."""
        table = osprocess.process_table()
        parents = {pid: table[pid].parent for pid in self.processes()}
        (nanny,) = [pid for pid, parent in parents.items() if parent == process.pid]
        controller = self.status().controller
        assert controller is not None
        below = {pid for pid, parent in parents.items() if parent == nanny}
        (found,) = below - {controller.pid}
        return found


class OpenMpiTests(MpiCase):
    name = "openmpi"

    def test_allreduce_and_ctrl_c(self) -> None:
        process = self.up()
        self.check_allreduce()
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(LIMIT), 0)
        self.assertEqual(self.processes(), [])

    def test_kill_9_of_mpiexec(self) -> None:
        process = self.up()
        os.kill(self.launcher_pid(process), signal.SIGKILL)
        line = process.stdout.readline()  # type: ignore[union-attr]
        self.assertRegex(line, "mpiexec-1 was killed by signal SIGKILL")
        until(lambda: len(self.processes()) == 3)  # ipcluster, its nanny, the controller
        until(lambda: self.status().ids == ())

    def test_mpirun_by_hand(self) -> None:
        """As the reference has it: a controller, and ``mpirun -n 2 ipengine --mpi=mpi4py``."""
        run = [self.python, "-m", "ipython1.kernel.scripts.ipcontroller"]
        controller = subprocess.Popen(run, env=self.environ, stdout=subprocess.PIPE, text=True)
        self.addCleanup(controller.stdout.close)  # type: ignore[union-attr]
        self.addCleanup(controller.wait)
        self.addCleanup(controller.kill)
        self.assertIn("listening", controller.stdout.readline())  # type: ignore[union-attr]
        engine = [self.python, "-m", "ipython1.kernel.scripts.ipengine", "--mpi=mpi4py"]
        mpirun = subprocess.Popen([*self.launcher.split(), "-n", "2", *engine], env=self.environ)
        self.addCleanup(mpirun.wait)
        self.addCleanup(mpirun.kill)
        code = """
from ipython1.kernel import client
import time
mec = client.MultiEngineClient()
while len(mec.get_ids()) < 2:
    time.sleep(0.02)
print(mec.get_ids(), mec.execute("print(__import__('mpi4py.MPI').MPI.COMM_WORLD.size)")[1]["stdout"])
"""
        self.assertEqual(self.run_python(code), "[0, 1] 2\n\n")
        mpirun.kill()
        until(lambda: self.processes() == [controller.pid])

    def test_what_is_missing_is_told_before_anything_starts(self) -> None:
        for option, words in (
            ("--mpi=pytrilinos", "needs the package 'PyTrilinos', which is not installed for"),
            ("--mpi=magic", "there is no setting 'magic' in the [mpi] section"),
            ("--mpiexec=no-such-mpiexec", "program 'no-such-mpiexec' not found; install an MPI"),
        ):
            error = self.run_ipcluster("mpiexec", "-n", "2", option, status=1).stderr
            self.assertIn(words, error)
            self.assertEqual(error.count("\n"), 1)
            self.assertFalse((self.directory / "security" / "ipcontroller-engine.furl").exists())

    def test_what_mpiexec_says_is_told(self) -> None:
        error = self.run_ipcluster(
            "mpiexec", "-n", "2", "--mpiexec=mpiexec --no-such", status=1
        ).stderr
        self.assertRegex(error, "mpiexec-1 exited with status .*option.*no-such")
        self.assertEqual(error.count("\n"), 2)
        self.nothing_is_left()

    def test_a_rank_that_fails(self) -> None:
        self.check_a_rank_that_fails()


class SystemMpiTests(MpiCase):
    """Debian's Open MPI, or the MPI that ``IPYTHON1_TEST_MPIEXEC`` names."""

    name = "system"

    def test_allreduce_and_kill_by_a_client(self) -> None:
        process = self.up()
        self.check_allreduce()
        self.run_python(
            "from ipython1.kernel import client; client.MultiEngineClient().kill(controller=True)"
        )
        self.assertEqual(process.wait(LIMIT), 0)
        self.nothing_is_left()


class MpichTests(MpiCase):
    name = "mpich"

    def test_allreduce_and_kill_9_of_ipcluster(self) -> None:
        process = self.up(4)
        self.check_example()
        self.check_allreduce(4)
        process.kill()
        self.nothing_is_left()

    def test_a_rank_that_fails(self) -> None:
        self.check_a_rank_that_fails()
