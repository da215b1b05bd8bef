"""Whole clusters on the stand-ins for PBS, Torque, LSF and Flux: what they submit, follow, cancel and leave."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import NamedTuple

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


class _Begun(NamedTuple):
    state: Path
    process: subprocess.Popen[str]


class StandinTests(IpclusterCase):
    """One cluster for each; its first engines wait in the queue until they are let go.

    Two are there at a time, as most of what happens is waiting.
    """

    def begin(self, kind: str, variable: str) -> _Begun:
        """Start a program with a cluster; no job leaves the queue.

        :param variable: the system's variable with the index of a member.
        """
        state = self.directory / kind
        state.mkdir()
        programs = standins.install(kind, state)
        (state / "closed").touch()
        environ = {
            **self.environ,
            "STANDINS": str(state),
            "PATH": f"{programs}{os.pathsep}{self.environ['PATH']}",
        }
        command = [self.python, "-c", PROGRAM, kind, variable]
        return _Begun(state, self.start_program(command, environ))

    def check(self, begun: _Begun, members: list[str | None], reason: str) -> None:
        """A cluster of two engines, to which one is added, and of which one is cancelled.

        :param members: the values that the variable must have.
        :param reason: why engines wait in the queue.
        """
        process = begun.process
        assert process.stdout is not None
        self.assertIn(reason, next(line for line in process.stdout if "waiting" in line))
        (begun.state / "closed").unlink()
        printed = process.stdout.readlines()
        self.assertEqual(process.wait(LIMIT), 0, "".join(printed))
        found = next(json.loads(line) for line in printed if line.startswith("["))
        self.assertEqual(found, [[2], members, [0, 2], 2])
        jobs = standins.Jobs(begun.state)
        until(lambda: all(each["state"] == "ended" for each in jobs.all()))

    def test_pbs_and_torque(self) -> None:
        pbs = self.begin("pbs", "PBS_ARRAY_INDEX")
        torque = self.begin("torque", "PBS_ARRAYID")
        # A single engine is a plain job, which has no index.
        self.check(
            *(pbs, ["0", "1", None]),
            "Not Running: Insufficient amount of resource: ncpus (R: 1 A: 0)",
        )
        self.check(torque, ["0", "1", "0"], "Not Running: Insufficient")
        self.nothing_is_left()

    def test_lsf_and_flux(self) -> None:
        lsf = self.begin("lsf", "LSB_JOBINDEX")
        flux = self.begin("flux", "FLUX_JOB_CC")
        self.check(lsf, ["1", "2", "1"], "Job slot limit reached")
        self.check(flux, ["0", "1", "0"], "Waiting for 1 core")
        self.nothing_is_left()
