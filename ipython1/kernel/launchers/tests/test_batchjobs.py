"""What follows from what a batch system says of its members."""

from __future__ import annotations

from twisted.trial import unittest

from ipython1.daemon.jobmember import LEAVE
from ipython1.kernel.launchers.batchjobs import (
    MOST_QUICK,
    QUICK,
    Change,
    Ended,
    JobArray,
    Patience,
    PutBack,
    Queued,
    Started,
)
from ipython1.kernel.launchers.batchsystem import End, TaskState
from ipython1.kernel.launchers.batchsystems import Pbs, Sge, Slurm
from ipython1.kernel.launchers.interfaces import Unit

RUNS = TaskState(False)
WAITS = TaskState(True, "Resources")

ONE = Unit("engine 4", 1, (4,))
TWO = Unit("engine 5", 1, (5,))


class ArrayCase(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.array = JobArray(Slurm(), "ip-a", "12", "o", [ONE, TWO])
        self.now = 0.0
        self.output: list[str] = ["last words"]

    def take(self, *states: TaskState | None, young: bool = False, held: str = "") -> list[Change]:
        known = {index: state for index, state in enumerate(states) if state is not None}
        return self.array.take(known, self.now, lambda index: self.output, young, held)


class MemberTests(ArrayCase):
    def test_the_queue_is_told_when_it_changes(self) -> None:
        self.assertEqual(
            self.take(WAITS, WAITS), [Queued(ONE, "Resources"), Queued(TWO, "Resources")]
        )
        self.assertEqual(self.array.waiting, [("Resources", 1), ("Resources", 1)])
        self.assertEqual(self.take(RUNS, WAITS), [Started(ONE)])
        self.assertEqual(self.take(RUNS, TaskState(True, "Held")), [Queued(TWO, "Held")])
        self.assertEqual(self.array.waiting, [("Held", 1)])

    def test_a_job_may_not_be_listed_at_once(self) -> None:
        self.assertEqual(self.take(young=True), [])
        self.assertEqual(len(self.array.members), 2)
        self.take(RUNS, RUNS, young=True)
        self.assertEqual(len(self.take(young=True)), 2)

    def test_one_that_the_system_puts_back_is_not_over(self) -> None:
        self.take(RUNS, RUNS)
        back = TaskState(True, "BeginTime")
        self.assertEqual(self.take(back, RUNS), [PutBack(ONE, "BeginTime")])
        self.assertEqual(self.take(back, RUNS), [])
        self.assertEqual(self.take(RUNS, RUNS), [Started(ONE)])

    def test_ends(self) -> None:
        self.take(RUNS, RUNS)
        self.now = 100.0
        limit = TaskState(False, "reached its time limit", end=End.SYSTEM)
        (ended,) = self.take(limit, RUNS)
        lines = ("last words",)
        self.assertEqual(ended, Ended(ONE, "reached its time limit", lines, End.SYSTEM, 0, 100.0))
        self.assertFalse(self.array.over)
        (ended,) = self.take(limit)
        self.assertEqual(ended, Ended(TWO, "ended", lines, End.ITSELF, 1, 100.0))
        self.assertTrue(self.array.over)

    def test_one_that_left_at_the_system_s_notice(self) -> None:
        """It has ended by itself and well, as far as the batch system knows."""
        self.take(RUNS, RUNS)
        self.output = ["engine 4: ready", LEAVE, "bye"]
        (ended,) = self.take(TaskState(False, "ended", end=End.ITSELF), RUNS)
        assert isinstance(ended, Ended)
        self.assertEqual((ended.end, ended.asked), (End.SYSTEM, False))
        self.assertIn("left before the end", ended.reason)

    def test_one_that_somebody_cancelled_is_cancelled_whatever_it_has_written(self) -> None:
        self.take(RUNS, RUNS)
        self.output = [LEAVE]
        (ended,) = self.take(TaskState(False, "was cancelled", end=End.SOMEBODY), RUNS)
        assert isinstance(ended, Ended)
        self.assertEqual((ended.end, ended.reason), (End.SOMEBODY, "was cancelled"))

    def test_one_that_was_to_end(self) -> None:
        self.take(RUNS, RUNS)
        self.array.members[0].removed = True
        (ended,) = self.take(TaskState(False, "was cancelled", end=End.SOMEBODY), RUNS)
        assert isinstance(ended, Ended)
        self.assertTrue(ended.asked)

    def test_one_that_is_held_after_an_error_is_to_be_cancelled(self) -> None:
        """Grid Engine keeps it for ever; the array is over only when it is gone."""
        array = JobArray(Sge(), "ip-a", "12", "o", [ONE])
        states = {1: TaskState(True, "Eqw", error=True)}
        self.assertTrue(array.is_held(states))
        why = "error reason          1:      11/30/2026 23:39:08 [0:2]: error: can't chdir to /x"
        (ended,) = array.take(states, 0.0, lambda index: [], why_held=why)
        assert isinstance(ended, Ended)
        self.assertEqual((ended.held, ended.lines), (True, ("can't chdir to /x",)))
        self.assertFalse(array.over)
        self.assertFalse(array.is_held(states))
        self.assertEqual(array.take({}, 1.0, lambda index: []), [])
        self.assertTrue(array.over)

    def test_what_pbs_writes_into_the_output(self) -> None:
        array = JobArray(Pbs(), "ip-a", "12", "o", [ONE])
        lines = ["=>> PBS: job killed: walltime 65 exceeded limit 60"]
        (ended,) = array.take({}, 0.0, lambda index: lines)
        assert isinstance(ended, Ended)
        self.assertEqual((ended.end, ended.reason), (End.SYSTEM, "reached its time limit"))


class PatienceTests(unittest.SynchronousTestCase):
    def ended(self, ran: float) -> Ended:
        return Ended(ONE, "was preempted", (), End.SYSTEM, 0, ran)

    def test_time_limits_are_passed_for_ever(self) -> None:
        patience = Patience()
        self.assertTrue(all(patience.lasts(self.ended(QUICK)) for _ in range(100)))

    def test_what_ends_at_once_is_submitted_a_few_times(self) -> None:
        patience = Patience()
        lasts = [patience.lasts(self.ended(1.0)) for _ in range(MOST_QUICK)]
        self.assertEqual(lasts, [True] * (MOST_QUICK - 1) + [False])

    def test_a_long_run_is_a_new_beginning(self) -> None:
        patience = Patience()
        times = [1.0, 1.0, QUICK, 1.0, 1.0]
        self.assertTrue(all(patience.lasts(self.ended(each)) for each in times))
