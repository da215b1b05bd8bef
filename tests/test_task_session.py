"""Programs on a real ``ipcluster -n 4`` that use the Task interface."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from twisted.trial import unittest

from ipython1.testing import RealCluster

PROGRAMS = Path(__file__).parent / "programs"


class TaskSessionTests(unittest.SynchronousTestCase):
    """Each program has its own cluster, because the programs kill engines."""

    def run_on_cluster(self, program: str, last_line: str, engines: int = 4, ini: str = "") -> None:
        path = os.pathsep.join([str(PROGRAMS), *(each for each in sys.path if each)])
        cluster = RealCluster(engines, environ={"PYTHONPATH": path})
        self.addCleanup(cluster.stop)
        if ini:
            file = cluster.ipython_dir / "ipython1.kernel.ini"
            file.touch(mode=0o600)
            file.write_text(ini)
        cluster.start()
        result = cluster.run_program(PROGRAMS / program)
        self.assertEqual(result.stdout.splitlines()[-1], last_line)

    def test_tutorial(self) -> None:
        """The session in the documentation works as shown."""
        self.run_on_cluster("task_session.py", "every value is as documented")

    def test_faults(self) -> None:
        """Bad input, broken and poisonous tasks get clear errors, and no one else is harmed."""
        self.run_on_cluster("task_faults.py", "every error was clear and soon")

    def test_kill_storm(self) -> None:
        """With engines killed at random, every result is right and none arrives twice."""
        self.run_on_cluster("task_kill_storm.py", "every result is right and none was given twice")

    def test_waits_of_code_on_engines(self) -> None:
        """A wait that can never end fails at once, in whatever way it is made; all others end."""
        self.run_on_cluster(
            "nested_waits.py", "what can never end has failed, and all else has ended", 2
        )

    def test_a_users_scheduler(self) -> None:
        """The scheduler that the ini file names decides what runs next."""
        ini = "[task]\nscheduler = task_scheduler.EvenFirst\n"
        self.run_on_cluster("task_scheduler.py", "the scheduler was obeyed", 1, ini)

    def test_graphs(self) -> None:
        """Tasks run after others, where others ran, and on chosen engines, whatever is killed meanwhile."""
        self.run_on_cluster(
            "task_graphs.py", "every task ran when and where it was to, or not at all", 1
        )

    def test_asynchronous_client(self) -> None:
        """The asynchronous client does the same in an asyncio program."""
        self.run_on_cluster("task_async.py", "the asynchronous client does the same")
