"""What prompts and notebooks show of clusters."""

from __future__ import annotations

import os
from dataclasses import replace

from IPython.lib.pretty import pretty
from twisted.trial.unittest import SynchronousTestCase

from ipython1.daemon import osprocess
from ipython1.kernel.clusters.cluster import Cluster
from ipython1.kernel.clusters.clusterforms import cluster_html, cluster_text, known_status
from ipython1.kernel.clusters.status import ClusterStatus, EngineInfo, ProcessInfo, write_state
from ipython1.kernel.host.security import ClusterFiles, IPythonDirs
from ipython1.kernel.launchers.interfaces import HostInfo

ENGINES = (
    EngineInfo(id=0, state="running", pid=11),
    EngineInfo(id=1, state="running", pid=12, host="<b>node1</b>", restarts=2),
    EngineInfo(id=2, state="ended", reason="<script>exited</script>"),
    EngineInfo(id=3, state="running", pid=13),
    EngineInfo(id=4, state="running", pid=14, stopped=True),
)


def status(**more: object) -> ClusterStatus:
    own = osprocess.process_entry(os.getpid())
    assert own is not None
    found = ClusterStatus(
        cluster_id="work",
        kind="local",
        state="running",
        host=os.uname().nodename,
        pid=os.getpid(),
        pid_started=own.started,
        started=0.0,
        ipython_dir="/x",
        n=5,
        ids=(0, 1, 4),
        controller=ProcessInfo(state="running", pid=10),
        engines=ENGINES,
    )
    return replace(found, **more)


class FormTests(SynchronousTestCase):
    def test_text(self) -> None:
        self.assertEqual(
            cluster_text("<Cluster>", status(warnings=("the disk is full",))),
            "<Cluster>: running, local, 3 of 5 engines usable\n[0-1] running\n"
            "[2] ended: <script>exited</script>\n[3] starting\n[4] stopped\nthe disk is full",
        )
        self.assertEqual(cluster_text("<Cluster>", None), "<Cluster>: not running")

    def test_hosts_that_are_not_there(self) -> None:
        hosts = (
            HostInfo("node1", "there"),
            HostInfo("node2", "away", "node2: Connection refused (port 22)", retry_in=4.0),
            HostInfo("node3", "unusable", "node3: <script>"),
        )
        found = status(hosts=hosts)
        self.assertEqual(
            cluster_text("<Cluster>", found).splitlines()[-2:],
            [
                "host node2: away: Connection refused (port 22)",
                "host node3: unusable: <script>",
            ],
        )
        html = cluster_html("Cluster", "/x", found)
        self.assertIn("Connection refused", html)
        self.assertNotIn("node1", html.replace("&lt;b&gt;node1", ""))
        self.assertNotIn("<script", html)

    def test_html(self) -> None:
        html = cluster_html("Cluster", "/x", status(warnings=("<script>full</script>",)), "below")
        self.assertNotIn("<script", html)
        self.assertNotIn("<b>node1", html)
        self.assertIn("<details open><summary>3 of 5 engines usable</summary>", html)
        self.assertLess(html.index("ended: "), html.index("&lt;b&gt;node1"))
        self.assertIn("not running", cluster_html("Cluster", "/x", None))

    def test_many_engines(self) -> None:
        engines = tuple(EngineInfo(id=each, state="running") for each in range(5000))
        html = cluster_html("C", "/x", status(ids=tuple(range(5000)), engines=engines))
        self.assertIn("<details><summary>5000 of 5000 engines usable</summary>", html)
        self.assertIn("... and 4800 more", html)


class StateTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.cluster = Cluster(2, cluster_id="work", ipython_dir=self.mktemp())
        self.files = ClusterFiles(IPythonDirs.resolve(self.cluster.files.dirs.ipython_dir), "work")
        self.files.dirs.prepare()

    def test_a_cluster_is_shown_without_asking_it(self) -> None:
        self.assertTrue(pretty(self.cluster).endswith(": not running"))
        write_state(self.files.state, status())
        self.assertIn("3 of 5 engines usable", pretty(self.cluster))
        self.assertIn("3 of 5 engines usable", self.cluster._repr_html_())
        self.assertTrue(repr(self.cluster).startswith("<Cluster 'work' in "))

    def test_how_a_process_is_now_is_shown(self) -> None:
        """``ipcluster`` takes a while to notice."""
        own = osprocess.process_entry(os.getpid())
        assert own is not None
        alive = EngineInfo(
            id=0, state="running", pid=own.pid, pid_started=own.started, stopped=True
        )
        dead = EngineInfo(id=1, state="running", pid=own.pid, pid_started=1.0)
        write_state(self.files.state, status(engines=(alive, dead)))
        found = known_status(self.files)
        assert found is not None
        self.assertEqual([each.stopped for each in found.engines], [False, False])
        self.assertEqual([each.state for each in found.engines], ["running", "ended"])

    def test_a_dead_or_damaged_one_does_not_run(self) -> None:
        write_state(self.files.state, status(pid_started=1.0))
        self.assertIsNone(known_status(self.files))
        self.files.state.write_text("{")
        self.assertIsNone(known_status(self.files))

    def test_no_widget_outside_of_a_notebook(self) -> None:
        self.assertEqual(self.cluster._repr_mimebundle_(), {})

    def test_names_of_other_packages_are_answered_with_those_of_here(self) -> None:
        with self.assertRaisesRegex(AttributeError, r"'connect_client_sync': multiengine\(\)"):
            self.cluster.connect_client_sync
        with self.assertRaisesRegex(AttributeError, r"'start_cluster_sync': use start\(\)"):
            self.cluster.start_cluster_sync
        with self.assertRaisesRegex(TypeError, "no option 'engines'; n is their number, and kind"):
            Cluster(engines="mpi")
        with self.assertRaisesRegex(TypeError, "no option 'n_workers'; use n$"):
            Cluster(n_workers=4)
