"""Whole clusters whose engines are pods, in a small Kubernetes of this test's own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import yaml

from ipython1.kernel.launchers.kube.objects import secret_body
from tests.kubernetesserver import IMAGE, Kubernetes
from tests.test_ipcluster import LIMIT, IpclusterCase, until

DEPLOY = Path(__file__).resolve().parents[1] / "docs" / "deploy"
CLIENT = """
from ipython1.kernel import client
mec = client.MultiEngineClient()
tc = client.TaskClient()
"""


TWO_TASKS = """
import os, sys, time
from ipython1.kernel import client

def work(path):
    if os.path.exists(path):
        return "again"
    open(path, "w").close()
    while not os.path.exists(path + ".go"):
        time.sleep(0.01)
    return "first"

tc = client.TaskClient()
paths = [os.path.join(sys.argv[1], name) for name in ("a", "b")]
futures = [tc.submit(work, path) for path in paths]
while not all(map(os.path.exists, paths)):
    time.sleep(0.01)
print("running", flush=True)
print(sorted(each.result() for each in futures), flush=True)
"""


class KubernetesCase(IpclusterCase):
    def setUp(self) -> None:
        super().setUp()
        self.kubernetes = Kubernetes(dict(self.environ))
        self.addCleanup(self.kubernetes.close)
        self.environ["KUBECONFIG"] = str(self.kubernetes.kubeconfig)

    def nothing_is_left(self) -> None:
        for plural in ("secrets", "jobs", "pods"):
            until(lambda plural=plural: not self.kubernetes.all(plural), 20.0)  # type: ignore[misc]
        super().nothing_is_left()


class ClusterTests(KubernetesCase):
    def test_a_cluster(self) -> None:
        """Engines run in pods; add one, remove one, one is preempted while it works, and the end with Ctrl-C."""
        template = Path(self.directory) / "pod.yaml"
        template.write_text(
            "metadata: {labels: {team: physics}}\n"
            "spec: {terminationGracePeriodSeconds: 2, containers: [{name: engine}]}\n"
        )
        process = self.start(
            *("kubernetes", "-n", "2", f"--image={IMAGE}", "--memory=1Gi", "--env=GREETING=hello"),
            f"--pod-template={template}",
        )
        printed = self.run_python(
            CLIENT + "mec.execute('import os; g = os.environ[\"GREETING\"]; pid = os.getpid()')\n"
            "print(mec.get_ids(), mec.pull('g'))\n"
        )
        self.assertEqual(printed, "[0, 1] ['hello', 'hello']\n")
        status = self.status()
        self.assertEqual((status.kind, len(status.jobs)), ("kubernetes", 1))
        self.assertEqual(self.run_ipcluster("engines", "-n", "1").stdout, "added: engine 2\n")
        for pod in self.kubernetes.all("pods"):
            self.assertEqual(pod["metadata"]["labels"]["team"], "physics")
        self.run_python(
            "from ipython1.kernel.client import Cluster\n"
            "cluster = Cluster.attach()\n"
            "assert 'registered as engine 2' in cluster.logs(2), cluster.logs(2)\n"
            "cluster.remove_engines([0])\n"
            "assert cluster.ids == [1, 2], cluster.ids\n"
        )
        until(lambda: len(self.running_pods()) == 2)
        # The engine comes back under its id, in another pod, and its task has not failed.
        program = self.start_program([self.python, "-c", TWO_TASKS, str(self.directory)])
        self.assertEqual(program.stdout.readline(), "running\n")  # type: ignore[union-attr]
        before = self.kubernetes.pod_of(1, "-1")
        self.kubernetes.disrupt(before, "PreemptionByScheduler", "for a more important pod")
        while "it is started again" not in (line := process.stdout.readline()):  # type: ignore[union-attr]
            self.assertTrue(line)
        self.assertIn("kubernetes engine 1", line)
        until(lambda: len(self.running_pods()) == 2)
        until(lambda: self.status().ids == (1, 2))
        for name in ("a", "b"):
            (self.directory / f"{name}.go").touch()
        self.assertEqual(program.stdout.readline(), "['again', 'first']\n")  # type: ignore[union-attr]
        printed = self.run_python(CLIENT + "print(list(tc.map(lambda x: x + 1, range(4))))\n")
        self.assertEqual(printed, "[1, 2, 3, 4]\n")
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(LIMIT), 0)
        self.nothing_is_left()

    def running_pods(self) -> list[str]:
        return [
            pod["metadata"]["name"]
            for pod in self.kubernetes.all("pods")
            if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]

    def test_from_python_and_the_end_by_kill_9(self) -> None:
        """A program starts it, and dies; so does its ipcluster."""
        self.kubernetes.capacity = 1
        program = self.start_program(
            [
                *(self.python, "-P", "-c"),
                f"""
