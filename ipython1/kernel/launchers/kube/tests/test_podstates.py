"""What the states of pods mean for engines: why they wait, why they ended, and whether their tasks are to blame."""

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.launchers.batchsystem import End
from ipython1.kernel.launchers.kube.podstates import Stage, state_of

DISRUPTED = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "PreemptionByScheduler",
    "message": "default-scheduler: preempting to accommodate a higher priority pod",
}


def pod(phase, *, conditions=(), container=None, deleted=False, **status):
    if container is not None:
        status["containerStatuses"] = [{"name": "engine", "state": container}]
    metadata = {"deletionTimestamp": "2026-11-30T23:00:00Z"} if deleted else {}
    return {
        "metadata": metadata,
        "status": {"phase": phase, "conditions": list(conditions), **status},
    }


def ended(code, reason="Error"):
    return {"terminated": {"exitCode": code, "reason": reason}}


class WaitingTests(SynchronousTestCase):
    def check(self, reason, found):
        state = state_of(found)
        self.assertEqual((state.stage, state.reason), (Stage.WAITING, reason))
        return state

    def test_a_new_pod(self):
        self.check("", {"metadata": {}})
        self.check("", pod("Pending", container={"waiting": {"reason": "ContainerCreating"}}))

    def test_no_node_has_room(self):
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/3 nodes are available:\n3 Insufficient cpu.",
        }
        self.check(
            "Unschedulable: 0/3 nodes are available: 3 Insufficient cpu.",
            pod("Pending", conditions=[condition]),
        )

    def test_an_image_that_may_come_and_one_that_cannot(self):
        waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
        state = self.check("ImagePullBackOff: not found", pod("Pending", container=waiting))
        self.assertEqual((state.pulls, state.hopeless), (True, False))
        waiting = {"waiting": {"reason": "InvalidImageName", "message": "bad"}}
        state = self.check("InvalidImageName: bad", pod("Pending", container=waiting))
        self.assertEqual((state.pulls, state.hopeless), (False, True))

    def test_long_messages_are_cut(self):
        waiting = {"waiting": {"reason": "CreateContainerConfigError", "message": "x" * 5000}}
        self.assertLess(len(state_of(pod("Pending", container=waiting)).reason), 400)


class EndedTests(SynchronousTestCase):
    def check(self, reason, by_system, found):
        state = state_of(found)
        self.assertEqual(
            (state.stage, state.reason, state.end is End.SYSTEM),
            (Stage.ENDED, reason, by_system),
        )

    def test_by_itself(self):
        self.check("ended", False, pod("Succeeded", container=ended(0, "Completed")))
        self.check("ended with status 3", False, pod("Failed", container=ended(3)))
        self.check("was killed by signal 11", False, pod("Failed", container=ended(139)))

    def test_memory_is_the_engine_s_own_fault(self):
        self.check(
            "was killed: it needed more memory than its limit (OOMKilled)",
            False,
            pod("Failed", container=ended(137, "OOMKilled")),
        )

    def test_preempted(self):
        self.check(
            "was ended by Kubernetes: PreemptionByScheduler: "
            "default-scheduler: preempting to accommodate a higher priority pod",
            True,
            pod("Failed", conditions=[DISRUPTED], container=ended(143)),
        )
        # An engine that leaves at SIGTERM ends well.
        state = state_of(pod("Succeeded", conditions=[DISRUPTED], container=ended(0)))
        self.assertIs(state.end, End.SYSTEM)

    def test_evicted_because_the_node_needs_the_memory(self):
        self.check(
            "was ended by Kubernetes: Evicted: The node was low on resource: memory.",
            True,
            pod("Failed", reason="Evicted", message="The node was low on resource: memory."),
        )

    def test_evicted_because_it_filled_the_disk(self):
        message = "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi."
        self.check(
            f"was ended by Kubernetes: Evicted: {message}",
            False,
            pod("Failed", reason="Evicted", message=message),
        )

    def test_its_time_is_over(self):
        self.check(
            "failed: DeadlineExceeded: too long",
            False,
            pod("Failed", reason="DeadlineExceeded", message="too long"),
        )

    def test_its_node_is_lost(self):
        lost = {**DISRUPTED, "reason": "DeletionByTaintManager", "message": "node is gone"}
        ready = {"type": "Ready", "status": "False", "reason": "NodeNotReady"}
        self.check(
            "was lost: DeletionByTaintManager: node is gone",
            True,
            pod("Running", conditions=[lost, ready], deleted=True),
        )
        # One that is only being deleted still runs.
        self.assertEqual(state_of(pod("Running", deleted=True)).stage, Stage.RUNNING)
        self.assertEqual(
            state_of(pod("Running", conditions=[DISRUPTED], deleted=True)).stage, Stage.RUNNING
        )
