"""Clusters without what only Linux has: as on Windows, as far as that can be shown on Linux."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from ipython1.system import PORTABLE_VARIABLE
from tests.test_ipcluster import LIMIT, IpclusterCase

HERE = Path(__file__).parent
PROGRAM = HERE / "programs" / "other_systems.py"

OWNED = """
from ipython1.kernel.cluster import Cluster
if __name__ == "__main__":
    with Cluster(n=2) as cluster:
        mec = cluster.multiengine()
        mec.execute("a = 1")
        assert mec.pull("a") == [1, 1]
    print("ended")
"""


class WindowsTests(IpclusterCase):
    """Every process lacks what Windows' Python lacks; see ``tests/otherpython``."""

    def setUp(self) -> None:
        super().setUp()
        path = os.pathsep.join([str(HERE / "otherpython"), self.environ["PYTHONPATH"]])
        self.environ.update(PYTHONPATH=path, USERNAME="me", LOGNAME="me")
        self.environ.pop(PORTABLE_VARIABLE, None)

    def run_program(self) -> None:
        done = self.run_to_end([sys.executable, str(PROGRAM)])
        self.assertEqual(done.stdout.strip(), "all is well", done.stderr)

    def test_the_names_are_gone(self) -> None:
        said = self.run_python(
            "import os, sys, ipython1.system as s\n"
            "print(hasattr(os, 'fork'), sys.modules['fcntl'], s.LINUX, s.UNIX_SOCKETS)"
        )
        self.assertEqual(said.strip(), "False None False False")

    def test_ipcluster(self) -> None:
        process = self.start("-n", "2")
        self.assertIn("2 engines", self.run_ipcluster("list").stdout)
        self.assertIn("registered", self.run_ipcluster("logs", "controller").stdout)
        self.run_ipcluster("engines", "-n", "1")
        self.run_ipcluster("restart", "engines", "2")
        self.run_ipcluster("remove", "2")
        self.assertEqual(json.loads(self.run_ipcluster("status", "--json").stdout)["ids"], [0, 1])
        self.run_ipcluster("stop")
        self.assertEqual(process.wait(LIMIT), 0)
        self.nothing_is_left()

    def test_a_program_and_its_own_cluster(self) -> None:
        process = self.start("-n", "2")
        self.run_program()
        process.wait(LIMIT)
        self.nothing_is_left()
        self.assertEqual(self.run_python(OWNED).strip(), "ended")
        self.nothing_is_left()

    def test_by_hand(self) -> None:
        engine = [sys.executable, "-m", "ipython1.kernel.scripts.ipengine"]
        programs = [self.start_controller(), *(self.start_program(engine) for _ in range(2))]
        self.run_program()
        for program in programs:
            self.assertEqual(program.wait(LIMIT), 0)
        self.nothing_is_left()
