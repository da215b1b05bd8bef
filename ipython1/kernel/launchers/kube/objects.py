"""The Kubernetes objects of a cluster, as plain dictionaries; no input and output.

=======  ==============================================================================================================
object   what it is for
=======  ==============================================================================================================
Secret   what engines need to connect: the FURL for engines, and the restore file if there is one.  It owns the Jobs:
         when it is deleted, Kubernetes deletes them and their pods.
Job      engines that were started together, one pod for each.  Pods that fail are not started again.
=======  ==============================================================================================================

All of them have the labels of :func:`labels_of`.
"""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ipython1.kernel.basics.error import ClusterError

Json = dict[str, Any]

APP: Final = "app.kubernetes.io/name"
CLUSTER: Final = "ipython1/cluster"
RUN: Final = "ipython1/run"
JOB_NAMES: Final = ("batch.kubernetes.io/job-name", "job-name")
JOB_INDEX: Final = "batch.kubernetes.io/job-completion-index"

CONTAINER: Final = "engine"
SECRET_VOLUME: Final = "ipython1-secret"
SECRET_DIRECTORY: Final = "/var/run/secrets/ipython1"
FURL_NAME: Final = "engine.furl"
RESTORE_NAME: Final = "restore"
SCRATCH_VOLUME: Final = "ipython1-scratch"
SCRATCH_DIRECTORY: Final = "/var/run/ipython1"

MOST_NAME: Final = 30
"""Characters of a cluster's name in other names.  A Job's name and an index make a pod's host name, of 63 at most."""

GRACE: Final = 60
"""Seconds that an engine has to finish what it runs when Kubernetes ends its pod."""

KEPT: Final = 600
"""Seconds that Kubernetes keeps a finished Job and the logs of its pods."""

ENGINE: Final = "ipengine"

SCRIPT: Final = 'set -- {ids}; shift "$JOB_COMPLETION_INDEX"; exec {engine} --engine-id="$1"'
"""Runs the engine whose id is in the place of the pod's index."""


@dataclass(frozen=True, slots=True)
class EngineParts:
    """What the pods of engines have.

    :ivar image: the container image; empty for that of the template.
    :ivar arguments: the options of ``ipengine`` besides its id, quoted for the shell.
    :ivar command: the command line that starts ``ipengine``, quoted for the shell.
    :ivar cpu: processors that each engine is guaranteed, as Kubernetes writes it (``2``, ``500m``); empty for no
        guarantee.
    :ivar memory: memory that each engine is guaranteed and limited to (``4Gi``); empty for no limit.
    :ivar template: the user's pod template; what it says stays, unless this package needs something else.
    """

    image: str
    arguments: str
    command: str = ENGINE
    cpu: str = ""
    memory: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    template: Json = field(default_factory=dict)


def label_value(text: str) -> str:
    """Return a text in the form that labels and names must have; empty if nothing of it can stay."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:MOST_NAME].strip("-")


def labels_of(cluster: str, run: str) -> dict[str, str]:
    """Return the labels of all objects.

    :param cluster: what clusters of the same name, directory and host have in common.
    :param run: what distinguishes this one from those before it.
    """
    return {APP: "ipython1", CLUSTER: cluster, RUN: run}


def selector_of(run: str) -> str:
    """Return the label selector that finds a cluster's objects."""
    return f"{RUN}={run}"


def selector_of_cluster(cluster: str) -> str:
    """Return the label selector that finds the objects of all clusters that had this name there."""
    return f"{CLUSTER}={cluster}"


def secret_body(
    name: str, labels: Mapping[str, str], files: Mapping[str, bytes], owner: Json | None
) -> Json:
    """Return the Secret.

    :param files: the content of each file.
    :param owner: an object that it is to be deleted with; None for none.
    """
    metadata: Json = {"name": name, "labels": dict(labels)}
    if owner is not None:
        metadata["ownerReferences"] = [reference_to(owner)]
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "Opaque",
        "data": {each: base64.b64encode(data).decode() for each, data in files.items()},
    }


