"""What ``ipcluster`` makes of its command line."""

from typing import Any

from ipython1.kernel.clusters.launch import command_options
from ipython1.kernel.scripts.clusteroptions import parse_cluster
from ipython1.kernel.scripts.tests.optionscase import OptionsTestCase


class ClusterTests(OptionsTestCase):
    def config(self, *arguments: str) -> Any:
        return parse_cluster([f"--ipython-dir={self.directory}", *arguments]).config

    def test_the_number_of_engines(self) -> None:
        for option in ("-n", "--num", "--n", "--engines"):
            self.assertEqual(self.config(option, "4").n, 4)
            line = self.assert_ends(2, self.config, option, "0")
            self.assertIn("must be at least 1, not 0", line)

    def test_the_queue(self) -> None:
        for option in ("-q", "--queue"):
            config = self.config("sge", "--num=4", option, "all.q")
            self.assertEqual((config.kind, config.n, config.batch.queue), ("sge", 4, "all.q"))

    def test_flags_from_python(self) -> None:
        self.assertEqual(command_options({"reuse_furls": True}), ["--reuse-furls"])
        self.assertEqual(command_options({"reuse_furls": False}), [])
        self.assertRaisesRegex(
            TypeError, "^reuse_furls must be True or False", command_options, {"reuse_furls": "no"}
        )
