"""Engines as pods of Kubernetes Jobs: one Job for all that start together, with one pod for each."""

from __future__ import annotations

import base64
import hashlib
import secrets
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from zope.interface import implementer

from ipython1.daemon.pythoncommand import python_command
from ipython1.kernel.basics.error import ClusterError, KernelError
from ipython1.kernel.host.private_files import read_private
from ipython1.kernel.launchers.interfaces import Context, IEngineLauncher, Unit
from ipython1.kernel.launchers.kube import end, objects
from ipython1.kernel.launchers.kube.api import KubernetesApi
from ipython1.kernel.launchers.kube.podstates import PodState, Stage, state_of
from ipython1.kernel.launchers.programs import ENGINE_MODULE
from ipython1.regularfiles import read_regular_text

FIRST_POLL = 0.5
LAST_POLL = 5.0
POLL_FACTOR = 1.3
"""Seconds between looks at the pods; the interval grows."""

SAY_WAITING_AFTER = 3.0
PULL_PATIENCE = 60.0
"""Seconds for which a pod whose image cannot be pulled is kept."""

MOST_SECRET = 1_000_000
"""Bytes that fit into a Secret."""

LAST_LINES = 20

T = TypeVar("T")


@dataclass(slots=True)
class _Engine:
    """An engine that has not ended.

    :ivar pod: its pod as last seen; None before the first time.
    :ivar pull_since: when its image was first seen not to be pulled; None for never.
    """

    key: str
    index: int
    removed: bool = False
    pod: objects.Json | None = None
    pull_since: float | None = None


@dataclass(slots=True)
class _Job:
    """Engines that were started together.

    :ivar engines: those that have not ended, by index.
    :ivar unwanted: the indices of engines that were removed before they had a pod.
    """

    name: str
    uid: str
    engines: dict[int, _Engine] = field(default_factory=dict)
    unwanted: set[int] = field(default_factory=set)


