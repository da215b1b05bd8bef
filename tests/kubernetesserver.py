"""A Kubernetes of one node in this process, for tests: an API server on loopback whose pods are child processes.

It has what clusters need: Secrets, Jobs, pods with their logs, events; label selectors, deletion with grace periods,
owner references, and the Job controller's rules for indexed Jobs.  Each object that is created must match the schema of
its kind, as ``kubernetes-validate`` ships it.

A pod's container runs as a child process.  Its volumes are folders, laid out with the same links as in Kubernetes; as
nothing is mounted, each ``mountPath`` in the container's words is replaced by the folder's path.  Images are names of
nothing: those in :attr:`Kubernetes.images` can be pulled.

It cannot show what only Kubernetes knows: admission rules, the pace of its controllers, real nodes and networks.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate

Json = dict[str, Any]

VERSION = "1.33"
IMAGE = "ipython1:test"
KINDS = {"pods": "Pod", "jobs": "Job", "secrets": "Secret", "events": "Event"}
PATH = re.compile(
    r"/(?:api/v1|apis/batch/v1)/namespaces/(?P<namespace>[^/]+)/(?P<plural>\w+)"
    r"(?:/(?P<name>[^/]+)(?:/(?P<part>\w+))?)?"
)
INDEX = "batch.kubernetes.io/job-completion-index"
QUANTITY = re.compile(r"[0-9.]+([eE][0-9]+|[numkMGTPE]|[KMGTPE]i)?")
TURN = 0.02


class Refused(Exception):
    """An answer with an error status."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.body = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": status,
        }


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _check_quantities(body: Any) -> None:
    """Check the amounts of resources, which are any text in the schemas."""
    if isinstance(body, list):
        for each in body:
            _check_quantities(each)
    elif isinstance(body, dict):
        for key, value in body.items():
            if key == "resources":
                for amounts in value.values():
                    for name, text in amounts.items():
                        if not QUANTITY.fullmatch(str(text)):
                            raise Refused(
                                422, "Invalid", f"resources.{name}: quantity is invalid: {text!r}"
                            )
            _check_quantities(value)


