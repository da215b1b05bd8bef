"""The tasks of an engine whose controller is away for a while, or is started again."""

from __future__ import annotations

from typing import Any

from ipython1.kernel.engine import taskresults
from ipython1.kernel.engine.taskresults import TaskResults
from ipython1.kernel.engine.tests.taskengine import EngineTasksCase, Gate
from ipython1.kernel.wire import frames, messages, taskwire
from ipython1.kernel.wire.bulk import pack_reference
from ipython1.kernel.wire.payload import pack_sizes
from ipython1.kernel.wire.taskwire import Status

LARGE = bytes(taskwire.INLINE + 1)


class AwayCase(EngineTasksCase):
    """What the controller sees of an engine."""

    @property
    def ran(self) -> list[bytes]:
        return [entry[1] for entry in self.told.log if entry[0] == "run"]

    def results(self) -> list[tuple[int, int, Status]]:
        """Return what was told of results since the last call: row, task and status."""
        found = [entry[1:] for entry in self.told.rows]
        self.told.rows.clear()
        return found

    def holds(self) -> tuple[Any, Any]:
        holds = self.tasks.add_to(messages.Holds())
        return holds.runs, holds.ended

    def safe(self, row: int) -> None:
        self.deliver(taskwire.SAFE, 0, row, b"", b"")


