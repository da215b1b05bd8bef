"""Whole clusters on the stand-ins for PBS, Torque, LSF and Flux: what they submit, follow, cancel and leave."""

from __future__ import annotations

import json
import os

from tests import standins
from tests.test_ipcluster import LIMIT, IpclusterCase, until

PROGRAM = """
import json, sys
from ipython1.kernel.client import Cluster
with Cluster(kind=sys.argv[1], n=2, queue='main') as cluster:
    added = cluster.add_engines(1)
    mec = cluster.multiengine()
    mec.execute(f'import os; member = os.environ.get({sys.argv[2]!r})')
    members = mec.pull('member')
    cluster.remove_engines(1)
    print(json.dumps([added, members, cluster.ids, len(cluster.status().jobs)]))
"""


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

    def check(self, kind: str, variable: str, members: list[str | None], reason: str) -> None:
        """A cluster of two engines, to which one is added, and of which one is cancelled.

        :param variable: the system's variable with the index of a member.
        :param members: the values that it must have.
        :param reason: why engines wait in the queue.
        """
        self.install(kind)
        process = self.start_program([self.python, "-c", PROGRAM, kind, variable])
        assert process.stdout is not None
        self.assertIn(reason, next(line for line in process.stdout if "waiting" in line))
        self.closed.unlink()
        printed = process.stdout.readlines()
        self.assertEqual(process.wait(LIMIT), 0, "".join(printed))
        found = next(json.loads(line) for line in printed if line.startswith("["))
        self.assertEqual(found, [[2], members, [0, 2], 2])
        self.nothing_is_left()

    def test_pbs(self) -> None:
        # A single engine is a plain job, which has no index.
        self.check(
            *("pbs", "PBS_ARRAY_INDEX", ["0", "1", None]),
            "Not Running: Insufficient amount of resource: ncpus (R: 1 A: 0)",
        )

    def test_torque(self) -> None:
        self.check("torque", "PBS_ARRAYID", ["0", "1", "0"], "Not Running: Insufficient")

    def test_lsf(self) -> None:
        self.check("lsf", "LSB_JOBINDEX", ["1", "2", "1"], "Job slot limit reached")

    def test_flux(self) -> None:
        self.check("flux", "FLUX_JOB_CC", ["0", "1", "0"], "Waiting for 1 core")