class Kubernetes:
    """See the module's text.

    :ivar images: what can be pulled.
    :ivar capacity: how many pods run at a time; others cannot be scheduled.
    :ivar quota: how many pods there may be; others cannot be created.
    :ivar forbidden: (verb, resource) pairs that this user may not do.
    :ivar rules: the rules of the user's role; None for one who may do everything.
    :ivar requests: (method, path) of each request.
    """

    def __init__(self, environ: dict[str, str]) -> None:
        self.images = {IMAGE}
        self.capacity = 100
        self.quota = 1000
        self.forbidden: set[tuple[str, str]] = set()
        self.rules: list[Json] | None = None
        self.requests: list[tuple[str, str]] = []
        self.drops: set[str] = set()
        self.objects: dict[str, dict[str, Json]] = {plural: {} for plural in KINDS}
        self._environ = environ
        self._lock = threading.RLock()
        self._folder = Path(tempfile.mkdtemp(prefix="ipython1-kubernetes-"))
        self._folder.chmod(0o755)
        self._containers: dict[str, subprocess.Popen[bytes]] = {}
        self._kill_at: dict[str, float] = {}
        self._ended = threading.Event()
        self._programs()
        server = self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        self.kubeconfig = self._folder / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(self._kubeconfig()))
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(TURN,), daemon=True),
            threading.Thread(target=self._control, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _kubeconfig(self) -> Json:
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [
                {
                    "name": "test",
                    "context": {"cluster": "test", "user": "test", "namespace": "science"},
                }
            ],
        }

    def _programs(self) -> None:
        """Make the programs that the image has."""
        programs = self._folder / "bin"
        programs.mkdir()
        path = f"{programs}:{self._environ.get('PATH', os.defpath)}"
        self._environ = {**self._environ, "PATH": path}
        for name in ("ipengine", "ipcontroller"):
            module = f"ipython1.kernel.scripts.{name}"
            self.program(name, f'exec {sys.executable} -P -m {module} "$@"')

    def program(self, name: str, script: str) -> None:
        """Put a program into the image, in place of one of that name."""
        path = self._folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def volume_of(self, pod: Json, volume: str) -> Path:
        """Return the folder that is one of a pod's volumes."""
        return self._folder / pod["metadata"]["name"] / volume

    def close(self) -> None:
        """End it, with all pods."""
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join()
        for process in self._containers.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(self._folder)

    # -- what tests look at and do

    def all(self, plural: str) -> list[Json]:
        """Return all objects of a kind."""
        with self._lock:
            return copy.deepcopy(list(self.objects[plural].values()))

    def pod_of(self, engine_index: int, job: str = "") -> Json:
        """Return the pod of an index, of a Job whose name ends like this."""
        return next(
            pod
            for pod in self.all("pods")
            if pod["metadata"]["labels"][INDEX] == str(engine_index)
            and pod["metadata"]["labels"]["job-name"].endswith(job)
        )

    def pid_of(self, pod: Json) -> int:
        """Return the process of a pod's container."""
        return self._containers[pod["metadata"]["name"]].pid

    def disrupt(self, pod: Json, reason: str, message: str, status_reason: str = "") -> None:
        """End a pod as Kubernetes does: tell why, and delete it, unless the node itself evicts it.

        :param status_reason: that of the pod's status when the node evicts it (``Evicted``).
        """
        with self._lock:
            status = self.objects["pods"][pod["metadata"]["name"]]["status"]
            status["conditions"].append(
                {
                    "type": "DisruptionTarget",
                    "status": "True",
                    "reason": reason,
                    "message": message,
                }
            )
            if status_reason:
                status.update(reason=status_reason, message=message)
        if status_reason:
            os.killpg(self.pid_of(pod), signal.SIGKILL)
        else:
            self.delete("pods", pod["metadata"]["name"], None)

    def kill_for_memory(self, pod: Json) -> None:
        """Kill a container as the kernel does when its memory is used up."""
        with self._lock:
            stored = self.objects["pods"][pod["metadata"]["name"]]
            stored["metadata"].setdefault("annotations", {})["test/oom"] = "yes"
        os.killpg(self.pid_of(pod), signal.SIGKILL)

    # -- requests

    def check_right(self, method: str, match: re.Match[str]) -> None:
        """Check that the user may make a request.

        :raises Refused: if that is forbidden.
        """
        some = "" if match["name"] else "collection"
        verb = {"GET": "list" if some else "get", "DELETE": f"delete{some}"}.get(method)
        verb = verb or {"POST": "create", "PATCH": "patch"}[method]
        resource = "/".join(filter(None, (match["plural"], match["part"])))
        group = "batch" if match["plural"] == "jobs" else ""
        allowed = self.rules is None or any(
            group in rule["apiGroups"] and resource in rule["resources"] and verb in rule["verbs"]
            for rule in self.rules
        )
        if (verb, resource) in self.forbidden or not allowed:
            message = f'{resource} is forbidden: User "ann" cannot {verb} resource "{resource}"'
            raise Refused(403, "Forbidden", message)

    def create(self, plural: str, namespace: str, body: Json) -> Json:
        """Store an object.

        :raises Refused: if it does not match its schema, or its name is taken.
        """
        try:
            kubernetes_validate.validate(body, VERSION, strict=True)
        except kubernetes_validate.ValidationError as problem:
            raise Refused(422, "Invalid", f"{KINDS[plural]} is invalid: {problem}") from None
        name = body["metadata"].get("name", "")
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name):
            raise Refused(422, "Invalid", f"{KINDS[plural]} is invalid: metadata.name: {name!r}")
        last = body.get("spec", {}).get("completions", 1) - 1
        if plural == "jobs" and len(f"{name}-{last}") > 63:
            raise Refused(422, "Invalid", f"metadata.name: {name!r}: will not fit into host names")
        _check_quantities(body)
        for text in body["metadata"].get("labels", {}).values():
            if not re.fullmatch(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", text):
                raise Refused(422, "Invalid", f"metadata.labels: {text!r}")
        with self._lock:
            if name in self.objects[plural]:
                raise Refused(409, "AlreadyExists", f'{plural} "{name}" already exists')
            stored = copy.deepcopy(body)
            for field in self.drops:
                stored.get("spec", {}).pop(field, None)
            stored["metadata"].update(
                namespace=namespace, uid=str(uuid.uuid4()), creationTimestamp=now()
            )
            if plural == "jobs":
                stored["spec"].setdefault("podReplacementPolicy", "TerminatingOrFailed")
                stored["status"] = {}
            self.objects[plural][name] = stored
            return copy.deepcopy(stored)

    def get(self, plural: str, name: str) -> Json:
        with self._lock:
            if name not in self.objects[plural]:
                raise Refused(404, "NotFound", f'{plural} "{name}" not found')
            return copy.deepcopy(self.objects[plural][name])

    def matching(self, plural: str, query: dict[str, list[str]]) -> list[Json]:
        """Return the objects that the selectors of a request choose."""
        labels = dict(
            each.split("=", 1) for each in query.get("labelSelector", [""])[0].split(",") if each
        )
        fields = dict(
            each.split("=", 1) for each in query.get("fieldSelector", [""])[0].split(",") if each
        )

        def field_of(found: Any, path: str) -> Any:
            for part in path.split("."):
                found = found.get(part, {})
            return found

        return [
            each
            for each in self.all(plural)
            if labels.items() <= each["metadata"].get("labels", {}).items()
            and all(field_of(each, path) == value for path, value in fields.items())
        ]

    def patch(self, plural: str, name: str, body: Json) -> Json:
        with self._lock:
            stored = self.objects[plural].get(name)
            if stored is None:
                raise Refused(404, "NotFound", f'{plural} "{name}" not found')
            stored.setdefault("data", {}).update(body.get("data", {}))
            self._remount(name)
            return copy.deepcopy(stored)

    def delete(self, plural: str, name: str, grace: int | None) -> None:
        """Delete an object; a pod's processes get SIGTERM first."""
        with self._lock:
            found = self.objects[plural].get(name)
            if found is None:
                raise Refused(404, "NotFound", f'{plural} "{name}" not found')
            process = self._containers.get(name) if plural == "pods" else None
            if process is None or process.poll() is not None:
                self._remove(plural, name)
                return
            if grace is None:
                grace = found["spec"].get("terminationGracePeriodSeconds", 30)
            found["metadata"].setdefault("deletionTimestamp", now())
            until = time.monotonic() + grace
            if name not in self._kill_at:
                # Only to the container's first process.
                process.send_signal(signal.SIGTERM)
            self._kill_at[name] = min(until, self._kill_at.get(name, until))

    def _remove(self, plural: str, name: str) -> None:
        """Remove an object and, later, all that it owns."""
        removed = self.objects[plural].pop(name, None)
        if removed is None:
            return
        uid = removed["metadata"]["uid"]
        for kind, found in self.objects.items():
            for each in list(found.values()):
                owners = each["metadata"].get("ownerReferences", [])
                if any(owner["uid"] == uid for owner in owners):
                    with contextlib.suppress(Refused):
                        self.delete(kind, each["metadata"]["name"], None)

    def log(self, name: str, query: dict[str, list[str]]) -> str:
        pod = self.get("pods", name)
        names = [each["name"] for each in pod["spec"]["containers"]]
        if query.get("container", [""])[0] not in names:
            raise Refused(400, "BadRequest", "container is not valid for this pod")
        path = self._folder / name / "log"
        if not path.exists():
            raise Refused(400, "BadRequest", f'container in pod "{name}" is waiting to start')
        lines = path.read_text(errors="replace").splitlines(keepends=True)
        return "".join(lines[-int(query.get("tailLines", ["100000"])[0]) :])

    # -- controllers

    def _control(self) -> None:
        while not self._ended.wait(TURN):
            with self._lock:
                for job in list(self.objects["jobs"].values()):
                    self._control_job(job)
                for pod in list(self.objects["pods"].values()):
                    self._control_pod(pod)

    def _pods_of(self, job: Json) -> Iterator[Json]:
        for pod in self.objects["pods"].values():
            owners = pod["metadata"].get("ownerReferences", [])
            if any(owner["uid"] == job["metadata"]["uid"] for owner in owners):
                yield pod

    def _control_job(self, job: Json) -> None:
        """Create the pods that are missing, according to the rules for failures of indexes."""
        status = job["status"]
        done: set[int] = status.setdefault("done", set())
        failed: set[int] = status.setdefault("failedOnes", set())
        active: set[int] = set()
        for pod in self._pods_of(job):
            index, phase = int(pod["metadata"]["labels"][INDEX]), pod["status"]["phase"]
            if phase == "Succeeded":
                done.add(index)
            elif phase == "Failed" or "deletionTimestamp" in pod["metadata"]:
                failed.add(index)
            else:
                active.add(index)
        seen: set[int] = status.setdefault("seen", set())
        # A pod that was deleted has failed.
        failed |= seen - active - done
        again = job["spec"].get("backoffLimitPerIndex") is None
        for index in range(job["spec"]["completions"]):
            if index in active | done or (index in failed and not again):
                continue
            if len(self.objects["pods"]) >= self.quota:
                self._warn(job, "FailedCreate", "pods is forbidden: exceeded quota: pods")
                break
            self._create_pod(job, index)
            seen.add(index)

    def _warn(self, involved: Json, reason: str, message: str) -> None:
        uid = involved["metadata"]["uid"]
        name = f"event-{uid}-{reason.lower()}"
        self.objects["events"][name] = {
            "metadata": {"name": name, "uid": name},
            "involvedObject": {"uid": uid},
            "type": "Warning",
            "reason": reason,
            "message": message,
            "lastTimestamp": now(),
        }

    def _create_pod(self, job: Json, index: int) -> None:
        template = copy.deepcopy(job["spec"]["template"])
        name = f"{job['metadata']['name']}-{index}-{uuid.uuid4().hex[:5]}"
        labels = template.setdefault("metadata", {}).setdefault("labels", {})
        labels.update({"job-name": job["metadata"]["name"], INDEX: str(index)})
        labels["batch.kubernetes.io/job-name"] = job["metadata"]["name"]
        for container in template["spec"]["containers"]:
            container.setdefault("env", []).append(
                {"name": "JOB_COMPLETION_INDEX", "value": str(index)}
            )
        template["metadata"].update(
            name=name,
            namespace=job["metadata"]["namespace"],
            uid=str(uuid.uuid4()),
            creationTimestamp=now(),
            ownerReferences=[
                {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "name": job["metadata"]["name"],
                    "uid": job["metadata"]["uid"],
                }
            ],
        )
        template["status"] = {"phase": "Pending", "conditions": []}
        self.objects["pods"][name] = {"apiVersion": "v1", "kind": "Pod", **template}

    def _control_pod(self, pod: Json) -> None:
        """Do what scheduler and node do."""
        name, status = pod["metadata"]["name"], pod["status"]
        process = self._containers.get(name)
        if process is None:
            if status["phase"] == "Pending":
                self._try_to_start(pod)
            return
        if name in self._kill_at and time.monotonic() >= self._kill_at[name]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        code = process.poll()
        if code is None or status["phase"] != "Running":
            return
        oom = "test/oom" in pod["metadata"].get("annotations", {})
        code = 128 - code if code < 0 else code
        status["phase"] = "Failed" if code or status.get("reason") else "Succeeded"
        reason = "OOMKilled" if oom else "Error" if code else "Completed"
        status["containerStatuses"] = [
            self._container_status(pod, {"terminated": {"exitCode": code, "reason": reason}})
        ]
        if "deletionTimestamp" in pod["metadata"]:
            self._remove("pods", name)

    def _container_status(self, pod: Json, state: Json) -> Json:
        container = pod["spec"]["containers"][0]
        return {"name": container["name"], "image": container["image"], "state": state}

    def _try_to_start(self, pod: Json) -> None:
        status = pod["status"]
        running = [
            each for each in self.objects["pods"].values() if each["status"]["phase"] == "Running"
        ]
        if len(running) >= self.capacity:
            status["conditions"] = [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "Unschedulable",
                    "message": "0/1 nodes are available: 1 Insufficient cpu.",
                }
            ]
            return
        status["conditions"] = [{"type": "PodScheduled", "status": "True"}]
        image = pod["spec"]["containers"][0]["image"]
        if image not in self.images:
            message = f'Back-off pulling image "{image}": not found'
            waiting = {"reason": "ImagePullBackOff", "message": message}
            status["containerStatuses"] = [self._container_status(pod, {"waiting": waiting})]
            return
        secrets = [
            each["secret"]["secretName"] for each in pod["spec"]["volumes"] if "secret" in each
        ]
        if not all(each in self.objects["secrets"] for each in secrets):
            return  # as the real one, which tries again
        self._start(pod)
        status["phase"] = "Running"
        status["containerStatuses"] = [self._container_status(pod, {"running": {}})]

    def _start(self, pod: Json) -> None:
        name, container = pod["metadata"]["name"], pod["spec"]["containers"][0]
        folder = self._folder / name
        folder.mkdir(mode=0o755)
        places = {}
        for volume in pod["spec"]["volumes"]:
            place = folder / volume["name"]
            if "secret" in volume:
                self._mount(place, volume["secret"])
            else:
                place.mkdir()
                place.chmod(0o777)
            places[volume["name"]] = place
        words = list(container["command"])
        for mount in container.get("volumeMounts", []):
            place = str(places[mount["name"]])
            words = [each.replace(mount["mountPath"], place) for each in words]
        environ = {each["name"]: each.get("value", "") for each in container.get("env", [])}
        with open(folder / "log", "wb") as log:
            self._containers[name] = subprocess.Popen(
                words,
                env={**self._environ, **environ},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _mount(self, place: Path, volume: Json) -> None:
        """Lay a Secret's files out as Kubernetes does, or replace them as it does.

        The volume is not read-only here, so files that belong to this user have to be private.
        """
        place.mkdir(exist_ok=True)
        place.chmod(0o1777)
        (place / "..of").write_text(volume["secretName"])
        files = place / f"..{now().replace(':', '_')}.{uuid.uuid4().hex[:8]}"
        files.mkdir(mode=0o755)
        for key, data in self.objects["secrets"][volume["secretName"]]["data"].items():
            (files / key).write_bytes(base64.b64decode(data))
            (files / key).chmod(volume.get("defaultMode", 0o644) & 0o700)
            if not (place / key).is_symlink():
                (place / key).symlink_to(f"..data/{key}")
        (place / "..data_tmp").symlink_to(files.name)
        os.replace(place / "..data_tmp", place / "..data")

    def _remount(self, secret: str) -> None:
        for note in self._folder.glob("*/*/..of"):
            if note.read_text() == secret:
                self._mount(note.parent, {"secretName": secret, "defaultMode": 0o444})


def _handler_of(kubernetes: Kubernetes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: Any) -> None:
            """Print nothing."""

        def _answer(self, status: int, body: Json | str) -> None:
            text = body if isinstance(body, str) else json.dumps(body, default=sorted)
            data = text.encode()
            self.send_response(status)
            kind = "text/plain" if isinstance(body, str) else "application/json"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            url = urlsplit(self.path)
            match = PATH.fullmatch(url.path)
            kubernetes.requests.append((self.command, url.path))
            try:
                if match is None or match["plural"] not in KINDS:
                    raise Refused(
                        404, "NotFound", "the server could not find the requested resource"
                    )
                found = self._do(match, parse_qs(url.query), body)
                self._answer(201 if self.command == "POST" else 200, found)
            except Refused as problem:
                self._answer(problem.body["code"], problem.body)

        do_GET = do_POST = do_PATCH = do_DELETE = _serve

        def _do(self, match: re.Match[str], query: dict[str, list[str]], body: Json) -> Json | str:
            plural, name = match["plural"], match["name"]
            kubernetes.check_right(self.command, match)
            grace = query.get("gracePeriodSeconds", [body.get("gracePeriodSeconds")])[0]
            grace = None if grace is None else int(grace)
            match self.command, name:
                case "POST", None:
                    return kubernetes.create(plural, match["namespace"], body)
                case "GET", None:
                    return {
                        "kind": f"{KINDS[plural]}List",
                        "items": kubernetes.matching(plural, query),
                    }
                case "GET", _ if match["part"] == "log":
                    return kubernetes.log(name, query)
                case "GET", _:
                    return kubernetes.get(plural, name)
                case "PATCH", str():
                    return kubernetes.patch(plural, name, body)
                case "DELETE", None:
                    for each in kubernetes.matching(plural, query):
                        with contextlib.suppress(Refused):
                            kubernetes.delete(plural, each["metadata"]["name"], grace)
                    return {"kind": "Status", "status": "Success"}
                case _:
                    kubernetes.delete(plural, name, grace)
                    return {"kind": "Status", "status": "Success"}

    return Handler