class AwayTests(AwayCase):
    """Losing the link, and registering again."""

    def test_results_are_kept_until_they_are_safe(self) -> None:
        self.receive((1, 0, b"a"), (2, 0, b"b"), (3, 0, b"c"))
        self.run_all()
        self.assertEqual([row for row, _, _ in self.results()], [1, 2, 3])
        self.safe(1)
        self.disconnect()
        self.assertEqual(self.holds(), ((), ((2, 1), (3, 1))))
        self.connect()
        ok = Status.OK
        self.assertEqual(self.results(), [(2, 2, ok), (3, 3, ok)])
        self.safe(3)
        self.disconnect()
        self.assertEqual(self.holds(), ((), ()))
        self.connect()
        self.assertEqual(self.results(), [])
        self.receive((4, 0, b"d"))
        self.run_all()
        self.assertEqual(self.results(), [(4, 4, ok)])

    def test_what_is_told_of_failures_is_told_again(self) -> None:
        large = b"bad large" + bytes(taskwire.INLINE)
        self.receive((1, 0, b"bad one"), (2, 0, b"b"), (3, 0, b"bad three"))
        self.run_all()
        self.assertEqual(self.told.notes, [(1, "one"), (3, "three")])
        self.safe(1)
        self.disconnect()
        self.told.ages.clear()
        self.connect()
        self.assertEqual(self.told.notes[2:], [(3, "three")])
        self.assertGreater(self.told.ages[0], 0.0)
        self.safe(3)
        self.disconnect()
        self.connect()
        self.receive((4, 0, b"d"))
        self.run_all()
        self.assertEqual(len(self.told.notes), 3)
        self.receive((5, 0, large))
        self.run_all()
        self.assertEqual([task_id for task_id, _ in self.told.notes[3:]], [5])

    def test_what_is_safe_may_be_told_in_any_pieces(self) -> None:
        results = TaskResults(self.outbox)
        for n in range(10):
            results.add((n, 1, 0, 0.0, b"x"))
            if n % 3 == 2:
                results.tell()
        for row, left in ((0, 10), (2, 8), (2, 8), (1, 8), (4, 6), (100, 1)):
            results.safe(row)
            self.assertEqual(results.unconfirmed, left)
            self.assertEqual(results.keys(), [(n, 1) for n in range(10 - left, 10)])

    def test_while_it_is_away_what_runs_ends_and_nothing_begins(self) -> None:
        self.receive((1, 0, b"a"), (2, 0, b"b"))
        seen: list[Any] = []

        def cut() -> None:
            self.disconnect()
            seen.append(self.holds())

        self.runner.during[b"a"] = cut
        self.run_all()
        self.assertEqual((self.ran, self.results()), ([b"a"], []))
        self.assertEqual(seen, [(((1, 1), (2, 1)), ())])
        self.assertEqual(self.holds(), (((2, 1),), ((1, 1),)))
        self.woken = 0
        self.connect()
        self.assertEqual(self.woken, 1)
        self.run_all()
        self.assertEqual(self.ran, [b"a", b"b"])
        self.assertEqual(self.results(), [(1, 1, Status.OK), (2, 2, Status.OK)])

    def test_what_runs_is_told_again(self) -> None:
        def cut() -> None:
            self.disconnect()
            self.connect()

        self.runner.during[b"a"] = cut
        self.receive((1, 0, b"a"))
        self.run_all()
        self.assertEqual(self.told.log, [("run", b"a"), ("begun", 1, 1), ("result", 1, Status.OK)])

    def test_a_run_that_comes_again_runs_once(self) -> None:
        self.receive((1, 0, b"a"), (2, 0, b"b"), (3, 0, b"c"))

        def comes_again() -> None:
            self.receive((2, 0, b"b"), (3, 0, b"c"))
            self.disconnect()
            self.connect()
            self.receive((1, 0, b"a"), (2, 0, b"b"), (3, 0, b"c"), (4, 0, b"d"))

        self.runner.during[b"b"] = comes_again
        self.run_all()
        self.receive((1, 0, b"a"), (2, 0, b"b"), (3, 0, b"c"))
        self.disconnect()
        self.connect()
        self.receive((4, 0, b"d"))
        self.run_all()
        self.assertEqual(self.ran, [b"a", b"b", b"c", b"d"])

    def test_what_was_given_back_may_come_again(self) -> None:
        self.receive((1, 0, b"a"))
        self.disconnect()
        self.connect()
        self.deliver(taskwire.RETRACT, 0, 0, b"", taskwire.pack_keys([(1, 1)]))
        self.run_all()
        self.assertEqual(self.holds(), ((), ()))
        self.receive((1, 0, b"a"))
        self.run_all()
        self.assertEqual(self.ran, [b"a"])

    def test_a_controller_that_does_not_know_it(self) -> None:
        """It has given the runs to others: those that wait do not run, and what is under way is stopped."""
        self.receive((1, 0, b"a"), (2, 0, b"b"), (3, 0, b"c"))
        interrupted: list[Any] = []
        self.patch(Gate, "request", lambda gate, run: interrupted.append(run) or True)

        def other_controller() -> None:
            self.disconnect()
            self.assertEqual(self.holds(), (((2, 1), (3, 1)), ((1, 1),)))
            self.connect(kept=False)
            raise KeyboardInterrupt

        self.runner.during[b"b"] = other_controller
        self.run_all()
        self.assertEqual((interrupted, self.ran), ([(2, 1)], [b"a", b"b"]))
        told = [entry[1:] for entry in self.results()[1:]]
        self.assertEqual(told, [(3, Status.STOPPED), (2, Status.STOPPED)])
        self.assertEqual(self.holds(), ((), ((3, 1), (2, 1))))
        self.disconnect()
        self.connect(kept=False)
        self.run_all()
        self.assertEqual((self.holds(), self.results()), (((), ()), []))

    def test_a_stale_run_that_ends_before_the_welcome_is_told_of(self) -> None:
        """The controller gives no work until it hears of what the greeting said was under way."""
        self.receive((1, 0, b"a"), (2, 0, b"b"))

        def greet() -> None:
            self.disconnect()
            self.holds()

        self.runner.during[b"b"] = greet
        self.run_all()
        self.results()
        self.connect(kept=False)
        self.assertEqual([entry[1:] for entry in self.results()], [(2, Status.OK)])

    def test_questions_of_a_controller_that_knows_it_are_answered(self) -> None:
        self.disconnect()
        self.tasks.handlers[taskwire.ASK_DEPEND](0, 0, b"yes" + bytes(13), b"")
        self.run_all()
        self.connect()
        self.run_all()
        self.assertEqual(self.told.log, [("depends", 0, b"yes" + bytes(13), True, "")])
        self.disconnect()
        self.tasks.handlers[taskwire.ASK_DEPEND](0, 0, b"yes" + bytes(13), b"")
        self.connect(kept=False)
        self.run_all()
        self.assertEqual(len(self.told.log), 1)

    def test_stopping_what_waits_is_told_again_as_well(self) -> None:
        self.receive((1, 0, b"a"))
        self.deliver(taskwire.STOP, 0, 1, taskwire.pack_attempt(1), b"")
        self.results()
        self.disconnect()
        self.assertEqual(self.holds(), ((), ((1, 1),)))
        self.connect()
        self.assertEqual(self.results(), [(1, 1, Status.STOPPED)])


