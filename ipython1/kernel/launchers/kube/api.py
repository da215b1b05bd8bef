"""Requests to a Kubernetes API server, which block, so that the launcher makes them in threads.

The package ``kubernetes`` is an optional dependency and takes long to import; it is imported by the first object.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any, Final

from ipython1.kernel.basics.error import ClusterError

Json = dict[str, Any]

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""What Kubernetes mounts into pods."""

LIMITS: Final = (5.0, 20.0)
"""Seconds for connecting and for each answer."""


def in_pod() -> bool:
    """Return whether this process runs in a pod that may talk to its API server."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and (SERVICE_ACCOUNT / "token").exists()


class KubernetesApi:
    """The API server of the cluster that this process runs in, or else of the user's kubeconfig.

    :param context: a context of the kubeconfig; empty for its current one.
    :param namespace: empty for that of this pod, or of the context.
    :ivar namespace: where all objects are.
    :raises ClusterError: if the package is not installed, or there is no usable configuration.
    """

    def __init__(self, context: str = "", namespace: str = "") -> None:
        try:
            from kubernetes import client, config
        except ImportError:
            raise ClusterError(
                "Kubernetes needs another package; install it with: pip install 'ipython1[kubernetes]'"
            ) from None
        settings = client.Configuration()
        try:
            if in_pod() and not context:
                config.load_incluster_config(client_configuration=settings)
                default = (SERVICE_ACCOUNT / "namespace").read_text().strip()
            else:
                # The package looks at the environment only when it is imported.
                file = os.environ.get("KUBECONFIG") or None
                config.load_kube_config(file, context or None, client_configuration=settings)
                default = _namespace_of(config, file, context)
        except (config.ConfigException, OSError) as problem:
            raise ClusterError(
                f"there is no usable Kubernetes configuration: {_one_line(str(problem)).rstrip('.')}; "
                "run this in a pod, or set KUBECONFIG to a kubeconfig file"
            ) from None
        settings.retries = 1
        self.namespace: str = namespace or default or "default"
        self._client = client.ApiClient(settings)
        self._host = settings.host
        self._core = client.CoreV1Api(self._client)
        self._batch = client.BatchV1Api(self._client)

    def _ask(self, call: Any, what: str, *arguments: Any, **options: Any) -> Any:
        """Make a request and return the answer as plain data.

        :param what: for messages, as the end of "cannot ...".
        :raises NotThere: if the object does not exist.
        :raises ClusterError: if the request fails for another reason.
        """
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            answer = call(*arguments, _preload_content=False, _request_timeout=LIMITS, **options)
            return answer.data
        except ApiException as problem:
            told = _told(problem)
            if problem.status == 404:
                raise NotThere(f"cannot {what}: {told}") from None
            raise ClusterError(f"cannot {what}: Kubernetes refused it: {told}") from None
        except (HTTPError, OSError) as problem:
            raise ClusterError(
                f"cannot {what}: the Kubernetes API server at {self._host} cannot be reached: {_one_line(str(problem))}"
            ) from None

    def own_pod(self) -> Json | None:
        """Return the pod that this process runs in; None if it runs in none, or may not read it."""
        if not in_pod():
            return None
        name = os.environ.get("HOSTNAME") or socket.gethostname()
        try:
            return json.loads(
                self._ask(self._core.read_namespaced_pod, "read this pod", name, self.namespace)
            )
        except ClusterError:
            return None

    def create_secret(self, body: Json) -> Json:
        """Create a Secret; returns it."""
        create = self._core.create_namespaced_secret
        return json.loads(self._ask(create, "create a Secret", self.namespace, body))

    def change_secret(self, name: str, data: dict[str, str]) -> None:
        """Replace the content of files of a Secret.

        :param data: the new content of each, in base64.
        """
        change = self._core.patch_namespaced_secret
        self._ask(change, f"change the Secret {name}", name, self.namespace, {"data": data})

    def create_job(self, body: Json) -> Json:
        """Create a Job; returns it."""
        create = self._batch.create_namespaced_job
        return json.loads(self._ask(create, "create a Job", self.namespace, body))

    def pods(self, selector: str) -> list[Json]:
        """Return the pods with these labels."""
        listing = self._core.list_namespaced_pod
        text = self._ask(listing, "list pods", self.namespace, label_selector=selector)
        return list(json.loads(text)["items"])

    def jobs(self, selector: str) -> list[Json]:
        """Return the Jobs with these labels."""
        listing = self._batch.list_namespaced_job
        text = self._ask(listing, "list Jobs", self.namespace, label_selector=selector)
        return list(json.loads(text)["items"])

    def warnings_of(self, uid: str) -> list[Json]:
        """Return the warning events of an object, in no order."""
        listing = self._core.list_namespaced_event
        selector = f"involvedObject.uid={uid},type=Warning"
        text = self._ask(listing, "list events", self.namespace, field_selector=selector)
        return list(json.loads(text)["items"])

    def log(self, pod: str, container: str, lines: int) -> list[str]:
        """Return the last lines that a container printed; none if it has not started yet."""
        read = self._core.read_namespaced_pod_log
        text = self._ask(
            *(read, f"read the log of the pod {pod}", pod, self.namespace),
            container=container,
            tail_lines=lines,
        )
        return text.decode(errors="replace").splitlines()

    def delete_pod(self, name: str, grace: int | None = None) -> None:
        """Delete a pod, if it exists.

        :param grace: seconds that its processes may take to end; None for what the pod says.
        """
        options: Json = {} if grace is None else {"grace_period_seconds": grace}
        try:
            self._ask(
                *(self._core.delete_namespaced_pod, f"delete the pod {name}", name, self.namespace),
                **options,
            )
        except NotThere:
            return

    def delete_job(self, name: str) -> None:
        """Delete a Job and its pods, if it exists."""
        try:
            self._ask(
                *(self._batch.delete_namespaced_job, f"delete the Job {name}", name),
                self.namespace,
                propagation_policy="Background",
            )
        except NotThere:
            return

    def delete_all(self, selector: str, grace: int) -> None:
        """Delete the Secrets, Jobs and pods with these labels.

        :param grace: seconds that processes may take to end.
        """
        # The Jobs first, or they would start other pods.
        for call, what, options in (
            (
                self._batch.delete_collection_namespaced_job,
                "Jobs",
                {"propagation_policy": "Background"},
            ),
            (self._core.delete_collection_namespaced_pod, "pods", {"grace_period_seconds": grace}),
            (self._core.delete_collection_namespaced_secret, "Secrets", {}),
        ):
            self._ask(call, f"delete {what}", self.namespace, label_selector=selector, **options)


class NotThere(ClusterError):
    """The object does not exist."""


def _namespace_of(config: Any, file: str | None, context: str) -> str:
    contexts, current = config.list_kube_config_contexts(file)
    chosen = next((each for each in contexts if each["name"] == context), current)
    return str(chosen.get("context", {}).get("namespace") or "")


def _told(problem: Any) -> str:
    """Return what the API server says of an error, in one line."""
    try:
        return _one_line(json.loads(problem.body)["message"])
    except (ValueError, TypeError, KeyError):
        return _one_line(f"{problem.status} {problem.reason or ''}")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]
