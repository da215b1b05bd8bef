"""Options for engines that come and go, and for clusters that nobody uses."""

from __future__ import annotations

from typing import Any

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.clusters.launch import command_options
from ipython1.kernel.launchers.adaptation import Adaptation
from ipython1.kernel.launchers.clusterconfig import ClusterConfig
from ipython1.kernel.scripts.clusteroptions import engines_like, parse_cluster
from ipython1.kernel.scripts.clusterwords import find_word, run_word
from ipython1.kernel.scripts.tests.optionscase import OptionsTestCase

INI = """
[cluster]
    idle_timeout = 60
    [[adapt]]
        minimum = 2
        maximum = 6
        idle = 30
        keep_data = no
"""


class AdaptOptionsTests(OptionsTestCase):
    def config(self, *arguments: str) -> Any:
        return parse_cluster([f"--ipython-dir={self.directory}", *arguments]).config

    def test_the_range(self) -> None:
        config = self.config("--adapt=2:8")
        self.assertEqual((config.adaptation, config.n), (Adaptation(2, 8), 2))
        config = self.config("slurm", "--adapt", "8")
        self.assertEqual((config.adaptation, config.n), (Adaptation(0, 8), 0))
        self.assertEqual(self.config("-n", "3", "--adapt=0:8").n, 3)
        config = self.config("-n", "3")
        self.assertEqual((config.adaptation, config.idle_timeout), (None, 0.0))
        for text in ("x", "8:2", "0:0", "-1:4", "2:", ":4", "1:2:3", "0:999999"):
            line = self.assert_ends(2, self.config, f"--adapt={text}")
            self.assertIn("argument --adapt: ", line)

    def test_when_they_come_and_go(self) -> None:
        config = self.config(
            "--adapt=0:4", "--adapt-duration=120", "--adapt-idle=5", "--adapt-drop-data"
        )
        self.assertEqual(config.adaptation, Adaptation(0, 4, 120.0, 5.0, False))
        line = self.assert_ends(2, self.config, "--adapt=0:4", "--adapt-idle=0")
        self.assertIn("idle must be a number of seconds above 0, not 0", line)
        line = self.assert_ends(2, self.config, "-n", "4", "--adapt-idle=5")
        self.assertIn("--adapt-idle means nothing without --adapt=MIN:MAX", line)

    def test_the_command_line_goes_over_the_ini_file(self) -> None:
        self.ini(INI)
        config = self.config()
        self.assertEqual(config.adaptation, Adaptation(2, 6, idle=30.0, keep_data=False))
        self.assertEqual((config.n, config.idle_timeout), (2, 60.0))
        config = self.config("--adapt=0:4", "--adapt-idle=5", "--idle-timeout=0")
        self.assertEqual(config.adaptation, Adaptation(0, 4, idle=5.0, keep_data=False))
        self.assertEqual(config.idle_timeout, 0.0)

    def test_mpi_is_refused(self) -> None:
        line = self.assert_ends(2, self.config, "mpiexec", "--adapt=0:4")
        self.assertIn("not for 'mpiexec': engines of an MPI job end together", line)

    def test_engines_that_are_added_do_not_change_the_cluster(self) -> None:
        for words, name in (
            (["--adapt=0:4"], "--adapt"),
            (["--idle-timeout=5"], "--idle-timeout"),
        ):
            problem = self.assertRaises(
                ClusterError, engines_like, ClusterConfig(), ["engines", *words], ""
            )
            self.assertIn(f"{name} is for a new cluster", str(problem))

    def test_from_python(self) -> None:
        self.assertEqual(command_options({"idle_timeout": 60}), ["--idle-timeout=60"])

    def test_the_word(self) -> None:
        for words in (["adapt"], ["adapt", "of"], ["adapt", "4:2"], ["adapt", "0:4", "--idle=x"]):
            self.assertIn("ipcluster adapt", self.assert_ends(2, run_word, *find_word(words)))
        words = ["adapt", "0:4", "--idle=0", f"--ipython-dir={self.directory}"]
        line = self.assert_ends(2, run_word, *find_word(words))
        self.assertIn("idle must be a number of seconds above 0", line)
