"""Engines as the jobs of a cluster of jobs, in a private HTCondor."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

from ipython1.daemon.jobmember import LEAVE
from tests.test_ipcluster import LIMIT, IpclusterCase, until
from tests.testbeds import testbed


class HtcondorTests(IpclusterCase):
    """One execute machine with eight places."""

    def setUp(self) -> None:
        htcondor = testbed("htcondor")
        super().setUp()
        self.environ.update(htcondor.environ)

    def condor(self, *command: str) -> str:
        return subprocess.run(
            command, env=self.environ, capture_output=True, text=True, check=True, timeout=LIMIT
        ).stdout

    def queue(self) -> list[dict[str, Any]]:
        text = self.condor("condor_q", "-json", "-attributes", "ClusterId,ProcId,JobStatus")
        return list(json.loads(text or "[]"))

    def nothing_is_left(self) -> None:
        until(lambda: not self.queue())
        super().nothing_is_left()

    def test_a_cluster(self) -> None:
        process = self.start("htcondor", "-n", "3", "--account=physics")
        printed = self.run_python(
            "from ipython1.kernel import client\n"
            "mec = client.MultiEngineClient()\n"
            "mec.execute('import os; slot = os.environ[\"_CONDOR_SLOT\"]')\n"
            "print(mec.get_ids(), len(set(mec.pull('slot'))))\n"
        )
        self.assertEqual(printed, "[0, 1, 2] 3\n")
        self.assertEqual(self.run_ipcluster("engines", "-n", "1").stdout, "added: engine 3\n")
        self.run_python(
            "from ipython1.kernel.client import Cluster\n"
            "cluster = Cluster.attach()\n"
            "cluster.remove_engines(1)\n"
            "assert cluster.ids == [0, 2, 3]\n"
            "try:\n"
            "    cluster.signal(2, 'USR1')\n"
            "except Exception as problem:\n"
            "    assert 'htcondor cannot send signals' in str(problem), problem\n"
            "else:\n"
            "    raise AssertionError('it was sent')\n"
        )
        until(lambda: len(self.queue()) == 3)
        first, second = self.status().jobs
        self.assertEqual({str(job["ClusterId"]) for job in self.queue()}, {first, second})
        self.assertEqual(self.condor("condor_q", "-af", "AcctGroup").split(), ["physics"] * 3)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(LIMIT), 0)
        self.nothing_is_left()

    def test_the_time_limit_and_the_end_by_kill_9(self) -> None:
        process = self.start("htcondor", "-n", "1", "--time=0:00:40", "--notice=20")
        (first,) = self.status().jobs
        # After its limit, the job is held; then it is removed, and its engine is submitted again.
        until(lambda: [str(job["ClusterId"]) for job in self.queue()] not in ([], [first]))
        (output,) = self.directory.glob(f"**/*-htcondor-{first}-0.out")
        self.assertIn(LEAVE, output.read_text())
        process.kill()
        process.wait()
        self.nothing_is_left()

    def test_what_waits_or_fails(self) -> None:
        process = self.start_program(
            self.command("htcondor", "-n", "1", "--batch-option", "request_cpus = 100")
        )
        assert process.stdout is not None
        line = next(line for line in process.stdout if "waiting" in line)
        self.assertIn("no match found", line)
        process.send_signal(signal.SIGINT)
        process.wait(LIMIT)
        self.nothing_is_left()
        error = self.run_ipcluster("htcondor", "-n", "1", "--queue=main", status=2).stderr
        self.assertIn("not for 'htcondor'", error)
        error = self.run_ipcluster(
            *("htcondor", "-n", "1", "--batch-option", "output = /nowhere/x"), status=1
        ).stderr
        self.assertIn("Failed to open '/nowhere/x' as standard output", error)
        self.nothing_is_left()
