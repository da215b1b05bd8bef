"""Which engines are refused because they could not reach the controller."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from twisted.trial import unittest

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.clusters.reachable import check_reachable
from ipython1.kernel.host.security import ClusterFiles, IPythonDirs, write_furl
from ipython1.kernel.launchers.clusterconfig import ClusterConfig, SshOptions
from ipython1.testing.folders import temporary_path


class ReachableTests(unittest.SynchronousTestCase):
    """The controller listens for its own host only."""

    def setUp(self) -> None:
        directory = Path(temporary_path(self)).absolute()
        (directory / "security").mkdir(parents=True, mode=0o700)
        self.files = ClusterFiles(IPythonDirs(directory))
        write_furl(self.files.engine_furl, f"pb://{'a' * 32}@tcp:127.0.0.1:4000/{'b' * 32}")
        self.file = directory / "hosts.py"

    def check(self, kind: str, **ssh: object) -> None:
        options = replace(SshOptions(hosts=(("node1", 1),)), **ssh)  # type: ignore[arg-type]
        check_reachable(replace(ClusterConfig(kind), ssh=options), self.files, "again")

    def refusal(self, kind: str, **ssh: object) -> str:
        return str(self.assertRaises(ClusterError, self.check, kind, **ssh))

    def test_engines_of_this_host(self) -> None:
        self.check("local")

    def test_engines_of_others(self) -> None:
        self.assertRegex(self.refusal("slurm"), "for this host only; .*: again$")
        self.assertRegex(self.refusal("ssh"), r"again; or have ssh carry .* \(tunnel\)$")

    def test_engines_whose_connections_ssh_carries(self) -> None:
        self.check("ssh", tunnel=True)
        self.file.write_text(
            "engines = dict(node1=dict(n=1, tunnel=True), node2=dict(tunnel=True))"
        )
        self.check("ssh", hosts=(), cluster_file=str(self.file))
        self.file.write_text("engines = dict(node1=dict(n=1, tunnel=True), node2=1)")
        self.refusal("ssh", hosts=(), cluster_file=str(self.file))