import os, sys, warnings
warnings.simplefilter("ignore")
from ipython1.kernel.client import Cluster
cluster = Cluster(2, "kubernetes", image={IMAGE!r}, cpu=1, start_timeout=3, cluster_id="work").start()
print(cluster.ids, *[each.reason for each in cluster.status().engines if each.state == "queued"])
print(cluster.status().pid, flush=True)
sys.stdin.read()
""",
            ]
        )
        line = program.stdout.readline()  # type: ignore[union-attr]
        while not line.startswith("["):
            self.assertTrue(line)
            line = program.stdout.readline()  # type: ignore[union-attr]
        self.assertRegex(line, r"^\[[01]\] Unschedulable: 0/1 nodes are available: .*cpu")
        os.kill(int(program.stdout.readline()), signal.SIGKILL)  # type: ignore[union-attr]
        program.kill()
        program.wait()
        self.nothing_is_left()

    def test_the_manifest_of_engines_for_a_controller_that_runs_already(self) -> None:
        controller = self.start_controller()
        furl = (self.directory / "security" / "ipcontroller-engine.furl").read_bytes()
        secret = secret_body("ipengine", {}, {"engine.furl": furl}, None)
        self.kubernetes.create("secrets", "science", secret)
        job = yaml.safe_load((DEPLOY / "engines.yaml").read_text())
        job["spec"].update(completions=2, parallelism=2)
        job["spec"]["template"]["spec"]["containers"][0]["image"] = IMAGE
        self.kubernetes.create("jobs", "science", job)
        printed = self.run_python(
            CLIENT + "mec.wait_for_engines(2, timeout=60)\n"
            "mec.execute('x = 2')\n"
            "print(mec.pull('x'))\n"
            "mec.kill(controller=True)\n"
        )
        self.assertEqual(printed, "[2, 2]\n")
        self.assertEqual(controller.wait(LIMIT), 0)
        pods = self.kubernetes.all
        until(lambda: {pod["status"]["phase"] for pod in pods("pods")} == {"Succeeded"})

    def test_errors_are_one_line(self) -> None:
        error = self.run_ipcluster("kubernetes", "-n", "1", status=1).stderr
        self.assertIn("Kubernetes needs the image that engines run in: give --image", error)
        self.assertEqual(error.count("\n"), 1)
        error = self.run_ipcluster("kubernetes", "--memory=much", status=2).stderr
        self.assertIn("'much' is not an amount such as 2, 500m or 4Gi", error)
        error = self.run_ipcluster("-n", "1", f"--image={IMAGE}", status=2).stderr
        self.assertIn("--image is for kubernetes, not for 'local'", error)
        self.kubernetes.forbidden.add(("create", "jobs"))
        error = self.run_ipcluster("kubernetes", "-n", "1", f"--image={IMAGE}", status=1).stderr
        self.assertRegex(error, "^ipcluster: cannot create a Job: .* jobs is forbidden")
        self.nothing_is_left()
