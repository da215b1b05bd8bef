"""Engines as pods of Kubernetes Jobs: one Job for all that start together, with one pod for each."""

from __future__ import annotations

import base64
import hashlib
import secrets
import shlex
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ipython1.daemon.pythoncommand import python_command
from ipython1.kernel.basics.error import ClusterError, KernelError
from ipython1.kernel.host.private_files import read_private
from ipython1.kernel.launchers.batchjobs import MOST_QUICK, Ended, Patience, Queued, Started
from ipython1.kernel.launchers.batchsystem import End
from ipython1.kernel.launchers.interfaces import Context, IEngineLauncher, Unit
from ipython1.kernel.launchers.kube import end, objects
from ipython1.kernel.launchers.kube.api import KubernetesApi
from ipython1.kernel.launchers.kube.objects import Json
from ipython1.kernel.launchers.kube.podjobs import PULL_PATIENCE, PodJob, by_job_and_index
from ipython1.kernel.launchers.polling import Polling
from ipython1.kernel.launchers.programs import ENGINE_MODULE
from ipython1.kernel.launchers.queuetexts import reasons_text
from ipython1.regularfiles import read_regular_text

LONGEST_PAUSE = 5.0
"""The longest pause, in seconds, between looks at the pods."""

SAY_WAITING_AFTER = 3.0
MOST_SECRET = 1_000_000
"""Bytes that fit into a Secret."""

LAST_LINES = 20

T = TypeVar("T")