class BoundTests(AwayCase):
    """How much may wait for confirmation."""

    def test_nothing_begins_while_too_much_is_unconfirmed(self) -> None:
        for name, value in (("MOST_RESULTS", 3), ("MOST_SIZE", 3 * taskresults.PER_RESULT)):
            self.patch(taskresults, name, value)
            self.setUp()
            self.patch(taskresults, "MOST_RESULTS", value if name == "MOST_RESULTS" else 8192)
            self.receive(*((n, 0, b"%d" % n) for n in range(10)))
            for _ in range(20):
                self.tasks.run_one()
                self.tasks.idle()
            begun = len(self.ran)
            self.assertIn(begun, (3, 4))
            self.woken = 0
            self.safe(1)
            self.safe(2)
            self.assertEqual(self.woken, 1)
            for _ in range(20):
                self.tasks.run_one()
                self.tasks.idle()
            self.assertEqual(len(self.ran), begun + 2)

    def test_one_large_result_is_fine(self) -> None:
        self.patch(taskresults, "MOST_SIZE", 1000)
        self.receive((1, 0, bytes(5000)), (2, 0, b"b"))
        for _ in range(5):
            self.tasks.run_one()
            self.tasks.idle()
        self.assertEqual(len(self.ran), 1)
        self.safe(1)
        self.run_all()
        self.assertEqual(len(self.ran), 2)


class ArrivalTests(AwayCase):
    """Runs whose data come as a bulk transfer."""

    def announce(self, number: int, task_id: int, data: bytes = LARGE) -> None:
        """Announce a run with a transfer, of which no piece comes yet."""
        bulk = self.link.bulk
        bulk.frame_received(frames.BULK_OPEN, number, b"", pack_sizes([data]))
        head = taskwire.pack_run(task_id, 1, 0, 0)
        self.deliver(taskwire.RUN, frames.BULK, 0, head, pack_reference(number))

    def test_what_did_not_arrive_before_the_link_was_lost_never_came(self) -> None:
        self.receive((1, 0, b"a"))
        self.announce(5, 2)
        self.deliver(taskwire.STOP, 0, 2, taskwire.pack_attempt(1), b"")
        self.receive((3, 0, b"c"))
        self.assertEqual(self.holds(), (((1, 1),), ()))
        self.disconnect()
        self.assertEqual(self.holds(), (((1, 1),), ()))
        self.link = self.connect()
        self.receive((3, 0, b"c"))
        self.announce(1, 2)
        self.link.bulk.frame_received(frames.BULK_PIECE, 1, b"", LARGE)
        self.run_all()
        self.assertEqual(self.ran, [b"a", b"c", LARGE])
        self.assertEqual([entry[1] for entry in self.results()], [1, 3, 2])

    def test_what_is_still_on_its_way_is_given_back_when_it_is_here(self) -> None:
        self.announce(5, 2)
        self.deliver(taskwire.RETRACT, 0, 0, b"", taskwire.pack_keys([(2, 1)]))
        self.link.bulk.frame_received(frames.BULK_PIECE, 5, b"", LARGE)
        self.run_all()
        self.link.flush()
        self.assertIn(("given back", [(2, 1)]), self.told.log)
        self.assertEqual(self.ran, [])

    def test_no_memory_for_a_run(self) -> None:
        self.announce(5, 2)
        self.announce(6, 3)
        self.receive((4, 0, b"d"))
        self.deliver(taskwire.STOP, 0, 3, taskwire.pack_attempt(1), b"")
        self.link.bulk.frame_received(frames.BULK_ABORT, 6, b"no memory", b"")
        self.assertEqual(self.results(), [])
        self.link.bulk.frame_received(frames.BULK_PIECE, 5, b"", LARGE)
        self.run_all()
        refused, ok = Status.REFUSED, Status.OK
        self.assertEqual(sorted(self.results()), [(1, 3, refused), (2, 2, ok), (3, 4, ok)])
        name, text = messages.unpack_json(self.told.refusals[0])
        self.assertEqual(name, "MessageSizeError")
        self.assertEqual(text, "task 3 did not arrive at engine 7: no memory")

    def test_no_memory_for_a_function(self) -> None:
        digest = bytes(16)
        bulk = self.link.bulk
        bulk.frame_received(frames.BULK_OPEN, 1, b"", pack_sizes([LARGE]))
        self.deliver(taskwire.FUNCTION, frames.BULK, 0, digest, pack_reference(1))
        bulk.frame_received(frames.BULK_ABORT, 1, b"no memory", b"")
        self.assertIn("did not arrive at engine 7: no memory", self.runner.lacking[digest])
