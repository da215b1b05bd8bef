"""Tasks whose links break, and whose controller dies, at any moment: each is done once, and each wait ends well.

Each scenario is played again and again, with the fault some steps of the cluster later each time, until it comes after
the end.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import (
    ClientError,
    ConnectionError,
    DependencyFailed,
    TaskAborted,
)
from ipython1.kernel.calls.clientlink import ClientEnd
from ipython1.kernel.calls.connect import Connection
from ipython1.kernel.clients.asynctaskclient import AsyncTaskClient
from ipython1.kernel.clients.tests.commandworld import World, WorldClient, outcome_of
from ipython1.kernel.objects.after import After
from ipython1.kernel.objects.taskobjects import MapTask, StringTask
from ipython1.kernel.tasks.history import TaskHistory
from ipython1.kernel.wire import messages, taskwire
from ipython1.testing.memory import connect_in_memory

RAN: Counter[Any] = Counter()
"""How often each call has run; the engines are in this process."""


def note(key: Any) -> Any:
    from ipython1.kernel.clients.tests.test_tasks_again import RAN

    RAN[key] += 1
    return key


def note_large(key: Any) -> bytes:
    note(key)
    return bytes(taskwire.INLINE + 1)


class TaskWorldClient(WorldClient):
    """A client of the task interface that can lose its link and make it again."""

    def __init__(self, world: World) -> None:
        self._world = world
        origin = uuid.uuid4()
        self.hello = messages.Hello(
            uuid=origin.hex,
            pid=99,
            host="there",
            role=messages.TASK,
            secret=messages.new_secret(),
        )
        self.end = ClientEnd(origin.bytes)
        self.link = None
        self.connect()
        self.end.reconnects = True
        self.tc = AsyncTaskClient(Connection(world.pump, None, self.end, "memory"))
        world.clients.append(self)
        began = Deferred.fromCoroutine(self.tc.begin())
        world.pump.run()
        assert began.called

    def connect(self) -> None:
        session = self._world.cluster.task_face.accept(self.hello)
        self.link, there = connect_in_memory(self._world.pump, self.end, session)
        self.end.attach(self.link, session.attach(there))
        session.opened()


class TaskWorldCase(SynchronousTestCase):
    def begin(self, keeps: bool = True) -> None:
        RAN.clear()
        self.world = World(2, keeps)
        self.client = TaskWorldClient(self.world)
        self.tc = self.client.tc

    def result(self, made: Deferred[Any]) -> Any:
        """Run until nothing happens, and return what a Deferred gave."""
        self.world.pump.run()
        for _ in range(4):
            ended = outcome_of(made)
            if ended is not None or made.called:
                break
            self.world.pass_time(0.5)
        self.assertTrue(made.called, "it waits for ever")
        if isinstance(ended, BaseException):
            raise ended
        return ended

    def each_moment(
        self,
        call: Callable[[], Deferred[Any]],
        fault: Callable[[], None],
        check: Callable[[Any], None],
        stride: int = 1,
    ) -> None:
        """``fault`` after every number of steps that ``call`` takes; ``check`` gets its result."""
        moment = 0
        before_the_end = True
        while before_the_end:
            self.begin()
            made = call()
            before_the_end = self.world.steps(moment)
            fault()
            self.world.pump.run()
            self.world.repair()
            check(self.result(made))
            self.assertEqual(
                {key: count for key, count in RAN.items() if count > 1}, {}, f"at {moment}"
            )
            moment += stride
        self.assertGreater(moment, 5)


class EachMoment:
    """The scenarios; those who inherit say what breaks."""

    def fault(self) -> None:
        raise NotImplementedError

    def test_tasks_one_by_one(self: Any) -> None:
        async def run() -> Any:
            ids = await self.tc.run_many([MapTask(note, (n,)) for n in range(12)])
            await self.tc.barrier(ids)
            return [(await self.tc.get_task_result(each)).result for each in ids]

        def check(values: Any) -> None:
            self.assertEqual(values, list(range(12)))
            self.assertEqual(sum(RAN.values()), 12)

        self.each_moment(lambda: Deferred.fromCoroutine(run()), self.fault, check, 2)

    def test_large_tasks_and_results(self: Any) -> None:
        async def run() -> Any:
            tasks = [MapTask(note_large, (bytes([n]) * (taskwire.INLINE + 1),)) for n in range(3)]
            ids = await self.tc.run_many(tasks)
            return [(await self.tc.get_task_result(each, block=True)).result for each in ids]

        def check(values: Any) -> None:
            self.assertEqual(values, [bytes(taskwire.INLINE + 1)] * 3)

        self.each_moment(lambda: Deferred.fromCoroutine(run()), self.fault, check, 5)

    def test_maps(self: Any) -> None:
        def check(values: Any) -> None:
            self.assertEqual(values, list(range(30)))

        self.each_moment(lambda: self.tc.map(note, range(30)), self.fault, check, 5)

    def test_as_completed(self: Any) -> None:
        async def run() -> Any:
            ids = await self.tc.run_many([MapTask(note, (n,)) for n in range(6)])
            return sorted([each.result async for each in self.tc.as_completed(ids)])

        def check(values: Any) -> None:
            self.assertEqual(values, list(range(6)))

        self.each_moment(lambda: Deferred.fromCoroutine(run()), self.fault, check, 2)

    def test_flush(self: Any) -> None:
        async def run() -> Any:
            ids = await self.tc.run_many([MapTask(note, (n,)) for n in range(6)])
            await self.tc.flush()
            return ids

        def check(ids: Any) -> None:
            self.result(self.tc.barrier(ids))
            self.assertEqual(sum(RAN.values()), 6)

        self.each_moment(lambda: Deferred.fromCoroutine(run()), self.fault, check, 2)


class ClientLinkTests(EachMoment, TaskWorldCase):
    def fault(self) -> None:
        self.client.break_link()


class EngineLinkTests(EachMoment, TaskWorldCase):
    def fault(self) -> None:
        self.world.break_engine(0)


class ControllerTests(EachMoment, TaskWorldCase):
    def fault(self) -> None:
        self.world.kill_controller()


class AbortedTests(TaskWorldCase):
    """A client aborts tasks before they are sent, and another client's tasks wait for these."""

    def submit(self) -> tuple[int, Deferred[Any]]:
        """The client comes back to the controller after it aborted a task that others wait for.

        :returns: the aborted task, and a Deferred of how the others came out.
        """
        other = TaskWorldClient(self.world).tc
        self.client.break_link()
        self.world.pump.run()
        aborted = self.result(self.tc.run(MapTask(note, ("aborted",))))
        self.result(self.tc.abort(aborted))
        waiting = [
            self.result(other.run(MapTask(note, (name,), after=after)))
            for name, after in (
                ("success", aborted),
                ("both", After(aborted, failure=True)),
                ("failure", After(aborted, success=False, failure=True)),
            )
        ]
        self.result(other.flush())
        self.client.connect()

        async def outcomes() -> Any:
            return [await other.get_task_result(each, block=True) for each in waiting]

        return aborted, Deferred.fromCoroutine(outcomes())

    def check(self, aborted: int, results: Any) -> None:
        self.assertIn(f"TaskAborted: task {aborted} was aborted", str(results[0].failure))
        self.assertIsInstance(results[0].failure, DependencyFailed)
        self.assertEqual([each.result for each in results[1:]], ["both", "failure"])
        self.assertEqual(RAN, {"both": 1, "failure": 1})

    def test_whoever_waits_for_it_is_told(self) -> None:
        self.begin()
        aborted, waiting = self.submit()
        self.check(aborted, self.result(waiting))
        self.assertIsInstance(self.result(self.tc.get_task_result(aborted)).failure, TaskAborted)
        self.assertRaises(IndexError, self.result, self.tc.abort(aborted))
        other = TaskWorldClient(self.world).tc
        told = self.result(other.get_task_result(aborted, block=True))
        self.assertIsInstance(told.failure, TaskAborted)
        [entry] = self.result(self.tc.history(own=True))
        self.assertEqual((entry.taskid, entry.state, entry.what), (aborted, "failed", "note"))
        problem = self.assertRaises(ClientError, self.result, self.tc.resubmit(aborted))
        self.assertIn(f"task {aborted} was aborted before its client had sent it", str(problem))

    def whatever_breaks(self, fault: Callable[[], None]) -> None:
        aborted = 0

        def begin() -> Deferred[Any]:
            nonlocal aborted
            aborted, waiting = self.submit()
            return waiting

        def check(results: Any) -> None:
            self.check(aborted, results)

        self.each_moment(begin, fault, check)

    def test_its_link_breaks_meanwhile(self) -> None:
        self.whatever_breaks(lambda: self.client.break_link())

    def test_the_controller_dies_meanwhile(self) -> None:
        self.whatever_breaks(lambda: self.world.kill_controller())

    def test_a_map_that_is_aborted(self) -> None:
        """Nobody waits for ever for a part of it, though only its client knows the parts."""
        self.begin()
        other = TaskWorldClient(self.world).tc
        mapping = self.tc.map(note, range(4), block=False)
        while not self.tc._tasks.unsent():
            self.assertTrue(self.world.pump.step())
        first, *_ = self.tc._tasks.unsent()
        outcome_of(mapping).abort()
        waiting = other.run(MapTask(note, ("after",), after=first), block=True)
        problem = self.result(waiting).failure
        self.assertIsInstance(problem, DependencyFailed)
        self.assertIn(f"task {first} was aborted", str(problem))
        self.assertEqual(RAN, {})


