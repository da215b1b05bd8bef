"""What follows from what Kubernetes says of a Job and its pods; no input and output.

==========  =====================================================  =========  ==========================================
engine      event                                                  next       change
==========  =====================================================  =========  ==========================================
submitted   its pod waits, or cannot be created                    waiting    :class:`Queued`
submitted   its pod runs                                           running    :class:`Started`
waiting     it waits for another reason                            same       :class:`Queued`
waiting     its pod runs                                           running    :class:`Started`
waiting     what it waits for does not come                        ended      :class:`Ended`, its pod to be deleted
any         its pod has ended                                      ended      :class:`Ended`
any         its pod, or the whole Job, is not there any more       ended      :class:`Ended`
==========  =====================================================  =========  ==========================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ipython1.kernel.launchers.batchjobs import Change, Ended, Queued, Started
from ipython1.kernel.launchers.batchsystem import End
from ipython1.kernel.launchers.interfaces import Unit
from ipython1.kernel.launchers.kube.objects import JOB_INDEX, JOB_NAMES, Json
from ipython1.kernel.launchers.kube.podstates import PodState, Stage, state_of

PULL_PATIENCE: Final = 60.0
"""Seconds for which a pod whose image cannot be pulled is kept."""


@dataclass(slots=True)
class Engine:
    """An engine that has not ended.

    :ivar pod: its pod as last seen; None before the first time.
    :ivar reason: why it waits; None if it does not, as far as is known.
    :ivar since: when it was first seen running; None before that.
    :ivar pulls_since: when its image was first seen not to be pulled; None for never.
    :ivar removed: whether it was to end.
    """

    unit: Unit
    pod: Json | None = None
    reason: str | None = None
    since: float | None = None
    pulls_since: float | None = None
    removed: bool = False

    @property
    def pod_name(self) -> str:
        """The name of its pod; empty before it has one."""
        return "" if self.pod is None else str(self.pod["metadata"]["name"])


class PodJob:
    """A Job, with one engine for each index; see the module's text.

    :param job: the Job as the API server returned it.
    :ivar engines: those that have not ended, by index.
    :ivar unwanted: the indices of engines that were removed before they had a pod.
    :ivar there: whether Kubernetes has the Job, as far as is known.
    """

    def __init__(self, job: Json, units: Iterable[Unit], patience: float = PULL_PATIENCE) -> None:
        self.name: str = str(job["metadata"]["name"])
        self.uid: str = str(job["metadata"]["uid"])
        self.engines: dict[int, Engine] = {index: Engine(unit) for index, unit in enumerate(units)}
        self.unwanted: set[int] = set()
        self.there: bool = True
        self._patience = patience

    @property
    def over(self) -> bool:
        """Whether there is nothing to look after any more."""
        return not self.engines and not (self.unwanted and self.there)

    @property
    def waiting(self) -> list[tuple[str, int]]:
        """Why engines wait, each with their number."""
        return [
            (each.reason, each.unit.count)
            for each in self.engines.values()
            if each.reason is not None
        ]

    def lacks_pods(self, pods: Mapping[int, Json]) -> bool:
        """Return whether engines have no pod yet."""
        return any(
            each.pod is None and index not in pods and not each.removed
            for index, each in self.engines.items()
        )

    def index_of(self, key: str) -> int | None:
        """Return the index of an engine that has not ended; None if there is none."""
        return next((at for at, each in self.engines.items() if each.unit.key == key), None)

    def forget(self, index: int) -> None:
        """An engine is not wanted before it has a pod."""
        del self.engines[index]
        self.unwanted.add(index)

    def take(
        self, pods: Mapping[int, Json], there: bool, now: float, why_no_pod: str = ""
    ) -> list[Change]:
        """Take what Kubernetes says.

        :param pods: those of this Job, by index.
        :param there: whether Kubernetes has the Job.
        :param now: the time, in seconds of any clock.
        :param why_no_pod: why pods are not created.
        """
        self.there = there
        found: list[Change] = []
        for index, engine in list(self.engines.items()):
            state = self._state(engine, pods.get(index), why_no_pod)
            change = self._change(index, engine, state, now)
            if isinstance(change, Ended):
                del self.engines[index]
            if change is not None:
                found.append(change)
        return found

    def _state(self, engine: Engine, pod: Json | None, why_no_pod: str) -> PodState:
        if pod is not None:
            engine.pod = pod
            return state_of(pod)
        if not self.there:
            return PodState(Stage.ENDED, "ended: its Job was deleted", End.SOMEBODY)
        if engine.pod is not None:
            return PodState(Stage.ENDED, "ended: its pod was deleted", End.SYSTEM)
        return PodState(Stage.WAITING, why_no_pod)

    def _change(self, index: int, engine: Engine, state: PodState, now: float) -> Change | None:
        if state.stage is Stage.WAITING:
            if not state.pulls:
                engine.pulls_since = None
            elif engine.pulls_since is None:
                engine.pulls_since = now
            pulled = now - engine.pulls_since if engine.pulls_since is not None else -1.0
            if not state.hopeless and not pulled >= self._patience:
                if engine.reason == state.reason:
                    return None
                engine.reason = state.reason
                return Queued(engine.unit, state.reason)
            reason = f"cannot start: {state.reason}"
            return Ended(engine.unit, reason, (), state.end, index, 0.0, engine.removed, held=True)
        if state.stage is Stage.ENDED:
            ran = 0.0 if engine.since is None else now - engine.since
            return Ended(engine.unit, state.reason, (), state.end, index, ran, engine.removed)
        if engine.since is not None:
            return None
        engine.since, engine.reason = now, None
        return Started(engine.unit)


def by_job_and_index(pods: Sequence[Json]) -> dict[str, dict[int, Json]]:
    """Sort pods by the name of their Job and their index in it; of several, take the youngest."""
    found: dict[str, dict[int, Json]] = {}
    for pod in sorted(pods, key=lambda each: each["metadata"].get("creationTimestamp") or ""):
        labels = pod["metadata"].get("labels") or {}
        notes = pod["metadata"].get("annotations") or {}
        name = next((labels[each] for each in JOB_NAMES if each in labels), "")
        index = labels.get(JOB_INDEX, notes.get(JOB_INDEX, ""))
        if index.isdigit():
            found.setdefault(name, {})[int(index)] = pod
    return found
