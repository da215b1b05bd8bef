"""The launcher for Kubernetes against a small Kubernetes, with pods that only wait."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.host.security import ClusterFiles, IPythonDirs, write_furl
from ipython1.kernel.launchers import polling
from ipython1.kernel.launchers.clusterconfig import ClusterConfig, KubernetesOptions
from ipython1.kernel.launchers.interfaces import Context, IEngineLauncher
from ipython1.kernel.launchers.kube import engines
from ipython1.kernel.launchers.kube.end import main as delete_all
from ipython1.kernel.launchers.kube.engines import KubernetesEngines
from ipython1.testing.folders import temporary_path
from tests.kubernetesserver import IMAGE, Kubernetes

DEPLOY = Path(__file__).resolve().parents[1] / "docs" / "deploy"
FURL = "pb://" + "a" * 32 + "@tcp:10.0.0.1:1234/" + "b" * 32
NEW_FURL = "pb://" + "a" * 32 + "@tcp:10.0.0.1:1234/" + "c" * 32


def documented_rights() -> list[dict[str, Any]]:
    """Return what the role in the documentation allows."""
    _, role, _ = yaml.safe_load_all((DEPLOY / "rights.yaml").read_text())
    return role["rules"]  # type: ignore[no-any-return]


class Reports:
    """Collects what a launcher reports.

    :ivar ended: reason, last lines, whether it was asked for, and whether the system did it, by unit key.
    :ivar queued: why units wait; None if they have left the queue.
    :ivar came_back: why units were ended that are started again.
    """

    def __init__(self) -> None:
        self.said: list[str] = []
        self.ended: dict[str, tuple[str, list[str], bool, bool]] = {}
        self.queued: dict[str, str | None] = {}
        self.came_back: dict[str, str] = {}
        self.commands: dict[str, Sequence[Sequence[str]]] = {}

    def say(self, text: str) -> None:
        self.said.append(text)

    def unit_ended(
        self, key: str, reason: str, lines: Sequence[str], asked: bool, by_system: bool = False
    ) -> None:
        assert key not in self.ended
        self.ended[key] = (reason, list(lines), asked, by_system)

    def unit_queued(self, key: str, reason: str | None) -> None:
        self.queued[key] = reason

    def unit_comes_back(self, key: str, reason: str) -> None:
        self.came_back[key] = reason

    def set_end_commands(self, key: str, commands: Sequence[Sequence[str]]) -> None:
        self.commands[key] = commands

    def jobs_changed(self) -> None:
        pass


class LauncherCase(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.kubernetes = Kubernetes({"PATH": os.environ["PATH"]})
        self.addCleanup(self.kubernetes.close)
        self.kubernetes.program(
            "ipengine", 'echo "engine $*"; trap "exit 0" TERM; sleep 1000 & wait'
        )
        self.patch(os, "environ", {**os.environ, "KUBECONFIG": str(self.kubernetes.kubeconfig)})
        for module, name, value in (
            (polling, "FIRST_PAUSE", 0.02),
            (engines, "LONGEST_PAUSE", 0.02),
            (engines, "SAY_WAITING_AFTER", 0.0),
            (engines, "PULL_PATIENCE", 0.0),
        ):
            self.patch(module, name, value)
        directory = Path(temporary_path(self))
        self.files = ClusterFiles(IPythonDirs(directory).prepare(), "my_work")
        write_furl(self.files.engine_furl, FURL)
        self.reports = Reports()

    def launcher(self, **options: Any) -> KubernetesEngines:
        kubernetes = KubernetesOptions(**{"image": IMAGE, **options})
        config = ClusterConfig("kubernetes", kubernetes=kubernetes, stop_timeout=1.0)
        unused: Any = SimpleNamespace()
        launcher = KubernetesEngines(
            Context(config, self.files, reactor, unused, unused, self.reports)
        )
        launcher.check()
        self.addCleanup(lambda: Deferred.fromCoroutine(launcher.close(0.0)))
        return launcher

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]

    def phases(self) -> list[str]:
        return sorted(pod["status"]["phase"] for pod in self.kubernetes.all("pods"))


class LauncherTests(LauncherCase):
    async def test_engines_come_and_go(self) -> None:
        self.kubernetes.rules = documented_rights()
        launcher = self.launcher(cpu="1", memory="1Gi")
        verifyObject(IEngineLauncher, launcher)
        await launcher.prepare()
        self.assertEqual(await launcher.start([]), [])
        self.assertEqual(self.kubernetes.all("jobs"), [])
        units = await launcher.start([0, 3, 4])
        self.assertEqual([unit.ids for unit in units], [(0,), (3,), (4,)])
        await self.until(lambda: self.phases() == ["Running"] * 3)
        more = await launcher.start([1])
        await self.until(lambda: self.phases() == ["Running"] * 4)
        self.assertEqual(len(launcher.jobs()), 2)
        self.assertEqual(len(self.kubernetes.all("secrets")), 1)
        for pod in self.kubernetes.all("pods"):
            self.assertRegex(pod["metadata"]["labels"]["ipython1/cluster"], "^my-work-[0-9a-f]{8}$")
        await self.until(lambda: self.reports.queued.get(units[1].key, "") is None)
        lines: list[str] = []
        while not lines:
            lines = await launcher.logs(units[1], 3, 5)
        self.assertRegex(lines[0], r"^engine --furl-file=\S+/engine.furl .* --engine-id=3$")
        # One goes, and does not come back.
        await launcher.remove(units[1])
        await self.until(lambda: units[1].key in self.reports.ended)
        self.assertTrue(self.reports.ended[units[1].key][2])
        await self.until(lambda: self.reports.queued.get(more[0].key, "") is None)
        await launcher.remove(more[0])
        await self.until(lambda: more[0].key in self.reports.ended)
        self.assertEqual(len(launcher.jobs()), 1)
        await self.until(lambda: self.phases() == ["Running"] * 2)
        with self.assertRaisesRegex(ClusterError, "has ended"):
            await launcher.remove(more[0])
        # The end command deletes the rest.
        (command,) = next(iter(self.reports.commands.values()))
        self.assertEqual(delete_all(command[-4:]), 0)
        await self.until(lambda: not self.phases())
        self.assertEqual(self.kubernetes.all("jobs") + self.kubernetes.all("secrets"), [])

    async def test_engines_that_kubernetes_ends_are_started_again(self) -> None:
        launcher = self.launcher()
        units = await launcher.start(range(5))
        await self.until(lambda: len(self.reports.queued) == 5)
        await self.until(lambda: set(self.reports.queued.values()) == {None})
        pods = [self.kubernetes.pod_of(index) for index in range(5)]
        self.kubernetes.kill_for_memory(pods[0])
        self.kubernetes.disrupt(pods[1], "TerminationByKubelet", "low on memory", "Evicted")
        self.kubernetes.disrupt(pods[2], "PreemptionByScheduler", "for a more important pod")
        self.kubernetes.delete("pods", pods[3]["metadata"]["name"], None)
        await self.until(lambda: len(self.reports.ended) == 1 and len(self.reports.came_back) == 3)
        reason, lines, asked, by_system = self.reports.ended[units[0].key]
        self.assertRegex(reason, "OOMKilled")
        self.assertEqual((asked, by_system), (False, False))
        self.assertIn("--engine-id=0", lines[0])
        came_back = [self.reports.came_back[unit.key] for unit in units[1:4]]
        self.assertEqual(came_back[0], "was ended by Kubernetes: Evicted: low on memory")
        # The pod may have been gone before anybody could look.
        self.assertRegex(came_back[1], "PreemptionByScheduler|its pod was deleted")
        self.assertEqual(came_back[2], "ended: its pod was deleted")
        # Two are left over: the one that failed and the one that was evicted.
        await self.until(lambda: self.phases() == ["Failed"] * 2 + ["Running"] * 4)
        words = [
            pod["spec"]["containers"][0]["command"][-1]
            for pod in self.kubernetes.all("pods")
            if not pod["metadata"]["labels"]["job-name"].endswith("-1")
        ]
        ids = sorted(re.match("set -- ([0-9 ]+);", each)[1] for each in words)  # type: ignore[index]
        self.assertEqual("".join(dict.fromkeys(" ".join(ids).split())), "123")
        # A Job that somebody deletes is not wanted any more.
        for job in self.kubernetes.all("jobs"):
            self.kubernetes.delete("jobs", job["metadata"]["name"], None)
        await self.until(lambda: len(self.reports.ended) == 5)
        ends = [self.reports.ended[unit.key] for unit in units[1:]]
        self.assertEqual([each[2:] for each in ends], [(False, True)] * 4)

    async def test_engines_that_do_not_get_far_are_given_up(self) -> None:
        launcher = self.launcher()
        units = await launcher.start([7])
        for count in (1, 2, 3):
            await self.until(lambda: self.phases() == ["Running"])
            await self.until(lambda: self.reports.queued.pop(units[0].key, "") is None)
            pod = self.kubernetes.all("pods")[0]
            self.kubernetes.delete("pods", pod["metadata"]["name"], None)
            if count < 3:
                await self.until(lambda: len(self.kubernetes.all("jobs")) == count + 1)
        await self.until(lambda: self.reports.ended)
        self.assertEqual(self.reports.ended[units[0].key][2:], (False, True))
        self.assertIn("ended at once 3 times in a row; not started again", self.reports.said[-1])

    async def test_what_engines_wait_for(self) -> None:
        self.kubernetes.rules = documented_rights()
        self.kubernetes.capacity, self.kubernetes.quota = 1, 2
        launcher = self.launcher()
        units = await launcher.start(range(4))
        await self.until(
            lambda: (
                any("exceeded quota" in each for each in self.reports.said)
                and any("Insufficient cpu" in each for each in self.reports.said)
            )
        )
        self.assertIn(
            "engines waiting for Kubernetes: 1 (Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.), "
            "2 (FailedCreate: pods is forbidden: exceeded quota: pods)",
            self.reports.said,
        )
        self.assertEqual(
            sorted(str(each) for each in self.reports.queued.values())[0],
            "FailedCreate: pods is forbidden: exceeded quota: pods",
        )
        # One that has no pod yet is not started later, either.
        await launcher.remove(units[3])
        self.kubernetes.capacity, self.kubernetes.quota = 10, 10
        await self.until(lambda: self.phases().count("Running") >= 3)
        await self.until(
            lambda: self.phases().count("Running") == 3 and not launcher._jobs[0].unwanted
        )
        self.assertEqual(self.reports.ended, {})

    async def test_an_image_that_cannot_be_pulled(self) -> None:
        launcher = self.launcher(image="nowhere:1")
        units = await launcher.start([0])
        await self.until(lambda: self.reports.ended)
        reason, _, asked, by_system = self.reports.ended[units[0].key]
        self.assertEqual(
            reason, 'cannot start: ImagePullBackOff: Back-off pulling image "nowhere:1": not found'
        )
        self.assertEqual((asked, by_system), (False, False))
        await self.until(lambda: not self.phases())

    async def test_engines_get_the_furl_that_is_valid_now(self) -> None:
        launcher = self.launcher()
        await launcher.start([0])
        await self.until(lambda: self.phases() == ["Running"])
        self.kubernetes.rules = documented_rights()
        write_furl(self.files.engine_furl, NEW_FURL)
        mounted = self.kubernetes.volume_of(self.kubernetes.pod_of(0), "ipython1-secret")
        await self.until(lambda: (mounted / "engine.furl").read_text().strip() == NEW_FURL)

    async def test_what_a_killed_cluster_left_is_deleted(self) -> None:
        killed = self.launcher()
        await killed.start([0])
        await killed.close(0.0)
        await self.until(lambda: self.phases() == ["Running"])
        before = self.kubernetes.pod_of(0)["metadata"]["name"]
        # Another launcher of the same cluster leaves it alone, as do engines for a controller of somebody else.
        second = self.launcher()
        second.context = replace(second.context, scope=" (2)")
        await second.prepare()
        only = self.launcher()
        config = replace(only.context.config, with_controller=False)
        only.context = replace(only.context, config=config)
        await only.prepare()
        self.assertEqual(self.kubernetes.pod_of(0)["metadata"]["name"], before)
        launcher = self.launcher()
        await launcher.prepare()
        await launcher.start([0])
        await self.until(
            lambda: (
                [pod["metadata"]["name"] == before for pod in self.kubernetes.all("pods")]
                == [False]
            )
        )
        self.assertEqual(len(self.kubernetes.all("secrets")), 1)

    async def test_a_restore_file_goes_along(self) -> None:
        path = self.files.security_file("ipcluster.restore")
        path.write_text("restore me")
        path.chmod(0o600)
        launcher = self.launcher()
        launcher.context = replace(
            launcher.context, config=replace(launcher.context.config, restore_file=str(path))
        )
        await launcher.start([0])
        await self.until(lambda: self.phases() == ["Running"])
        pod = self.kubernetes.pod_of(0)
        mounted = self.kubernetes.volume_of(pod, "ipython1-secret")
        self.assertEqual((mounted / "restore").read_text(), "restore me")
        self.assertIn(
            "--restore-file=/var/run/secrets/ipython1/restore",
            pod["spec"]["containers"][0]["command"][-1],
        )

    async def test_an_api_server_that_goes_away_is_told_once(self) -> None:
        launcher = self.launcher()
        await launcher.start([0])
        await self.until(lambda: self.phases() == ["Running"])
        self.kubernetes.forbidden.add(("list", "jobs"))
        await self.until(lambda: self.reports.said)
        asked = len(self.kubernetes.requests)
        await self.until(lambda: len(self.kubernetes.requests) > asked + 3)
        self.assertEqual(
            self.reports.said,
            [
                'cannot list Jobs: Kubernetes refused it: jobs is forbidden: User "ann" cannot list resource "jobs"'
            ],
        )


class RefusalTests(LauncherCase):
    async def test_no_right_to_create_jobs(self) -> None:
        self.kubernetes.forbidden.add(("create", "jobs"))
        launcher = self.launcher()
        await launcher.prepare()
        with self.assertRaisesRegex(ClusterError, "cannot create a Job: .*jobs is forbidden"):
            await launcher.start([0])

    async def test_what_is_missing_is_told_before_anything_is_created(self) -> None:
        launcher = self.launcher(image="")
        with self.assertRaisesRegex(ClusterError, "needs the image"):
            await launcher.prepare()
        with self.assertRaisesRegex(
            ClusterError, "cannot read the pod template /no/where: No such"
        ):
            self.launcher(pod_template="/no/where")
        self.assertEqual(self.kubernetes.all("secrets"), [])

    async def test_the_longest_name_of_a_cluster(self) -> None:
        self.files = ClusterFiles(self.files.dirs, "x" * 64)
        write_furl(self.files.engine_furl, FURL)
        launcher = self.launcher()
        launcher._submitted = 998
        self.kubernetes.capacity = 0
        self.assertEqual(len(await launcher.start(range(1000))), 1000)
        await self.until(lambda: len(self.kubernetes.all("pods")) == 1000)

    async def test_a_quantity_that_is_none(self) -> None:
        launcher = self.launcher(memory="much")
        await launcher.prepare()
        with self.assertRaisesRegex(ClusterError, "cannot create a Job: .*is invalid"):
            await launcher.start([0])

    async def test_a_kubernetes_that_would_start_removed_engines_again(self) -> None:
        self.kubernetes.drops.add("backoffLimitPerIndex")
        launcher = self.launcher()
        with self.assertRaisesRegex(ClusterError, "too old: .*1.29"):
            await launcher.start([0])
        self.assertEqual(self.kubernetes.all("jobs"), [])

    async def test_no_configuration_and_no_server(self) -> None:
        os.environ["KUBECONFIG"] = "/no/where"
        with self.assertRaisesRegex(ClusterError, "no usable Kubernetes configuration"):
            self.launcher()
        text = self.kubernetes.kubeconfig.read_text().replace(
            self.kubernetes.url, "http://127.0.0.1:9"
        )
        path = self.files.dirs.ipython_dir / "kubeconfig"
        path.write_text(text)
        os.environ["KUBECONFIG"] = str(path)
        with self.assertRaisesRegex(
            ClusterError, r"API server at http://127.0.0.1:9 cannot be reached"
        ):
            await self.launcher().prepare()
