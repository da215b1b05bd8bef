"""Engines as pods, in a small Kubernetes of this test's own."""

from __future__ import annotations

import signal

from tests.kubernetesserver import IMAGE, Kubernetes
from tests.test_ipcluster import LIMIT, IpclusterCase, until


class KubernetesCase(IpclusterCase):
    def setUp(self) -> None:
        super().setUp()
        self.kubernetes = Kubernetes(dict(self.environ))
        self.addCleanup(self.kubernetes.close)
        self.environ["KUBECONFIG"] = str(self.kubernetes.kubeconfig)

    def nothing_is_left(self) -> None:
        for plural in ("secrets", "jobs", "pods"):
            until(lambda plural=plural: not self.kubernetes.all(plural), 20.0)
        super().nothing_is_left()


class ClusterTests(KubernetesCase):
    def test_a_cluster(self) -> None:
        process = self.start("kubernetes", "-n", "2", f"--image={IMAGE}", "--memory=1Gi")
        printed = self.run_python(
            "from ipython1.kernel import client\n"
            "mec = client.MultiEngineClient()\n"
            "print(mec.get_ids())\n"
        )
        self.assertEqual(printed, "[0, 1]\n")
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(LIMIT), 0)
        self.nothing_is_left()