class HistoryTests(TaskWorldCase):
    """What was, and having it done again."""

    def setUp(self) -> None:
        self.begin()

    def test_history(self) -> None:
        good = self.result(self.tc.run(StringTask("a = 1", pull="a"), block=True))
        bad = self.result(self.tc.run(StringTask("1/0"), block=True))
        found = self.result(self.tc.history())
        self.assertIsInstance(found, TaskHistory)
        self.assertEqual([each.taskid for each in found], [good.taskid, bad.taskid])
        self.assertEqual([each.state for each in found], ["succeeded", "failed"])
        self.assertRegex(
            repr(found), r"^<Task History>\n\[\d+\] succeeded, a = 1, engine \d, submitted "
        )
        self.assertEqual(len(self.result(self.tc.history(states="failed"))), 1)
        self.assertEqual(len(self.result(self.tc.history(before=bad.taskid))), 1)
        other = TaskWorldClient(self.world)
        self.assertEqual(self.result(other.tc.history(own=True)), [])
        self.assertEqual(len(self.result(other.tc.history(limit=1))), 1)

    def test_history_says_what_tasks_do(self) -> None:
        done = self.result(self.tc.run(MapTask(note, (1,)), block=True)).taskid
        self.result(self.tc.run(StringTask("\n# \x1b[2J clears\nb = 2"), block=True))
        recovering = StringTask("1/0", recovery_task=StringTask("c = 3"))
        self.result(self.tc.run(recovering, block=True))
        long = StringTask("x" * 70, depend=lambda properties: False)
        waiting = self.result(self.tc.run(long))
        found = self.result(self.tc.history())
        self.assertEqual(
            [each.what for each in found], ["note", "# \x1b[2J clears", "1/0", "x" * 70]
        )
        self.assertIn(r", # \x1b[2J clears, engine", repr(found))
        self.assertIn(f", {'x' * 57}..., submitted", repr(found))
        self.world.pass_time(1.0)
        self.world.kill_controller()
        self.world.repair()
        self.world.pump.run()
        later = {each.taskid: each.what for each in self.result(self.tc.history())}
        self.assertEqual((later[done], later[waiting]), ("", "x" * 70))

    def test_questions_that_make_no_sense(self) -> None:
        for wrong, kind in (
            ({"limit": 0}, ValueError),
            ({"limit": "all"}, TypeError),
            ({"before": -1}, ValueError),
            ({"states": "done"}, ValueError),
            ({"own": 1}, TypeError),
        ):
            self.assertRaises(kind, self.tc.history, **wrong)

    def test_submitting_again(self) -> None:
        large = bytes(taskwire.INLINE + 1)
        for task, value in (
            (MapTask(note, ("again",)), "again"),
            (MapTask(len, (large,)), len(large)),
            (StringTask("a = 1", pull="a"), {"a": 1}),
        ):
            for _ in range(3):  # from the second time on, functions are sent apart
                old = self.result(self.tc.run(task, block=True)).taskid
            new = self.result(self.tc.resubmit(old))
            self.assertGreater(new, old)
            self.assertEqual(self.result(self.tc.get_task_result(new, block=True)).result, value)
        self.assertEqual(RAN["again"], 4)

    def test_submitting_tasks_of_others_again(self) -> None:
        old = self.result(self.tc.run(MapTask(note, (1,)), block=True)).taskid
        other = TaskWorldClient(self.world)
        new = self.result(other.tc.resubmit(old))
        self.assertEqual(self.result(other.tc.get_task_result(new, block=True)).result, 1)
        self.assertRaises(IndexError, self.result, other.tc.resubmit(10**6))
        self.assertRaises(TypeError, self.result, other.tc.resubmit("5"))

    def test_results_of_others_after_a_restart(self) -> None:
        old = self.result(self.tc.run(MapTask(note, (1,)), block=True)).taskid
        self.world.pass_time(1.0)
        self.world.kill_controller()
        self.world.repair()
        self.world.pump.run()
        other = TaskWorldClient(self.world)
        self.assertEqual(self.result(other.tc.get_task_result(old, block=True)).result, 1)
        self.assertEqual([each.taskid for each in self.result(other.tc.history())], [old])

    def test_submitting_again_after_a_restart(self) -> None:
        """What was not done is there; what was done is not, and the error says why."""
        done = self.result(self.tc.run(MapTask(note, (1,)), block=True)).taskid
        waiting = self.result(self.tc.run(MapTask(note, (2,), depend=lambda properties: False)))
        self.world.pass_time(1.0)
        self.world.kill_controller()
        self.world.repair()
        self.world.pump.run()
        problem = self.assertRaises(ClientError, self.result, self.tc.resubmit(done))
        self.assertIn(f"task {done} is done", str(problem))
        self.assertIn("when it is restarted; make the task again", str(problem))
        self.assertGreater(self.result(self.tc.resubmit(waiting)), waiting)

    def test_a_result_of_a_map_can_be_asked_for(self) -> None:
        """It has been read and deleted here; nobody waits for ever."""
        self.assertEqual(self.result(self.tc.map(note, range(3))), [0, 1, 2])
        for number in (0, 1, 2):
            for _ in range(2):
                told = self.result(self.tc.get_task_result(number, block=True))
                self.assertEqual(told.result, [number])
            self.result(self.tc.barrier([number]))
            self.tc._tasks.forget([number])
            self.result(self.tc.barrier([number]))

        async def completed() -> Any:
            return [each.taskid async for each in self.tc.as_completed([0, 1, 2])]

        self.assertEqual(sorted(self.result(Deferred.fromCoroutine(completed()))), [0, 1, 2])

    def test_what_is_not_there_is_said_why(self) -> None:
        done = self.result(self.tc.run(StringTask("a = 1", pull="a"), block=True)).taskid
        self.result(self.tc.clear([done]))
        for ask in (self.tc.get_task_result, self.tc.barrier, self.tc.resubmit):
            problem = self.assertRaises(IndexError, self.result, ask(done))
            self.assertIn("it was cleared", str(problem))
        self.assertEqual(self.result(self.tc.map(note, range(2))), [0, 1])
        self.world.pass_time(2.0)
        first = self.result(self.tc.history())[0].taskid
        problem = self.assertRaises(ClientError, self.result, self.tc.resubmit(first))
        self.assertIn("no longer kept", str(problem))

    def test_a_link_lost_while_a_task_is_fetched(self) -> None:
        old = self.result(self.tc.run(MapTask(len, (bytes(taskwire.INLINE + 1),)), block=True))
        for moment in range(12):
            made = self.tc.resubmit(old.taskid)
            self.world.steps(moment)
            self.client.break_link()
            self.world.pump.run()
            self.world.repair()
            self.assertGreater(self.result(made), old.taskid)

    def test_another_controller(self) -> None:
        """It has none of what waits, which fails with one clear error."""
        for engine in self.world.cluster.engines:
            engine.worker.held = True
        waiting = self.tc.run(MapTask(note, (1,)), block=True)
        self.world.pump.run()
        self.client.break_link()
        self.world.pump.run()
        link, _ = connect_in_memory(self.world.pump, self.client.end, self.client.end)
        self.client.end.attach(link, messages.Welcome(instance="another"))
        self.world.pump.run()
        problem = outcome_of(waiting)
        self.assertIsInstance(problem, ConnectionError)
        self.assertIn("started anew", str(problem))
        self.assertRaises(ConnectionError, self.result, self.tc.run(StringTask("a")))
