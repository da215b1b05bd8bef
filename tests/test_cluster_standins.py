"""Whole clusters on the stand-ins for PBS, Torque, LSF and Flux: what they submit, follow, cancel and leave."""

from __future__ import annotations

import json
import os
import signal

from tests import standins
from tests.test_ipcluster import LIMIT, IpclusterCase, until


class StandinTests(IpclusterCase):
    """One cluster for each; its first engines wait in the queue until they are let go."""

    def install(self, kind: str) -> None:
        state = self.directory / kind
        state.mkdir()
        programs = standins.install(kind, state)
        self.jobs = standins.Jobs(state)
        self.closed = state / "closed"
        self.closed.touch()
        self.environ["STANDINS"] = str(state)
        self.environ["PATH"] = f"{programs}{os.pathsep}{self.environ['PATH']}"

    def living(self) -> list[tuple[int, int]]:
        return [
            (each["job"], each["index"]) for each in self.jobs.all() if each["state"] != "ended"
        ]

    def nothing_is_left(self) -> None:
        until(lambda: not self.living())
        super().nothing_is_left()

    def check(self, kind: str, variable: str, members: list[str], reason: str) -> None:
        """A cluster of two engines, of which one is cancelled, to which one is added.

        :param variable: the system's variable with the index of a member.
        :param members: the values that it must have.
        :param reason: why engines wait in the queue.
        """
        self.install(kind)
        process = self.start_program(self.command(kind, "-n", "2", "--queue=main"))
        assert process.stdout is not None
        self.assertIn(reason, next(line for line in process.stdout if "waiting" in line))
        self.closed.unlink()
        self.wait_until_up(process)
        self.assertEqual(self.run_ipcluster("engines", "-n", "1").stdout, "added: engine 2\n")
        printed = self.run_python(
            "from ipython1.kernel import client\n"
            "import json\n"
            "mec = client.MultiEngineClient()\n"
            f"mec.execute('import os; member = os.environ.get(\"{variable}\")')\n"
            "print(json.dumps([mec.get_ids(), mec.pull('member')]))\n"
        )
        self.assertEqual(json.loads(printed), [[0, 1, 2], members])
        self.run_python(
            "from ipython1.kernel.client import Cluster\n"
            "cluster = Cluster.attach()\n"
            "cluster.remove_engines(1)\n"
            "assert cluster.ids == [0, 2]\n"
        )
        until(lambda: len(self.living()) == 2)
        self.assertEqual(len(self.status().jobs), 2)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(LIMIT), 0)
        self.nothing_is_left()

    def refused(self, kind: str, message: str) -> None:
        error = self.run_ipcluster(kind, "-n", "1", "--queue=nowhere", status=1).stderr
        self.assertIn(message, error)
        self.nothing_is_left()

    def test_pbs(self) -> None:
        # A single engine is a plain job, which has no index.
        self.check(
            *("pbs", "PBS_ARRAY_INDEX", ["0", "1", None]),  # type: ignore[list-item]
            "Not Running: Insufficient amount of resource: ncpus (R: 1 A: 0)",
        )

    def test_torque(self) -> None:
        self.check("torque", "PBS_ARRAYID", ["0", "1", "0"], "Not Running: Insufficient")

    def test_lsf(self) -> None:
        self.check("lsf", "LSB_JOBINDEX", ["1", "2", "1"], "Job slot limit reached")

    def test_flux(self) -> None:
        self.check("flux", "FLUX_JOB_CC", ["0", "1", "0"], "Waiting for 1 core")
