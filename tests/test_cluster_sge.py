"""Engines as the tasks of an array job, in a private Grid Engine."""

from __future__ import annotations

import os
import signal
import subprocess

from tests.test_ipcluster import LIMIT, IpclusterCase, until
from tests.testbeds import testbed

PASS_A_LIMIT = """
import time
from ipython1.kernel import client
from ipython1.kernel.client import Cluster
cluster, tc = Cluster.attach(), client.TaskClient()
def work(number):
    import time
    time.sleep(1.0)
    return number
while len(jobs := cluster.status().jobs) != 1:
    time.sleep(0.05)  # what was cancelled is still listed for a moment
while cluster.status().jobs == jobs:
    tasks = [tc.run(client.MapTask(work, (number,))) for number in range(2)]
    results = [tc.get_task_result(task, block=True) for task in tasks]
    assert [each.failure for each in results] == [None, None], results
assert cluster.wait_for_engines(1, 60) == [0]
"""


class SgeTests(IpclusterCase):
    """One host with eight places."""

    def setUp(self) -> None:
        sge = testbed("sge")
        super().setUp()
        self.environ.update(sge.environ)

    def qstat(self) -> str:
        return subprocess.run(
            ["qstat"], env=self.environ, capture_output=True, text=True, check=True, timeout=LIMIT
        ).stdout

    def nothing_is_left(self) -> None:
        until(lambda: not self.qstat())
        super().nothing_is_left()

    def test_a_cluster(self) -> None:
        process = self.start("sge", "-n", "3", "--queue=all.q")
        printed = self.run_python(
            "from ipython1.kernel import client\n"
            "mec = client.MultiEngineClient()\n"
            "mec.execute('import os; task = os.environ[\"SGE_TASK_ID\"]')\n"
            "print(mec.get_ids(), mec.pull('task'))\n"
        )
        self.assertEqual(printed, "[0, 1, 2] ['1', '2', '3']\n")
        self.assertEqual(self.run_ipcluster("engines", "-n", "1").stdout, "added: engine 3\n")
        self.run_python(
            "from ipython1.kernel.client import Cluster\n"
            "cluster = Cluster.attach()\n"
            "cluster.remove_engines(1)\n"
            "assert cluster.ids == [0, 2, 3]\n"
            "try:\n"
            "    cluster.restart_engine(2)\n"
            "except Exception as problem:\n"
            "    assert 'remove the engine and add another one' in str(problem), problem\n"
            "else:\n"
            "    raise AssertionError('it was restarted')\n"
        )
        self.assertEqual(len(self.status().jobs), 2)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(LIMIT), 0)
        self.nothing_is_left()

    def test_what_grid_engine_holds_and_ends(self) -> None:
        """Jobs that are held after an error are cancelled; those that reach the soft limit come back.

        The end by kill -9 leaves nothing.
        """
        process = self.start("sge", "-n", "0")
        place = self.directory / "no-such-place"
        error = self.run_ipcluster(
            *("engines", "sge", "-n", "2", f"--batch-option=-wd {place}"), status=1
        ).stderr
        self.assertRegex(error, r"engine 1 is held by the batch system after an error \(job \d+")
        self.assertIn(f"can't chdir to {place}", error)
        until(lambda: "Eqw" not in self.qstat())
        self.run_ipcluster("engines", "sge", "-n", "1", "--time=0:0:30")
        self.run_python(PASS_A_LIMIT, 4 * LIMIT)
        process.kill()
        assert process.stdout is not None
        self.assertRegex(
            process.stdout.read(),
            r"sge engine 0 is submitted again as job \d+: it left before the end",
        )
        self.nothing_is_left()

    def test_errors(self) -> None:
        error = self.run_ipcluster("sge", "-n", "1", "--queue=nowhere.q", status=1).stderr
        self.assertRegex(error, "^ipcluster: qsub rejected the job: .*nowhere.q")
        error = self.run_ipcluster(
            "sge", "-n", "2", "--setup", "echo no luck here; exit 3", status=1
        )
        self.assertIn("no luck here", error.stderr)
        self.nothing_is_left()
        environ = {**self.environ, "PATH": str(self.directory)}
        done = subprocess.run(
            self.command("sge", "-n", "1"),
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT,
        )
        self.assertIn("program 'qsub' not found", done.stderr)
        self.assertEqual(done.returncode, 1, os.linesep.join([done.stdout, done.stderr]))
