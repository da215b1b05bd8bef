"""The objects of clusters in Kubernetes: they match Kubernetes' schemas, and keep what the user's template says."""

import base64
import subprocess

import kubernetes_validate
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers.kube.objects import (
    EngineParts,
    job_body,
    label_value,
    labels_of,
    secret_body,
    template_of,
)

VERSIONS = ("1.29", "1.33", "1.37")
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "s", "uid": "a1b2"},
}
LABELS = labels_of("work", "work-12345678")
PARTS = EngineParts("image:1", "--logfile=-", cpu="500m", memory="2Gi", env={"A": "1"}, cwd="/data")

TEMPLATE = """
apiVersion: v1
kind: Pod
metadata:
  name: ignored
  annotations: {note: kept}
  labels: {team: physics}
spec:
  serviceAccountName: runner
  terminationGracePeriodSeconds: 300
  nodeSelector: {gpu: "yes"}
  containers:
  - name: helper
    image: helper:2
  - name: engine
    image: mine:3
    env: [{name: A, value: old}, {name: B, value: kept}]
    resources: {limits: {nvidia.com/gpu: 1}}
    volumeMounts: [{name: data, mountPath: /data}]
  volumes:
  - name: data
    persistentVolumeClaim: {claimName: data}
"""


def engine_of(job):
    spec = job["spec"]["template"]["spec"]
    return next(each for each in spec["containers"] if each["name"] == "engine")


class ObjectTests(SynchronousTestCase):
    def check(self, body):
        for version in VERSIONS:
            kubernetes_validate.validate(body, version, strict=True)
        return body

    def test_all_match_the_schemas(self):
        self.check(secret_body("s", LABELS, {"engine.furl": b"pb://"}, None))
        owner = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hub", "uid": "c3"}}
        secret = self.check(secret_body("s", LABELS, {"engine.furl": b"pb://"}, owner))
        self.assertEqual(base64.b64decode(secret["data"]["engine.furl"]), b"pb://")
        self.assertEqual(secret["metadata"]["ownerReferences"][0]["uid"], "c3")
        job = self.check(job_body("j", LABELS, [0, 1], PARTS, SECRET))
        self.assertEqual(job["metadata"]["ownerReferences"][0]["uid"], "a1b2")

    def test_each_pod_gets_the_id_in_its_place(self):
        job = job_body("j", LABELS, [2, 5, 11], EngineParts("i", "-x", command="echo"), SECRET)
        self.assertEqual(job["spec"]["completions"], 3)
        printed = [
            subprocess.run(
                engine_of(job)["command"],
                env={"JOB_COMPLETION_INDEX": str(index)},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for index in range(3)
        ]
        self.assertEqual(printed, [f"-x --engine-id={each}\n" for each in (2, 5, 11)])

    def test_what_the_template_says_stays(self):
        parts = EngineParts("", "", template=template_of(TEMPLATE, "pod.yaml"), env={"A": "1"})
        job = self.check(job_body("j", LABELS, [0], parts, SECRET))
        pod = job["spec"]["template"]
        self.assertEqual(pod["metadata"]["annotations"], {"note": "kept"})
        self.assertEqual(pod["metadata"]["labels"], {"team": "physics", **LABELS})
        spec = pod["spec"]
        self.assertEqual(spec["terminationGracePeriodSeconds"], 300)
        self.assertEqual(spec["serviceAccountName"], "runner")
        engine = engine_of(job)
        self.assertEqual(engine["image"], "mine:3")
        self.assertEqual(
            engine["env"], [{"name": "B", "value": "kept"}, {"name": "A", "value": "1"}]
        )
        self.assertEqual(engine["resources"], {"limits": {"nvidia.com/gpu": 1}})
        mounts = [each["mountPath"] for each in engine["volumeMounts"]]
        self.assertEqual(mounts, ["/data", "/var/run/secrets/ipython1", "/var/run/ipython1"])
        self.assertNotIn("command", spec["containers"][0])

    def test_options_go_over_the_template_and_the_template_is_used_again(self):
        template = template_of(TEMPLATE, "pod.yaml")
        parts = EngineParts("new:4", "", cpu="2", memory="1Gi", template=template)
        for _ in range(2):
            engine = engine_of(job_body("j", LABELS, [0], parts, SECRET))
            self.assertEqual(engine["image"], "new:4")
            self.assertEqual(engine["resources"]["requests"], {"cpu": "2", "memory": "1Gi"})
            self.assertEqual(engine["resources"]["limits"], {"nvidia.com/gpu": 1, "memory": "1Gi"})
            self.assertEqual(len(engine["volumeMounts"]), 3)

    def test_a_template_may_be_that_of_a_job(self):
        text = "kind: PodTemplate\ntemplate:\n  spec:\n    containers: [{name: a, image: b}]\n"
        found = template_of(text, "pod.yaml")
        self.assertEqual(found["spec"]["containers"], [{"name": "a", "image": "b"}])

    def test_errors_are_one_line_and_name_the_file(self):
        for text in (
            "a: [",
            "",
            "just text",
            "kind: Pod",
            "spec: {containers: 3}",
            "a: 1\n---\nb: 2",
        ):
            error = self.assertRaises(ClusterError, template_of, text, "pod.yaml")
            self.assertIn("pod.yaml", str(error))
            self.assertNotIn("\n", str(error))
        error = self.assertRaises(
            ClusterError, job_body, "j", LABELS, [0], EngineParts("", ""), SECRET
        )
        self.assertIn("--image", str(error))

    def test_names_that_kubernetes_accepts(self):
        self.assertEqual(label_value("My_Cluster.1"), "my-cluster-1")
        self.assertEqual(label_value("x" * 29 + "-y"), "x" * 29)
        self.assertEqual(label_value("___"), "")
