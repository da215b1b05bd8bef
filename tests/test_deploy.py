"""The files in ``docs/deploy``: they are what Kubernetes takes, and their commands are commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from twisted.trial import unittest

from ipython1.kernel.config import config_manager
from ipython1.kernel.launchers.kube.objects import EngineParts, job_body, template_of
from ipython1.kernel.scripts.clusteroptions import parse_cluster
from ipython1.kernel.scripts.controlleroptions import parse_controller
from ipython1.kernel.scripts.engineoptions import parse_engine
from ipython1.testing.folders import temporary_path

DEPLOY = Path(__file__).resolve().parents[1] / "docs" / "deploy"
MANIFESTS = (
    "rights.yaml",
    "cluster.yaml",
    "controller.yaml",
    "engines.yaml",
    "network-policy.yaml",
)
VERSIONS = ("1.29", "1.33", "1.37")
PARSERS = {"ipcluster": parse_cluster, "ipcontroller": parse_controller, "ipengine": parse_engine}
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "uid": "a1b2"}}


def objects_in(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def containers_in(found: Any) -> list[dict[str, Any]]:
    """Return everything that has a command."""
    if isinstance(found, list):
        return [each for part in found for each in containers_in(part)]
    if not isinstance(found, dict):
        return []
    here = [found] if isinstance(found.get("command"), list) else []
    return here + containers_in(list(found.values()))


class DeployTests(unittest.SynchronousTestCase):
    def check(self, body: dict[str, Any]) -> None:
        for version in VERSIONS:
            kubernetes_validate.validate(body, version, strict=True)

    def test_manifests_match_the_schemas(self) -> None:
        for name in MANIFESTS:
            for body in objects_in(name):
                self.check(body)

    def test_the_pod_template_makes_pods(self) -> None:
        template = template_of((DEPLOY / "pod.yaml").read_text(), "pod.yaml")
        job = job_body("j", {}, [0, 1], EngineParts("", "", template=template), SECRET)
        self.check(job)
        spec = job["spec"]["template"]["spec"]
        self.assertEqual(spec["terminationGracePeriodSeconds"], 300)

    def test_services_lead_to_the_pods_of_their_deployments(self) -> None:
        for name in ("cluster.yaml", "controller.yaml"):
            found = {each["kind"]: each for each in objects_in(name)}
            pod = found["Deployment"]["spec"]["template"]
            selector = found["Service"]["spec"]["selector"].items()
            self.assertLessEqual(selector, pod["metadata"]["labels"].items())
            (container,) = pod["spec"]["containers"]
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            for port in found["Service"]["spec"]["ports"]:
                self.assertEqual(ports[port["targetPort"]], port["port"])
                self.assertIn(f"--client-port={port['port']}", container["command"])

    def test_commands_are_commands(self) -> None:
        names = (*MANIFESTS, "compose.yaml")
        found = [each["command"] for name in names for each in containers_in(objects_in(name))]
        self.assertEqual(len(found), 5)
        for program, *words in found:
            PARSERS[program](words)

    def test_the_values_for_jupyterhub(self) -> None:
        (values,) = objects_in("jupyterhub.yaml")
        single = values["singleuser"]
        directory = Path(temporary_path(self))
        directory.mkdir(parents=True)
        text = single["extraFiles"]["ipython1"]["stringData"]
        config_manager.path(directory).write_text(text)
        section = config_manager.get_config(directory)["cluster"]
        self.assertEqual((section["kind"], section["n"]), ("kubernetes", 4))
        self.assertEqual(section["kubernetes"]["memory"], "2Gi")
        account = objects_in("rights.yaml")[0]["metadata"]["name"]
        self.assertEqual(single["serviceAccountName"], account)
        self.check(
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": "n"},
                "spec": {"podSelector": {}, **single["networkPolicy"]},
            }
        )
