"""What the state of a pod means for the engine in it; no input and output.

Pods are dictionaries as the API server returns them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from ipython1.kernel.launchers.batchsystem import End

Json = dict[str, Any]

DISRUPTED: Final = "DisruptionTarget"
"""The condition of pods that Kubernetes ends for reasons of its own."""

BY_SYSTEM: Final = (
    *("Evicted", "Preempting", "NodeLost", "NodeShutdown", "Shutdown", "Terminated"),
    *("NodeAffinity", "OutOfcpu", "OutOfmemory", "OutOfpods", "UnexpectedAdmissionError"),
)
"""Reasons of failed pods that have nothing to do with what the engine ran."""

OVER_LIMIT: Final = ("exceeds the total limit", "exceeded its local ephemeral storage limit")
"""In the message of an evicted pod: it took more of the disk than it may, so it is to blame."""

HOPELESS: Final = ("InvalidImageName", "ErrImageNeverPull")
"""Reasons for waiting that do not go away."""

PULLING: Final = ("ImagePullBackOff", "ErrImagePull")
"""Reasons for waiting that may go away."""

MOST_MESSAGE: Final = 300


class Stage(Enum):
    """How far a pod is."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class PodState:
    """The state of a pod.

    :ivar reason: why it waits, or why it has ended, as the end of a sentence that begins with the engine's name.
    :ivar end: who has ended it.
    :ivar hopeless: whether it waits for something that does not come.
    :ivar pulls: whether it waits because its image could not be pulled so far.
    """

    stage: Stage
    reason: str = ""
    end: End = End.ITSELF
    hopeless: bool = False
    pulls: bool = False


def state_of(pod: Json) -> PodState:
    """Return what a pod's status says."""
    status = pod.get("status", {})
    phase = status.get("phase", "Pending")
    if phase == "Pending":
        return _waiting(status)
    if phase in ("Succeeded", "Failed"):
        return _ended(status, phase == "Succeeded")
    if pod.get("metadata", {}).get("deletionTimestamp") and _is_lost(status):
        # The object stays until the node is back, which may never be.
        return PodState(Stage.ENDED, f"was lost: {_disruption(status)}", End.SYSTEM)
    return PodState(Stage.RUNNING)


def _waiting(status: Json) -> PodState:
    for each in status.get("containerStatuses", []):
        waiting = each.get("state", {}).get("waiting")
        if waiting and waiting.get("reason"):
            reason = waiting["reason"]
            pulls = reason in PULLING
            # ContainerCreating and PodInitializing say nothing that "starting" does not.
            text = "" if reason in ("ContainerCreating", "PodInitializing") else _told(waiting)
            return PodState(Stage.WAITING, text, hopeless=reason in HOPELESS, pulls=pulls)
    condition = _condition(status, "PodScheduled")
    if condition.get("status") == "False":
        return PodState(Stage.WAITING, _told(condition))
    return PodState(Stage.WAITING)


def _ended(status: Json, well: bool) -> PodState:
    reason = status.get("reason", "")
    disrupted = _condition(status, DISRUPTED).get("status") == "True"
    ends = [each.get("state", {}).get("terminated") for each in status.get("containerStatuses", [])]
    # A container that does not engines' work may end well before or after.
    end: Json = max(filter(None, ends), key=lambda each: int(each.get("exitCode", 0)), default={})
    if end.get("reason") == "OOMKilled":
        return PodState(Stage.ENDED, "was killed: it needed more memory than its limit (OOMKilled)")
    if disrupted or reason in BY_SYSTEM:
        told = status.get("message", "")
        blamed = any(words in told for words in OVER_LIMIT)
        words = _told(status) if reason else _disruption(status)
        who = End.ITSELF if blamed else End.SYSTEM
        return PodState(Stage.ENDED, f"was ended by Kubernetes: {words}", who)
    if well:
        return PodState(Stage.ENDED, "ended")
    if reason:
        return PodState(Stage.ENDED, f"failed: {_told(status)}")
    code = int(end.get("exitCode", 1))
    if code > 128:
        return PodState(Stage.ENDED, f"was killed by signal {code - 128}")
    return PodState(Stage.ENDED, f"ended with status {code}")


def _is_lost(status: Json) -> bool:
    """Whether its node does not answer."""
    ready = _condition(status, "Ready")
    return bool(_disruption(status)) and ready.get("reason") == "NodeNotReady"


def _disruption(status: Json) -> str:
    condition = _condition(status, DISRUPTED)
    return _told(condition) if condition.get("status") == "True" else ""


def _condition(status: Json, kind: str) -> Json:
    found = (each for each in status.get("conditions", []) if each.get("type") == kind)
    return next(found, {})


def _told(state: Json) -> str:
    reason, message = state.get("reason", ""), " ".join(state.get("message", "").split())
    if len(message) > MOST_MESSAGE:
        message = message[: MOST_MESSAGE - 3] + "..."
    return ": ".join(filter(None, (reason, message)))