@implementer(IEngineLauncher)
class KubernetesEngines:
    """See the module's text."""

    kind = "kubernetes"
    early = False
    waits_in_queue = True
    log: Logger = Logger()

    def __init__(self, context: Context) -> None:
        self.context = context
        self._options = context.config.kubernetes
        name = objects.label_value(context.files.cluster_id) or "engines"
        self._run = f"{name}-{secrets.token_hex(4)}"
        # Two clusters of one name can have different directories or hosts.
        place = (
            f"{socket.gethostname()}\n{context.files.dirs.ipython_dir}\n{context.files.cluster_id}"
        )
        self._cluster = f"{name}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"
        self._labels = objects.labels_of(self._cluster, self._run)
        self._selector = objects.selector_of(self._run)
        self._template: Json = {}
        self._image = self._options.image
        self._owner: Json | None = None
        self._secret: Json | None = None
        self._secret_digest = b""
        self._jobs: list[PodJob] = []
        self._patience = Patience()
        self._submitting = DeferredLock()
        self._submitted = 0
        self._polling = Polling(
            context.reactor,
            LONGEST_PAUSE,
            look=self._look,
            failed=self._failed,
            follows=lambda: bool(self._jobs),
        )
        self._closed = False
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
        """Check that the API server answers, and look at the pod that this process runs in, if it does.

        What a cluster left that was here before, and whose host or container was killed, is deleted.
        """
        before = objects.selector_of_cluster(self._cluster)
        pods = await self._in_thread(self._api.pods, before)
        jobs = await self._in_thread(self._api.jobs, before)
        # Only one cluster of this name at a time has a controller here, and its first launcher is prepared first.
        first = self.context.config.with_controller and not self.context.scope
        if first and (pods or jobs):
            self.log.info("deleting {count} pods of a cluster that was killed", count=len(pods))
            await self._in_thread(self._api.delete_all, before, 0)
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
        units = [Unit(f"{self.kind} engine {engine_id}", 1, (engine_id,)) for engine_id in ids]
        if units:
            await self._submit(units)
        return units

    async def _submit(self, units: Sequence[Unit]) -> None:
        """Create a Job that starts these engines.

        :raises ClusterError: if Kubernetes does not accept it.
        """
        await self._submitting.acquire()
        try:
            self._check_open()
            secret = await self._current_secret()
            self._submitted += 1
            name = f"ipengine-{self._run}-{self._submitted}"
            ids = [engine_id for unit in units for engine_id in unit.ids]
            body = objects.job_body(name, self._labels, ids, self._parts(), secret)
            created = await self._in_thread(self._api.create_job, body)
            if "backoffLimitPerIndex" not in created["spec"]:
                await self._in_thread(self._api.delete_job, name)
                raise ClusterError(
                    "this Kubernetes is too old: it must know 'backoffLimitPerIndex' of Jobs (version 1.29 or newer)"
                )
            if self._closed:  # what the nanny was told to delete was not there yet
                await self._in_thread(self._api.delete_all, self._selector, 0)
            self._check_open()
        finally:
            self._submitting.release()
        self.log.info(
            "created the Job {name} for {count} engines in the namespace {namespace}",
            name=name,
            count=len(ids),
            namespace=self._api.namespace,
        )
        self._jobs.append(PodJob(created, units, PULL_PATIENCE))
        self.context.observer.jobs_changed()
        self._polling.changed()

    def _check_open(self) -> None:
        if self._closed:
            raise ClusterError("the cluster is being stopped")

    async def _current_secret(self) -> Json:
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

    def _failed(self, failure: Failure) -> None:
        if failure.check(KernelError) is None:
            self.log.failure("cannot follow the pods", failure)
        elif not self._closed and str(failure.value) != self._problem_said:
            self._problem_said = str(failure.value)
            self.context.observer.say(self._problem_said)

    async def _look(self) -> None:
        if not self._submitting.locked:
            await self._current_secret()
        # Jobs that are created meanwhile may be missing in the answers.
        known = list(self._jobs)
        listed = await self._in_thread(self._api.jobs, self._selector)
        there = {each["metadata"]["uid"] for each in listed}
        pods = by_job_and_index(await self._in_thread(self._api.pods, self._selector))
        self._problem_said = ""
        again: list[Ended] = []
        for job in known:
            if not self._closed:
                await self._look_at(job, pods.get(job.name, {}), job.uid in there, again)
        if not self._closed:
            self._say_waiting()
            await self._submit_again(again)

    async def _look_at(
        self, job: PodJob, pods: dict[int, Json], there: bool, again: list[Ended]
    ) -> None:
        """Take what Kubernetes says of a Job; add the engines that are to be started again to ``again``."""
        for index in job.unwanted & pods.keys():
            await self._in_thread(self._api.delete_pod, pods[index]["metadata"]["name"])
            job.unwanted.discard(index)
        why_no_pod = await self._why_no_pod(job) if job.lacks_pods(pods) else ""
        seen = {index: each.pod for index, each in job.engines.items()}
        changes = job.take(pods, there, self.context.reactor.seconds(), why_no_pod)
        for change in changes:
            match change:
                case Queued():
                    self.context.observer.unit_queued(change.unit.key, change.reason)
                case Started():
                    self.context.observer.unit_queued(change.unit.key, None)
                case Ended():
                    pod = pods.get(change.index, seen.get(change.index))
                    await self._ended(change, pod, again)
        if job.over and job in self._jobs:
            # Kubernetes removes it, and its pods' logs, after a while.
            self._jobs.remove(job)
            self.context.observer.jobs_changed()

    async def _ended(self, ended: Ended, pod: Json | None, again: list[Ended]) -> None:
        observer, key = self.context.observer, ended.unit.key
        if self._is_started_again(ended):
            observer.unit_comes_back(key, ended.reason)
            again.append(ended)
            return
        lines = [] if ended.asked else await self._last_lines(pod, LAST_LINES)
        if ended.held and pod is not None:
            await self._in_thread(self._api.delete_pod, pod["metadata"]["name"])
        by_system = ended.end is not End.ITSELF
        observer.unit_ended(key, ended.reason, lines, ended.asked, by_system=by_system)

    def _is_started_again(self, ended: Ended) -> bool:
        wanted = not ended.asked and self.context.config.batch.resubmit
        if ended.end is not End.SYSTEM or not wanted:
            return False
        if self._patience.lasts(ended):
            return True
        self.context.observer.say(
            f"{ended.unit.key} ended at once {MOST_QUICK} times in a row; not started again"
        )
        return False

    async def _submit_again(self, ended: Sequence[Ended]) -> None:
        """Start engines again that Kubernetes has ended."""
        if not ended:
            return
        try:
            await self._submit([each.unit for each in ended])
        except KernelError as problem:
            for each in ended:
                reason = f"{each.reason}, and cannot be started again: {problem}"
                self.context.observer.unit_ended(each.unit.key, reason, [], False, by_system=True)
            return
        for each in ended:
            self.context.observer.say(f"{each.unit.key} {each.reason}; it is started again")

    async def _why_no_pod(self, job: PodJob) -> str:
        """Return why Kubernetes has not created a pod, such as a quota."""
        if self._polling.age < SAY_WAITING_AFTER:
            return ""
        events = await self._in_thread(self._api.warnings_of, job.uid)
        found = max(events, key=lambda each: each.get("lastTimestamp") or "", default=None)
        return "" if found is None else f"{found.get('reason')}: {found.get('message')}"

    async def _last_lines(self, pod: Json | None, lines: int) -> list[str]:
        if pod is None:
            return []
        name = str(pod["metadata"]["name"])
        try:
            return await self._in_thread(self._api.log, name, _container_of(pod), lines)
        except ClusterError:
            return []  # it has not started, or is gone

    def _say_waiting(self) -> None:
        if self._polling.age < SAY_WAITING_AFTER:
            return
        text = reasons_text(each for job in self._jobs for each in job.waiting)
        if text and text != self._waiting_said:
            self.context.observer.say(f"engines waiting for Kubernetes: {text}")
        self._waiting_said = text

    # -- requests of users

    def _engine_of(self, unit: Unit) -> tuple[PodJob, int]:
        for job in self._jobs:
            index = job.index_of(unit.key)
            if index is not None:
                return job, index
        raise ClusterError(f"{unit.key} has ended, or is being started again")

    async def remove(self, unit: Unit) -> None:
        """Delete one engine's pod, or if it has none yet, see to it that it does not get one."""
        job, index = self._engine_of(unit)
        engine = job.engines[index]
        engine.removed = True
        if len(job.engines) == 1:
            # Nothing of the Job is needed any more.
            await self._in_thread(self._api.delete_job, job.name)
        elif engine.pod is not None:
            await self._in_thread(self._api.delete_pod, engine.pod_name)
        else:
            job.forget(index)
        self._polling.changed()

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
        job, index = self._engine_of(unit)
        pod = job.engines[index].pod
        if pod is None:  # it may have one that was not there at the last look
            pods = await self._in_thread(self._api.pods, self._selector)
            pod = by_job_and_index(pods).get(job.name, {}).get(index)
        return await self._last_lines(pod, lines)

    def jobs(self) -> Sequence[str]:
        """Return the names of the Jobs that still have engines."""
        return [job.name for job in self._jobs if job.engines]

    async def close(self, grace: float) -> None:
        """Stop looking; the cluster's end command deletes everything.

        What is just being created is waited for, and deleted.
        """
        self._closed = True
        self._polling.end()
        await self._submitting.acquire()
        self._submitting.release()


def _container_of(pod: Json) -> str:
    """Return the name of the container that the engine is in."""
    names = [str(each["name"]) for each in pod["spec"]["containers"]]
    return objects.CONTAINER if objects.CONTAINER in names else names[0]


def _digest(files: dict[str, bytes]) -> bytes:
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return digest.digest()