@implementer(IEngineLauncher)
class KubernetesEngines:
    """See the module's text."""

    kind = "kubernetes"
    early = False
    waits_in_queue = True
    log = Logger()

    def __init__(self, context: Context) -> None:
        self.context = context
        self._options = context.config.kubernetes
        # Two clusters of one name can have different directories or hosts.
        name = objects.label_value(context.files.cluster_id) or "engines"
        self._cluster = name
        self._run = f"{name}-{secrets.token_hex(4)}"
        self._labels = objects.labels_of(name, self._run)
        self._selector = objects.selector_of(self._run)
        self._template: objects.Json = {}
        self._image = self._options.image
        self._owner: objects.Json | None = None
        self._secret: objects.Json | None = None
        self._secret_digest = b""
        self._jobs: list[_Job] = []
        self._submitted = 0
        self._call: Any = None
        self._pause = FIRST_POLL
        self._asking = False
        self._closed = False
        self._begun = 0.0
        self._waiting_said = ""
        self._problem_said = ""

    # -- preparation

    def check(self) -> None:
        """Check that there is a Kubernetes configuration, and a usable pod template if one is named."""
        self._api = KubernetesApi(self._options.context, self._options.namespace)
        path = self._options.pod_template
        if path:
            try:
                text = read_regular_text(path)
            except (OSError, UnicodeDecodeError) as problem:
                why = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8 text"
                raise ClusterError(f"cannot read the pod template {path}: {why}") from None
            self._template = objects.template_of(text, path)

    def default_count(self) -> int:
        """Return the configured number, by default the number of cores of this host."""
        return self.context.config.count

    async def prepare(self) -> None:
        """Check that the API server answers, and look at the pod that this process runs in, if it does."""
        await self._in_thread(self._api.pods, self._selector)
        own = await self._in_thread(self._api.own_pod)
        if own is not None:
            if own["metadata"]["namespace"] == self._api.namespace:
                self._owner = {**own, "apiVersion": "v1", "kind": "Pod"}
            containers = own["spec"]["containers"]
            if not self._image and not any(
                each.get("image") for each in self._template.get("spec", {}).get("containers", [])
            ):
                self._image = containers[0]["image"]
        # Tells what is missing before anything is created.
        nothing = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "", "uid": ""}}
        objects.job_body("", {}, [0], self._parts(), nothing)

    def _in_thread(self, call: Callable[..., T], *arguments: Any) -> Deferred[T]:
        reactor = self.context.reactor
        return deferToThreadPool(reactor, reactor.getThreadPool(), call, *arguments)

    def _parts(self) -> objects.EngineParts:
        config = self.context.config
        restore = (
            f"{objects.SECRET_DIRECTORY}/{objects.RESTORE_NAME}" if config.restore_file else ""
        )
        arguments = [
            f"--furl-file={objects.SECRET_DIRECTORY}/{objects.FURL_NAME}",
            f"--ipython-dir={objects.SCRATCH_DIRECTORY}/engine",
            "--logfile=-",
            *([f"--log-level={config.log_level}"] if config.log_level else []),
            *config.engine_options(restore),
        ]
        python = config.python and shlex.join([config.python, "-m", ENGINE_MODULE])
        return objects.EngineParts(
            image=self._image,
            arguments=shlex.join(arguments),
            command=python or objects.ENGINE,
            env=dict(config.env),
            cwd=config.cwd,
            cpu=self._options.cpu,
            memory=self._options.memory,
            template=self._template,
        )

    # -- starting

    async def start(self, ids: Sequence[int]) -> Sequence[Unit]:
        """Create one Job for all engines."""
        secret = await self._current_secret()
        self._submitted += 1
        name = f"ipengine-{self._run}-{self._submitted}"
        body = objects.job_body(name, self._labels, ids, self._parts(), secret)
        created = await self._in_thread(self._api.create_job, body)
        if "backoffLimitPerIndex" not in created["spec"]:
            await self._in_thread(self._api.delete_job, name)
            raise ClusterError(
                "this Kubernetes is too old: it must know 'backoffLimitPerIndex' of Jobs (version 1.29 or newer)"
            )
        self.log.info(
            "created the Job {name} for {count} engines in the namespace {namespace}",
            name=name,
            count=len(ids),
            namespace=self._api.namespace,
        )
        job = _Job(name, created["metadata"]["uid"])
        units = []
        for index, engine_id in enumerate(ids):
            key = f"kubernetes job {name}, engine {engine_id}"
            job.engines[index] = _Engine(key, index)
            units.append(Unit(key, 1, (engine_id,)))
        self._jobs.append(job)
        self.context.observer.jobs_changed()
        self._poll_soon()
        return units

    async def _current_secret(self) -> objects.Json:
        """Return the Secret with what engines need now."""
        files = self._files()
        if self._secret is None:
            # Before it is there, as this process may be killed in between.
            self.context.observer.set_end_commands(self._run, [self._end_command()])
            body = objects.secret_body(f"ipengine-{self._run}", self._labels, files, self._owner)
            self._secret = await self._in_thread(self._api.create_secret, body)
            self._secret.setdefault("apiVersion", "v1")
            self._secret.setdefault("kind", "Secret")
        elif _digest(files) != self._secret_digest:
            data = {name: base64.b64encode(each).decode() for name, each in files.items()}
            name = self._secret["metadata"]["name"]
            await self._in_thread(self._api.change_secret, name, data)
        self._secret_digest = _digest(files)
        return self._secret

    def _files(self) -> dict[str, bytes]:
        """Return what goes into the Secret."""
        config = self.context.config
        found = {objects.FURL_NAME: read_private(self.context.files.engine_furl, "FURL file")}
        if config.restore_file:
            path = Path(config.restore_file)
            found[objects.RESTORE_NAME] = read_private(path, "restore file", limit=MOST_SECRET)
        return found

    def _end_command(self) -> list[str]:
        grace = str(int(self.context.config.stop_timeout))
        arguments = [self._options.context, self._api.namespace, self._selector, grace]
        return python_command(end.MODULE, ["ipcluster", *arguments])

    # -- following

    def _poll_soon(self) -> None:
        self._pause = FIRST_POLL
        self._begun = self.context.reactor.seconds()
        if not self._asking and not self._closed:
            if self._call is not None and self._call.active():
                self._call.cancel()
            self._call = self.context.reactor.callLater(self._pause, self._poll)

    def _poll(self) -> None:
        if self._closed:
            return
        self._asking = True

        def again(_: Any) -> None:
            self._asking = False
            self._pause = min(self._pause * POLL_FACTOR, LAST_POLL)
            if not self._closed and any(job.engines or job.unwanted for job in self._jobs):
                self._call = self.context.reactor.callLater(self._pause, self._poll)

        def failed(failure: Any) -> None:
            if failure.check(KernelError) is None:
                self.log.failure("cannot follow the pods", failure)
            elif not self._closed and str(failure.value) != self._problem_said:
                self._problem_said = str(failure.value)
                self.context.observer.say(self._problem_said)

        Deferred.fromCoroutine(self._look()).addErrback(failed).addBoth(again)

    async def _look(self) -> None:
        await self._current_secret()
        # Jobs that are created meanwhile may be missing in the answers.
        known = list(self._jobs)
        listed = await self._in_thread(self._api.jobs, self._selector)
        there = {each["metadata"]["uid"] for each in listed}
        pods = _by_job_and_index(await self._in_thread(self._api.pods, self._selector))
        self._problem_said = ""
        waiting: dict[str, int] = {}
        for job in known:
            if self._closed:
                return
            await self._look_at(job, pods.get(job.name, {}), job.uid in there, waiting)
        self._say_waiting(waiting)

    async def _look_at(
        self, job: _Job, pods: dict[int, objects.Json], there: bool, waiting: dict[str, int]
    ) -> None:
        for index in job.unwanted & pods.keys():
            await self._in_thread(self._api.delete_pod, pods[index]["metadata"]["name"])
            job.unwanted.discard(index)
        for engine in list(job.engines.values()):
            pod = pods.get(engine.index)
            if pod is not None:
                await self._take_state(job, engine, pod, waiting)
            elif engine.pod is not None or not there:
                what = "its pod" if there else "its Job"
                await self._ended(
                    job, engine, PodState(Stage.ENDED, f"ended: {what} was deleted", True)
                )
            else:
                reason = await self._why_no_pod(job)
                waiting[reason] = waiting.get(reason, 0) + 1
        if not job.engines and not (job.unwanted and there):
            # Kubernetes removes it, and its pods' logs, after a while.
            self._jobs = [each for each in self._jobs if each is not job]
            self.context.observer.jobs_changed()

    async def _take_state(
        self, job: _Job, engine: _Engine, pod: objects.Json, waiting: dict[str, int]
    ) -> None:
        engine.pod = pod
        state = state_of(pod)
        if state.stage is Stage.WAITING:
            now = self.context.reactor.seconds()
            if not state.pulls:
                engine.pull_since = None
            elif engine.pull_since is None:
                engine.pull_since = now
            given_up = engine.pull_since is not None and now - engine.pull_since >= PULL_PATIENCE
            if state.hopeless or given_up:
                await self._in_thread(self._api.delete_pod, pod["metadata"]["name"])
                state = PodState(Stage.ENDED, f"cannot start: {state.reason}")
            else:
                waiting[state.reason] = waiting.get(state.reason, 0) + 1
        if state.stage is Stage.ENDED:
            await self._ended(job, engine, state)

    async def _why_no_pod(self, job: _Job) -> str:
        """Return why Kubernetes has not created a pod, such as a quota."""
        if self._age() < SAY_WAITING_AFTER:
            return ""
        events = await self._in_thread(self._api.warnings_of, job.uid)
        found = max(events, key=lambda each: each.get("lastTimestamp") or "", default=None)
        return "" if found is None else f"{found.get('reason')}: {found.get('message')}"

    async def _ended(self, job: _Job, engine: _Engine, state: PodState) -> None:
        if job.engines.pop(engine.index, None) is None:
            return  # it was removed meanwhile
        lines = [] if engine.removed else await self._last_lines(engine, LAST_LINES)
        self.context.observer.unit_ended(engine.key, state.reason, lines, asked=engine.removed)

    async def _last_lines(self, engine: _Engine, lines: int) -> list[str]:
        if engine.pod is None:
            return []
        try:
            return await self._in_thread(
                self._api.log, engine.pod["metadata"]["name"], _container_of(engine.pod), lines
            )
        except ClusterError:
            return []  # it has not started, or is gone

    def _age(self) -> float:
        """Return the seconds since engines were last started or removed."""
        return float(self.context.reactor.seconds() - self._begun)

    def _say_waiting(self, waiting: dict[str, int]) -> None:
        if self._age() < SAY_WAITING_AFTER:
            return
        parts = [
            f"{count} ({reason})" if reason else str(count) for reason, count in waiting.items()
        ]
        text = f"engines waiting for Kubernetes: {', '.join(parts)}" if parts else ""
        if text and text != self._waiting_said:
            self.context.observer.say(text)
        self._waiting_said = text

    # -- requests of users

    def _engine_of(self, unit: Unit) -> tuple[_Job, _Engine]:
        for job in self._jobs:
            for engine in job.engines.values():
                if engine.key == unit.key:
                    return job, engine
        raise ClusterError(f"{unit.key} has ended")

    async def remove(self, unit: Unit) -> None:
        """Delete one engine's pod, or if it has none yet, see to it that it does not get one."""
        job, engine = self._engine_of(unit)
        engine.removed = True
        if len(job.engines) == 1:
            # Nothing of the Job is needed any more.
            await self._in_thread(self._api.delete_job, job.name)
        elif engine.pod is not None:
            await self._in_thread(self._api.delete_pod, engine.pod["metadata"]["name"])
        else:
            job.unwanted.add(engine.index)
            job.engines.pop(engine.index)
        self._poll_soon()

    async def restart(self, unit: Unit) -> None:
        """Raise an error: a pod cannot be restarted."""
        raise ClusterError(
            "engines in Kubernetes cannot be restarted; remove the engine and add another one"
        )

    def signal(self, unit: Unit, number: int) -> None:
        """Raise an error: Kubernetes sends no signals."""
        raise ClusterError("Kubernetes cannot send signals to engines")

    async def logs(self, unit: Unit, engine_id: int, lines: int) -> list[str]:
        """Return the last lines of what an engine's pod has printed."""
        _, engine = self._engine_of(unit)
        return await self._last_lines(engine, lines)

    def jobs(self) -> Sequence[str]:
        """Return the names of the Jobs that still have engines."""
        return [job.name for job in self._jobs if job.engines]

    async def close(self, grace: float) -> None:
        """Stop looking; the cluster's end command deletes everything."""
        self._closed = True
        if self._call is not None and self._call.active():
            self._call.cancel()


def _by_job_and_index(pods: Sequence[objects.Json]) -> dict[str, dict[int, objects.Json]]:
    """Sort pods by the name of their Job and their index in it; of several, take the youngest."""
    found: dict[str, dict[int, objects.Json]] = {}
    for pod in sorted(pods, key=lambda each: each["metadata"].get("creationTimestamp") or ""):
        labels = pod["metadata"].get("labels", {})
        notes = pod["metadata"].get("annotations", {})
        name = next((labels[each] for each in objects.JOB_NAMES if each in labels), "")
        index = labels.get(objects.JOB_INDEX, notes.get(objects.JOB_INDEX, ""))
        if index.isdigit():
            found.setdefault(name, {})[int(index)] = pod
    return found


def _container_of(pod: objects.Json) -> str:
    """Return the name of the container that the engine is in."""
    names = [each["name"] for each in pod["spec"]["containers"]]
    return objects.CONTAINER if objects.CONTAINER in names else str(names[0])


def _digest(files: dict[str, bytes]) -> bytes:
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return digest.digest()
