"""The task machine: what becomes of tasks, and how evenly and soon engines get them."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import InvalidClientID, ProtocolError
from ipython1.kernel.controller.scheduling.accounts import Finished
from ipython1.kernel.controller.scheduling.assigners import BulkAssigner
from ipython1.kernel.controller.scheduling.instructions import (
    AskDepend,
    Credit,
    Deliver,
    Kill,
    Note,
    Retract,
    Safe,
    Send,
    Stop,
    Tell,
)
from ipython1.kernel.controller.scheduling.invariants import BrokenInvariant, check
from ipython1.kernel.controller.scheduling.machine import TaskMachine
from ipython1.kernel.controller.scheduling.prefetch import Measured, Prefetch, Templates
from ipython1.kernel.controller.scheduling.queues import FIFOLine, LIFOLine, Line, PriorityLine
from ipython1.kernel.controller.scheduling.records import TaskTerms
from ipython1.kernel.controller.scheduling.seams import TaskSettings
from ipython1.kernel.controller.tests.taskworld import World
from ipython1.kernel.wire.taskwire import Status

ALICE, BOB = b"a" * 16, b"b" * 16
OK, FAILED, REJECTED, REFUSED, STOPPED = (
    Status.OK,
    Status.FAILED,
    Status.REJECTED,
    Status.REFUSED,
    Status.STOPPED,
)


class Desk:
    """A machine with engines whose every step the test decides."""

    def __init__(
        self, engines: int = 2, line: type[Line] = FIFOLine, known: bool = True, **settings: Any
    ) -> None:
        self.now = 0.0
        self.machine = TaskMachine(BulkAssigner(line, Prefetch()), TaskSettings(**settings))
        self.machine.clients.joined(ALICE)
        self.machine.clients.begun(ALICE)
        self.sent: dict[int, list[tuple[int, int]]] = {}
        self.guarded: set[int] = set()
        self.done: dict[int, Finished] = {}
        self.other: list[Any] = []
        self.safe: dict[int, int] = {}
        for number in range(engines):
            self.join(number)
        self.known = known
        self.ids = iter(range(*self._lease()))

    def _lease(self) -> tuple[int, int]:
        lease = self.machine.clients.lease(ALICE)
        return lease.start, lease.stop

    def join(self, number: int) -> None:
        self.sent[number] = []
        self.machine.worker_joined(number, 0, self.now)
        self.settle()

    def options(self, kind: bytes = b"f", **options: Any) -> TaskTerms:
        measured = self.machine.templates.get(kind)
        if self.known and not measured.count:
            measured.add(0.05, 50)
        return TaskTerms(measured, **options)

    def submit(self, number: int = 1, recovery: Any = (), **options: Any) -> list[int]:
        made = self.options(**options)
        ids = [next(self.ids) for _ in range(number)]
        self.machine.submit(ALICE, [(each, made, b"p", recovery) for each in ids], self.now)
        self.settle()
        return ids

    def settle(self) -> None:
        check(self.machine)
        for instruction in self.machine.settle(self.now):
            match instruction:
                case Send():
                    self.sent[instruction.engine] += [
                        (record.id, record.attempt) for record in instruction.records
                    ]
                    self.guarded |= instruction.guarded
                case Deliver(client=client, batch=batch):
                    if client == ALICE and batch.client.connected:
                        for finished in batch.finished:
                            assert finished.id not in self.done
                            self.done[finished.id] = finished
                        self.machine.clients.confirm(ALICE, batch.number, self.now)
                case Safe():
                    self.safe[instruction.engine] = instruction.row
                case Credit():
                    pass
                case _:
                    self.other.append(instruction)
        check(self.machine)

    def end(self, engine: int, status: Status = OK, number: int = 1, payload: bytes = b"r") -> None:
        for _ in range(number):
            run = self.sent[engine].pop(0)
            self.machine.results(engine, [(*run, int(status), 0.05, payload)], self.now)
            self.settle()

    def begin(self, engine: int) -> None:
        self.machine.running(engine, *self.sent[engine][0], self.now)
        self.settle()

    def lose(self, engine: int, reason: str = "it was killed", other_work: bool = False) -> None:
        del self.sent[engine]
        self.machine.worker_lost(engine, self.now, reason, other_work)
        self.settle()

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.machine.tick(self.now)
        self.settle()

    def engine_of(self, task_id: int) -> int:
        return next(
            engine for engine, runs in self.sent.items() if any(r[0] == task_id for r in runs)
        )

    def error(self, task_id: int) -> tuple[str, str]:
        error = self.done[task_id].error
        assert error is not None
        return error


class LifeTests(SynchronousTestCase):
    """Submission, results, retries, recovery, rejection, aborts."""

    def test_success(self) -> None:
        desk = Desk()
        [task] = desk.submit()
        desk.end(desk.engine_of(task))
        self.assertEqual((desk.done[task].status, desk.done[task].payload), (OK, b"r"))
        self.assertEqual(desk.machine.counts()["succeeded"], 1)

    def test_retries_then_failure(self) -> None:
        desk = Desk(1)
        [task] = desk.submit(retries=2)
        desk.end(0, FAILED, 2, b"x")
        self.assertNotIn(task, desk.done)
        desk.end(0, FAILED, payload=b"last")
        self.assertEqual((desk.done[task].status, desk.done[task].payload), (FAILED, b"last"))

    def test_recovery_tasks_take_over_with_their_own_retries(self) -> None:
        desk = Desk(1)
        second, third = desk.options(retries=1), desk.options()
        [task] = desk.submit(recovery=[(second, b"second"), (third, b"third")])
        desk.end(0, FAILED)
        self.assertEqual(desk.machine.tasks[task].payload, b"second")
        desk.end(0, FAILED, 2)
        self.assertEqual(desk.machine.tasks[task].payload, b"third")
        desk.end(0, OK, payload=b"saved")
        self.assertEqual((desk.done[task].status, desk.done[task].payload), (OK, b"saved"))

    def test_rejection_uses_no_retry_and_avoids_the_engine(self) -> None:
        desk = Desk(2)
        [task] = desk.submit()
        first = desk.engine_of(task)
        desk.end(first, REJECTED)
        other = desk.engine_of(task)
        self.assertNotEqual(first, other)
        desk.end(other, REJECTED)
        self.assertEqual(desk.machine.status()["unsatisfied"], [task])
        self.assertEqual(desk.sent, {0: [], 1: []})
        desk.join(2)
        self.assertEqual(desk.engine_of(task), 2)

    def test_rejections_are_forgotten_when_properties_change_or_on_spin(self) -> None:
        desk = Desk(1)
        [task] = desk.submit()
        desk.end(0, REJECTED)
        desk.machine.properties_changed(0, 1, desk.now)
        desk.settle()
        self.assertEqual(desk.engine_of(task), 0)
        desk.end(0, REJECTED)
        desk.machine.spin(desk.now)
        desk.settle()
        self.assertEqual(desk.engine_of(task), 0)

    def test_a_new_engine_under_an_old_id_was_rejected_by_nobody(self) -> None:
        desk = Desk(1)
        [task] = desk.submit()
        desk.end(0, REJECTED)
        desk.lose(0)
        desk.join(0)
        self.assertEqual(desk.engine_of(task), 0)

    def test_rejections_are_forgotten_while_a_task_runs_elsewhere(self) -> None:
        desk = Desk(2)
        [task] = desk.submit()
        first = desk.engine_of(task)
        desk.end(first, REJECTED)
        self.assertEqual(desk.engine_of(task), 1 - first)
        desk.machine.properties_changed(first, 1, desk.now)
        desk.end(1 - first, REJECTED)
        self.assertEqual(desk.engine_of(task), first)

    def test_abort_of_a_queued_task(self) -> None:
        desk = Desk(0)
        first, second = desk.submit(2)
        desk.machine.abort(first, desk.now)
        desk.settle()
        self.assertEqual(desk.error(first), ("TaskAborted", f"task {first} was aborted"))
        desk.join(0)
        self.assertEqual([run[0] for run in desk.sent[0]], [second])

    def test_abort_of_a_running_task(self) -> None:
        desk = Desk(1, grace=2.0)
        [task] = desk.submit()
        desk.machine.abort(task, desk.now)
        desk.settle()
        verdict = ("TaskAborted", f"task {task} was aborted", True)
        self.assertEqual(desk.other, [Stop(0, task, 1, verdict)])
        # It came to an end by itself before it could be interrupted; it was aborted all the same.
        desk.end(0, OK)
        self.assertEqual(desk.error(task)[0], "TaskAborted")
        self.assertRaises(IndexError, desk.machine.abort, task, desk.now)
        self.assertRaises(IndexError, desk.machine.abort, 999, desk.now)

    def test_an_engine_that_does_not_let_go_is_killed_and_no_other_task_suffers(self) -> None:
        desk = Desk(1, grace=2.0)
        stubborn, behind = desk.submit(2)
        desk.machine.abort(stubborn, desk.now)
        desk.settle()
        desk.wait(1.9)
        self.assertEqual(len(desk.other), 1)
        desk.wait(0.2)
        [_, kill] = desk.other
        self.assertIsInstance(kill, Kill)
        self.assertIn(str(stubborn), kill.reason)
        desk.lose(0)
        self.assertEqual(desk.error(stubborn)[0], "TaskAborted")
        self.assertNotIn(behind, desk.done)

    def test_an_aborted_task_that_waits_behind_another_kills_no_engine(self) -> None:
        desk = Desk(1, grace=2.0)
        _long, behind = desk.submit(2)
        desk.machine.abort(behind, desk.now)
        desk.settle()
        desk.wait(10)
        self.assertEqual([type(each) for each in desk.other], [Stop])

    def test_timeout_counts_from_the_begin_and_uses_retries(self) -> None:
        desk = Desk(1)
        [task] = desk.submit(timeout=5.0, retries=1)
        self.assertIn(task, desk.guarded)
        for attempt in (1, 2):
            desk.wait(4.0)
            desk.begin(0)
            desk.wait(4.0)
            self.assertEqual(desk.other, [])
            desk.wait(1.1)
            self.assertEqual(desk.other.pop()[:3], (0, task, attempt))
            desk.end(0, STOPPED)
        name, message = desk.error(task)
        self.assertEqual(name, "TaskTimeout")
        self.assertIn("5 s on engine 0", message)

    def test_a_result_on_its_way_takes_as_long_as_it_takes(self) -> None:
        desk = Desk(1, grace=2.0)
        [first] = desk.submit(timeout=1.0)
        desk.begin(0)
        run = desk.sent[0][0]
        desk.machine.arriving(0, *run, desk.now)
        desk.machine.arriving(0, run[0], run[1] + 1, desk.now)
        desk.machine.arriving(7, *run, desk.now)
        self.assertEqual(desk.machine.dropped, 2)
        desk.wait(1.5)
        self.assertIs(desk.machine.withdraw(first, desk.now), False)
        desk.end(0)
        self.assertEqual(desk.done[first].status, OK)
        [second] = desk.submit()
        desk.begin(0)
        desk.machine.arriving(0, *desk.sent[0][0], desk.now)
        desk.machine.abort(second, desk.now)
        desk.wait(2.5)
        self.assertFalse([each for each in desk.other if isinstance(each, Kill)])
        desk.end(0)
        self.assertEqual(desk.error(second)[0], "TaskAborted")

    def test_time_limits_leave_nothing_behind(self) -> None:
        desk = Desk(1)
        for _ in range(500):
            desk.submit(timeout=3600.0)
            desk.begin(0)
            desk.end(0)
        self.assertLess(len(desk.machine.timers), 200)


class RepetitionTests(SynchronousTestCase):
    """Everything may be delivered twice, or too late."""

    def test_submissions(self) -> None:
        desk = Desk(1)
        options = desk.options()
        for _ in range(2):
            desk.machine.submit(ALICE, [(0, options, b"", ()), (1, options, b"", ())], 0.0)
        desk.settle()
        self.assertEqual(len(desk.machine.tasks), 2)
        self.assertEqual(desk.machine.dropped, 2)
        desk.end(0, OK, 2)
        desk.machine.clients.clear(ALICE, None)
        desk.machine.submit(ALICE, [(1, options, b"", ())], 0.0)
        self.assertEqual(desk.machine.tasks, {}, "also when it is done and forgotten")

    def test_results(self) -> None:
        desk = Desk(2)
        [task] = desk.submit(retries=3)
        first = desk.engine_of(task)
        old = desk.sent[first][0]
        desk.begin(first)
        desk.lose(first)
        second = desk.engine_of(task)
        # The engine was only stopped for a while; what it tells now is about a run that does not count any more.
        desk.machine.results(first, [(*old, 0, 0.1, b"old")], desk.now)
        desk.machine.results(second, [(*old, 0, 0.1, b"old")], desk.now)
        self.assertNotIn(task, desk.done)
        desk.end(second, payload=b"new")
        self.assertEqual(desk.done[task].payload, b"new")


class BlameTests(SynchronousTestCase):
    """Which task an engine died of."""

    def test_the_running_one(self) -> None:
        desk = Desk(1)
        running, waiting = desk.submit(2)
        desk.begin(0)
        desk.lose(0, "the connection was lost")
        name, message = desk.error(running)
        self.assertEqual(name, "EngineDied")
        self.assertIn("engine 0", message)
        self.assertIn("the connection was lost", message)
        self.assertNotIn(waiting, desk.done)
        desk.join(1)
        self.assertEqual(desk.engine_of(waiting), 1)

    def test_one_whose_result_is_on_its_way_has_ended(self) -> None:
        desk = Desk(1, known=False)
        ended, running = desk.submit(2)
        desk.begin(0)
        desk.machine.arriving(0, *desk.sent[0].pop(0), desk.now)
        desk.begin(0)
        self.assertEqual(desk.machine.status()["pending"], [running])
        desk.lose(0)
        self.assertEqual(desk.error(running)[0], "EngineDied")
        self.assertNotIn(ended, desk.done, "it runs again, at no cost")
        desk.join(1)
        desk.end(1)
        self.assertEqual(desk.done[ended].status, OK)

    def test_nobody_is_blamed_while_results_are_on_their_way(self) -> None:
        desk = Desk(1, known=False)
        [ended] = desk.submit()
        desk.begin(0)
        desk.machine.arriving(0, *desk.sent[0].pop(0), desk.now)
        desk.lose(0)
        self.assertEqual(desk.done, {})
        desk.join(1)
        desk.end(1)
        self.assertEqual(desk.done[ended].status, OK)

    def test_one_alone(self) -> None:
        desk = Desk(1)
        [task] = desk.submit()
        desk.lose(0)
        self.assertEqual(desk.error(task)[0], "EngineDied")

    def test_one_of_several_short_ones_is_found_by_running_them_guarded(self) -> None:
        desk = Desk(1)
        tasks = desk.submit(2)
        self.assertFalse(desk.guarded)
        desk.lose(0)
        self.assertEqual(desk.done, {}, "nobody is blamed on suspicion")
        desk.join(1)
        self.assertEqual(desk.guarded, set(tasks))
        desk.end(1)
        desk.begin(1)
        desk.lose(1)
        self.assertEqual(desk.done[tasks[0]].status, OK)
        self.assertEqual(desk.error(tasks[1])[0], "EngineDied")

    def test_a_guarded_task_that_did_not_tell_of_its_begin_did_not_begin(self) -> None:
        desk = Desk(1, known=False)
        tasks = desk.submit(2)
        self.assertEqual(desk.guarded, set(tasks))
        desk.lose(0)
        self.assertEqual(desk.done, {})

    def test_a_command_may_have_been_the_cause(self) -> None:
        desk = Desk(1)
        [task] = desk.submit()
        desk.lose(0, other_work=True)
        self.assertNotIn(task, desk.done)

    def test_quarantine(self) -> None:
        desk = Desk(4, max_deaths=3)
        [poison] = desk.submit(retries=99)
        for death in range(3):
            engine = desk.engine_of(poison)
            desk.begin(engine)
            desk.lose(engine)
            self.assertEqual(poison in desk.done, death == 2)
        name, message = desk.error(poison)
        self.assertEqual(name, "EngineDied")
        self.assertIn("quarantined", message)
        self.assertIn("3 engines", message)

    def test_suspicion_counts_when_it_proves_right(self) -> None:
        desk = Desk(1, max_deaths=2)
        innocent, poison = desk.submit(2, retries=99)
        desk.lose(0)
        desk.join(1)
        desk.end(1)
        desk.begin(1)
        desk.lose(1)
        self.assertIn("quarantined", desk.error(poison)[1])
        self.assertEqual(desk.done[innocent].status, OK)

    def test_deaths_use_retries(self) -> None:
        desk = Desk(2)
        [task] = desk.submit(retries=1)
        for _ in range(2):
            engine = desk.engine_of(task)
            desk.begin(engine)
            desk.lose(engine)
        self.assertIn("all 1 retries", desk.error(task)[1])


class DependencyTests(SynchronousTestCase):
    """Tasks that may not run everywhere."""

    def answer(self, desk: Desk, **answers: bool) -> None:
        asked, desk.other = desk.other, []
        for question in asked:
            self.assertIsInstance(question, AskDepend)
            desk.machine.depend_answer(
                question.engine,
                question.depend,
                question.properties_version,
                answers[f"engine{question.engine}"],
                desk.now,
            )
        desk.settle()

    def test_it_is_asked_once_and_remembered(self) -> None:
        desk = Desk(2)
        desk.submit(2, depend=b"d")
        self.assertEqual(len(desk.other), 2)
        self.answer(desk, engine0=False, engine1=True)
        self.assertEqual((len(desk.sent[0]), len(desk.sent[1])), (0, 2))
        desk.end(1, OK, 2)
        desk.submit(1, depend=b"d")
        self.assertEqual(desk.other, [])
        self.assertEqual(len(desk.sent[1]), 1)

    def test_others_pass_those_that_wait(self) -> None:
        desk = Desk(1)
        [waiting] = desk.submit(depend=b"d")
        self.answer(desk, engine0=False)
        [free] = desk.submit()
        self.assertEqual(desk.engine_of(free), 0)
        self.assertEqual(desk.machine.status()["unsatisfied"], [waiting])

    def test_a_change_of_properties_is_enough(self) -> None:
        desk = Desk(1)
        [task] = desk.submit(depend=b"d")
        self.answer(desk, engine0=False)
        desk.machine.properties_changed(0, 1, desk.now)
        desk.settle()
        self.answer(desk, engine0=True)
        self.assertEqual(desk.engine_of(task), 0)

    def notes(self, desk: Desk) -> list[Note]:
        return [each for each in desk.other if isinstance(each, Note)]

    def raise_on(self, desk: Desk, engines: list[int], problem: str = "NameError: np") -> None:
        for engine in engines:
            version = desk.machine.workers[engine].properties_version
            desk.machine.depend_answer(engine, b"d", version, False, desk.now, problem)
        desk.settle()

    def test_clients_are_told_once_what_it_raises_everywhere(self) -> None:
        desk = Desk(3)
        first, second = desk.submit(2, depend=b"d")
        self.raise_on(desk, [0, 1])
        desk.wait(2)
        self.assertEqual(self.notes(desk), [], "an engine has not answered")
        self.raise_on(desk, [2], "")
        desk.wait(2)
        [note] = self.notes(desk)
        self.assertIn(
            f"task {first} (and 1 more) waits: its depend function raised NameError: np on engines 0, 1, "
            "which counts as false and its depend function is false on engine 2. It is called again",
            note.text,
        )
        desk.submit(depend=b"d")
        desk.wait(5)
        self.assertEqual(len(self.notes(desk)), 1)
        desk.machine.spin(desk.now)
        desk.settle()
        self.raise_on(desk, [0, 1, 2])
        desk.wait(2)
        self.assertEqual(len(self.notes(desk)), 2)
        desk.machine.properties_changed(0, 1, desk.now)
        desk.settle()
        desk.machine.depend_answer(0, b"d", 1, True, desk.now)
        desk.settle()
        self.assertEqual(desk.engine_of(first), 0)
        self.assertEqual(desk.engine_of(second), 0)

    def test_properties_that_are_set_at_once_are_in_time(self) -> None:
        desk = Desk(1)
        desk.submit(depend=b"d")
        self.raise_on(desk, [0])
        desk.wait(0.5)
        desk.machine.properties_changed(0, 1, desk.now)
        desk.settle()
        desk.machine.depend_answer(0, b"d", 1, True, desk.now)
        desk.wait(5)
        self.assertEqual(self.notes(desk), [])

    def test_what_engines_die_of_is_not_asked_on_and_on(self) -> None:
        desk = Desk(0, max_deaths=2)
        [task] = desk.submit(depend=b"deadly")

        def asked() -> int:
            return len([each for each in desk.other if isinstance(each, AskDepend)])

        for number in range(2):
            desk.join(number)
            desk.lose(number)
        self.assertEqual(asked(), 2)
        desk.join(2)
        self.assertEqual(asked(), 2)
        self.assertEqual(desk.machine.status()["unsatisfied"], [task])
        desk.machine.spin(desk.now)
        desk.settle()
        self.assertEqual(asked(), 3, "whoever insists gets it asked again")
        desk.machine.depend_answer(2, b"deadly", 0, True, desk.now)
        desk.settle()
        self.assertEqual(desk.engine_of(task), 2)

    def test_a_task_is_not_blamed_for_what_a_dependency_may_have_done(self) -> None:
        desk = Desk(1)
        [innocent] = desk.submit()
        desk.submit(depend=b"deadly")
        desk.lose(0)
        self.assertEqual(desk.done, {})
        desk.join(1)
        desk.begin(1)
        for number in (1, 2, 3):
            desk.lose(number)
            desk.submit()
            desk.join(number + 1)
            desk.begin(number + 1)
        self.assertEqual(desk.machine.status()["unsatisfied"], [], "it was not at fault either")
        self.assertEqual(desk.error(innocent)[0], "EngineDied")

    def test_an_answer_about_old_properties_does_not_count(self) -> None:
        desk = Desk(1)
        [task] = desk.submit(depend=b"d")
        desk.machine.properties_changed(0, 1, desk.now)
        desk.settle()
        [old, new] = desk.other
        desk.machine.depend_answer(0, b"d", old.properties_version, True, desk.now)
        desk.settle()
        self.assertEqual(desk.sent[0], [])
        desk.machine.depend_answer(0, b"d", new.properties_version, True, desk.now)
        desk.settle()
        self.assertEqual(desk.engine_of(task), 0)


class OrderTests(SynchronousTestCase):
    """The supplied orders."""

    def order(self, line: type[Line], priorities: list[int]) -> list[int]:
        desk = Desk(0, line)
        for priority in priorities:
            desk.submit(priority=priority)
        desk.join(0)
        order = []
        while desk.sent[0]:
            order.append(desk.sent[0][0][0])
            desk.end(0)
        return order

    def test_fifo(self) -> None:
        self.assertEqual(self.order(FIFOLine, [0, 5, 1, 9]), [0, 1, 2, 3])

    def test_lifo(self) -> None:
        self.assertEqual(self.order(LIFOLine, [0, 5, 1, 9]), [3, 2, 1, 0])

    def test_priority(self) -> None:
        self.assertEqual(self.order(PriorityLine, [0, 5, -1, 5, 9, 0]), [4, 1, 3, 0, 5, 2])


class ClientTests(SynchronousTestCase):
    """Accounts: ids, credit, results for oneself and for others."""

    def test_ids_are_leased_and_checked(self) -> None:
        desk = Desk(1)
        desk.machine.clients.joined(BOB)
        lease = desk.machine.clients.lease(BOB)
        self.assertGreaterEqual(lease.start, 1024)
        with self.assertRaises(InvalidClientID):
            desk.machine.submit(BOB, [(3, desk.options(), b"", ())], 0.0)
        with self.assertRaises(InvalidClientID):
            desk.machine.submit(b"c" * 16, [], 0.0)
        sizes = []
        for _ in range(12):
            lease = desk.machine.clients.lease(BOB)
            sizes.append(lease.stop - lease.start)
        self.assertEqual(sizes, sorted(sizes))

    def test_credit_follows_confirmation(self) -> None:
        machine = TaskMachine(
            BulkAssigner(FIFOLine, Prefetch()), TaskSettings(window_tasks=16, window_size=1000)
        )
        machine.clients.joined(ALICE)
        account = machine.clients.begun(ALICE)
        machine.worker_joined(0, 0, 0.0)
        self.assertEqual(account.credit, (16, 1000))
        machine.clients.lease(ALICE)
        options = TaskTerms(machine.templates.get(b"f"))
        machine.submit(ALICE, [(n, options, bytes(10), ()) for n in range(16)], 0.0)
        for _ in range(16):
            sends = [each for each in machine.settle(0.0) if isinstance(each, Send)]
            for send in sends:
                machine.results(
                    0, [(r.id, r.attempt, 0, 0.1, bytes(20)) for r in send.records], 0.0
                )
        self.assertEqual(account.credit[0], 16, "unread results count")
        self.assertEqual(account.unread_size, 320)
        for number in list(account.unconfirmed):
            machine.clients.confirm(ALICE, number, 0.0)
        self.assertEqual(account.credit, (32, 1160))
        with self.assertRaises(ProtocolError):
            for start in range(16, 200, 16):
                ids = range(start, start + 16)
                machine.submit(ALICE, [(n, options, b"", ()) for n in ids], 0.0)

    def test_results_are_kept_for_others_up_to_a_size_and_an_age(self) -> None:
        desk = Desk(1, keep_size=2000, keep_age=60.0)
        tasks = desk.submit(10)
        while desk.sent[0]:
            desk.end(0)
        fetch = desk.machine.clients.fetch
        self.assertIs(fetch(BOB, tasks[0], False), True, "it is done, and not here any more")
        self.assertEqual(fetch(BOB, tasks[-1], False), desk.done[tasks[-1]])
        desk.wait(61)
        self.assertIs(fetch(BOB, tasks[-1], False), True)
        self.assertRaises(IndexError, fetch, BOB, 10**6, False)
        self.assertEqual(desk.machine.counts()["succeeded"], 10)

    def test_clearing_leaves_what_is_on_its_way_whole(self) -> None:
        desk = Desk(1)
        [task] = desk.submit()
        run = desk.sent[0].pop()
        desk.machine.results(0, [(*run, int(OK), 0.05, b"r")], desk.now)
        desk.machine.clients.clear(ALICE, None)
        self.assertRaises(IndexError, desk.machine.clients.fetch, ALICE, task, False)
        desk.settle()
        self.assertEqual(desk.done[task].payload, b"r")

    def test_unread_results_wait_for_their_client(self) -> None:
        desk = Desk(1, keep_size=0)
        [task] = desk.submit()
        desk.machine.clients.left(ALICE)
        desk.end(0)
        self.assertEqual(desk.done, {})
        desk.machine.clients.joined(ALICE)
        desk.settle()
        self.assertEqual(desk.done, {}, "it has not said yet what it has")
        desk.machine.clients.resynchronised(ALICE, [(task, task + 1)], desk.now)
        desk.settle()
        self.assertEqual(desk.done[task].status, OK)

    def test_another_client_can_wait_for_a_task(self) -> None:
        desk = Desk(1)
        desk.machine.clients.joined(BOB)
        [task] = desk.submit()
        self.assertIs(desk.machine.clients.fetch(BOB, task, True), False)
        run = desk.sent[0][0]
        desk.machine.results(0, [(*run, 0, 0.1, b"r")], 0.0)
        said = desk.machine.settle(0.0)
        self.assertEqual([each.client for each in said if isinstance(each, Deliver)], [ALICE])
        [told] = [each for each in said if isinstance(each, Tell)]
        self.assertEqual((told.client, told.finished.id), (BOB, task))

    def test_tasks_of_a_client_that_is_gone_go_on(self) -> None:
        desk = Desk(1)
        desk.machine.clients.joined(BOB)
        [task] = desk.submit()
        desk.machine.clients.gone(ALICE, desk.now)
        desk.end(0)
        finished = desk.machine.clients.fetch(BOB, task, False)
        assert isinstance(finished, Finished)
        self.assertEqual(finished.payload, b"r")
        self.assertNotIn(ALICE, desk.machine.clients.accounts, "nothing is left of it")


class BalanceTests(SynchronousTestCase):
    """How well engines are used, on a virtual clock."""

    def used(self, engines: int, durations: list[float], kinds: int = 1) -> tuple[float, World]:
        """How long it takes compared with the ideal."""
        world = World(engines)
        options = [world.options(b"%d" % kind) for kind in range(kinds)]
        ids = world.submit(
            (options[index % kinds], b"%.9f" % duration) for index, duration in enumerate(durations)
        )
        took = world.run_all(ids)
        check(world.machine)
        return took / (sum(durations) / engines), world

    def test_equal_tasks(self) -> None:
        ratio, _ = self.used(4, [0.010] * 400)
        self.assertLess(ratio, 1.02)

    def test_mixed_tasks(self) -> None:
        rng = random.Random(7)
        ratio, _ = self.used(4, [rng.uniform(0, 0.05) for _ in range(2000)])
        self.assertLess(ratio, 1.02)

    def test_many_engines(self) -> None:
        rng = random.Random(7)
        ratio, _ = self.used(64, [rng.uniform(0, 0.05) for _ in range(2000)])
        self.assertLess(ratio, 1.10)

    def test_long_tasks_do_not_pile_up_behind_one_engine(self) -> None:
        durations = [0.00001] * 3000 + [0.5] * 8
        for order in (durations, durations[::-1]):
            ratio, world = self.used(4, order)
            self.assertLess(ratio, 1.10)
            self.assertGreater(world.retracted, 0)

    def test_short_tasks_are_taken_back_from_behind_a_long_one(self) -> None:
        durations = [0.00001] * 3000
        durations[100] = 1.0
        ratio, _ = self.used(4, durations)
        self.assertLess(ratio, 1.05 * 4, "all others are done long before the long one")

    def test_short_tasks_travel_in_large_batches(self) -> None:
        _, world = self.used(4, [1e-6] * 20000)
        self.assertGreater(world.largest_batch, 100)
        self.assertLess(world.messages, 1500)

    def test_different_kinds(self) -> None:
        ratio, _ = self.used(4, [0.0001, 0.03] * 500, kinds=2)
        self.assertLess(ratio, 1.03)

    def test_what_is_not_known_is_not_given_ahead_in_numbers(self) -> None:
        world = World(2)
        world.submit([(world.options(b"new"), b"1.0")] * 100)
        for worker in world.machine.workers.values():
            self.assertLessEqual(len(worker.outstanding), 2)

    def test_trust_at_most_doubles(self) -> None:
        measured = Measured(Prefetch())
        room = []
        for _ in range(14):
            room.append(round(0.010 / measured.estimate))
            measured.add(0.0, max(1, measured.count))
        self.assertEqual(room[0], 2)
        for before, after in pairwise(room):
            self.assertLessEqual(after, 2 * before)
        self.assertEqual(room[-1], 4096)

    def test_retracting_is_answered_after_the_task_began(self) -> None:
        desk = Desk(2)
        desk.submit(3)
        busy = max(desk.sent, key=lambda engine: len(desk.sent[engine]))
        idle = 1 - busy
        desk.end(idle)
        desk.wait(0.1)
        [retract] = desk.other
        self.assertIsInstance(retract, Retract)
        desk.end(busy)  # it was faster
        desk.machine.retracted(busy, [], desk.now)
        desk.settle()
        desk.end(busy)
        self.assertEqual(len(desk.done), 3)

    def test_what_an_engine_keeps_it_is_not_asked_for_again(self) -> None:
        desk = Desk(2)
        [task] = desk.submit()
        busy = desk.engine_of(task)
        desk.machine.held = lambda engine: engine == busy  # its command waits until the task ends
        desk.wait(0.1)
        for _ in range(5):
            desk.machine.retracted(busy, [], desk.now)
            desk.wait(0.1)
        self.assertEqual([type(each) for each in desk.other], [Retract])
        desk.end(busy)
        self.assertIn(task, desk.done)

    def test_nothing_is_taken_back_for_an_engine_that_is_to_end_something_first(self) -> None:
        desk = Desk(1)
        desk.submit(2)
        desk.machine.worker_joined(1, 0, desk.now, stale=True)
        desk.wait(0.1)
        self.assertEqual(desk.other, [])
        desk.machine.running(1, 99, 1, desk.now)
        desk.machine.results(1, [(99, 1, int(STOPPED), 0.0, b"")], desk.now)
        desk.settle()
        self.assertEqual([type(each) for each in desk.other], [Retract])


class SmallPartsTests(SynchronousTestCase):
    """Templates, and the story of a failure."""

    def test_templates_are_forgotten_in_the_order_of_their_use(self) -> None:
        templates = Templates(Prefetch(), keep=2)
        first = templates.get(b"1")
        templates.get(b"2")
        self.assertIs(templates.get(b"1"), first)
        templates.get(b"3")
        self.assertIs(templates.get(b"1"), first)
        self.assertEqual(len(templates), 2)

    def test_a_broken_state_tells_its_story(self) -> None:
        desk = Desk(1)
        [task] = desk.submit(retries=1)
        desk.end(0, FAILED)
        desk.machine.tasks[task].state = Status.OK  # type: ignore[assignment]
        with self.assertRaises(BrokenInvariant) as caught:
            check(desk.machine)
        self.assertIn(f"task {task}", str(caught.exception))
        self.assertIn("attempt 1 failed on engine 0", str(caught.exception))