def reference_to(owner: Json) -> Json:
    """Return an owner reference to an object as the API server returned it."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }


def job_body(
    name: str, labels: Mapping[str, str], ids: Sequence[int], parts: EngineParts, secret: Json
) -> Json:
    """Return the Job of engines that start together.

    :param ids: the engines' ids.
    :param secret: the cluster's Secret as the API server returned it.
    """
    words = SCRIPT.format(
        ids=" ".join(map(str, ids)), engine=f"{parts.command} {parts.arguments}".strip()
    )
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "labels": dict(labels),
            "ownerReferences": [reference_to(secret)],
        },
        "spec": {
            "completionMode": "Indexed",
            "completions": len(ids),
            "parallelism": len(ids),
            # A pod that failed or was deleted is not replaced, and the others go on.
            "backoffLimitPerIndex": 0,
            "ttlSecondsAfterFinished": KEPT,
            "template": _pod_template(labels, parts, words, secret["metadata"]["name"]),
        },
    }


def _pod_template(labels: Mapping[str, str], parts: EngineParts, words: str, secret: str) -> Json:
    template = copy.deepcopy(parts.template)
    metadata = template.setdefault("metadata", {})
    metadata["labels"] = {**metadata.get("labels", {}), **labels}
    spec = template.setdefault("spec", {})
    spec["restartPolicy"] = "Never"
    for name, value in (
        ("terminationGracePeriodSeconds", GRACE),
        ("automountServiceAccountToken", False),
        ("enableServiceLinks", False),
    ):
        spec.setdefault(name, value)
    spec["volumes"] = [
        *spec.get("volumes", []),
        {"name": SECRET_VOLUME, "secret": {"secretName": secret, "defaultMode": 0o444}},
        {"name": SCRATCH_VOLUME, "emptyDir": {}},
    ]
    containers = spec.setdefault("containers", [])
    engine = next((each for each in containers if each.get("name") == CONTAINER), None)
    if engine is None and containers:
        engine = containers[0]
    if engine is None:
        engine = {"name": CONTAINER}
        containers.append(engine)
    _fill_container(engine, parts, words)
    return template


def _fill_container(container: Json, parts: EngineParts, words: str) -> None:
    if parts.image:
        container["image"] = parts.image
    if not container.get("image"):
        raise ClusterError(
            "Kubernetes needs the image that engines run in: give --image, or a pod template with an image"
        )
    container["command"] = ["sh", "-c", words]
    container.pop("args", None)
    container.setdefault("securityContext", {}).setdefault("allowPrivilegeEscalation", False)
    if parts.cwd:
        container["workingDir"] = parts.cwd
    if parts.env:
        kept = [each for each in container.get("env", []) if each.get("name") not in parts.env]
        container["env"] = [
            *kept,
            *({"name": name, "value": value} for name, value in parts.env.items()),
        ]
    container["volumeMounts"] = [
        *container.get("volumeMounts", []),
        {"name": SECRET_VOLUME, "mountPath": SECRET_DIRECTORY, "readOnly": True},
        {"name": SCRATCH_VOLUME, "mountPath": SCRATCH_DIRECTORY},
    ]
    resources = container.setdefault("resources", {})
    if parts.cpu:
        resources.setdefault("requests", {})["cpu"] = parts.cpu
    if parts.memory:
        resources.setdefault("requests", {})["memory"] = parts.memory
        resources.setdefault("limits", {})["memory"] = parts.memory


def template_of(text: str, source: str) -> Json:
    """Return the pod template that a YAML or JSON text contains: a Pod, a PodTemplate, or its ``template``.

    :param source: where the text comes from, for messages.
    :raises ClusterError: if it is something else.
    """
    import yaml

    try:
        found = list(yaml.safe_load_all(text))
    except yaml.YAMLError as problem:
        raise ClusterError(
            f"the pod template {source} is not YAML: {' '.join(str(problem).split())}"
        ) from None
    if len(found) == 1 and isinstance(found[0], dict):
        template = found[0].get("template", found[0])
        spec = template.get("spec") if isinstance(template, dict) else None
        if isinstance(spec, dict) and isinstance(spec.get("containers", []), list):
            return {
                "metadata": {
                    name: value
                    for name, value in (template.get("metadata") or {}).items()
                    if name in ("labels", "annotations")
                },
                "spec": spec,
            }
    raise ClusterError(
        f"the pod template {source} is not a pod: it needs 'spec', with 'containers' in it"
    )
