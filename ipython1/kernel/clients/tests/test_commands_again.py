"""Commands whose links break, and whose controller dies, at any moment: each runs once, and each call ends well.

Each scenario is played again and again, with the fault one step of the cluster later each time, until it comes after
the end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import CompositeError, EngineDied
from ipython1.kernel.clients.tests.commandworld import World, WorldClient, outcome_of
from ipython1.kernel.controller import commandkeeper, commandstore
from ipython1.kernel.wire import bulk, bulkrelay, frames, payload, spool
from ipython1.testing.memory import MemoryTransport

ARRAY = numpy.arange(160.0)
"""Large, as pieces are small here: more of them than are under way at once."""

COUNT = "count = globals().get('count', 0) + 1"


class WorldCase(SynchronousTestCase):
    keeps = True

    def setUp(self):
        for module in (bulk, bulkrelay, commandstore):
            self.patch(module, "PIECE_SIZE", 256)
        for module in (frames, payload):
            self.patch(module, "MAX_PAYLOAD", 256)
        self.patch(frames, "BATCH_SIZE", 256)
        self.patch(commandkeeper, "INLINE", 128)
        self.begin()

    def begin(self) -> None:
        self.world = World(2, self.keeps)
        self.client: WorldClient = self.world.client()
        self.other: WorldClient = self.world.client()

    @property
    def mec(self) -> Any:
        return self.client.mec

    def namespace(self, engine: int) -> dict[str, Any]:
        return self.world.cluster.engines[engine].interpreter.user_ns

    def check_nothing_left(self) -> None:
        """Neither engines nor the controller nor clients remember anything of what is over."""
        self.world.pass_time(1.0)
        for engine in self.world.cluster.engines:
            memory = engine.end.commands._memory
            self.assertEqual((memory.held, memory.finished), ((), ()))
            self.assertEqual(engine.link.bulk.active, 0)
            self.assertEqual(engine.controller_link.bulk.active, 0)
        for engine in self.world.cluster.controller.engines.values():
            queue = engine.commands._queue
            self.assertFalse(queue or queue._ended or queue._finished_strangers)
            self.assertEqual(engine.commands._takers, {})
        for client in self.world.clients:
            self.assertEqual(client.end.waiting, 0)
            there = self.world.cluster.controller.commands.find(client.end.origin)
            self.assertTrue(there is None or there.is_empty)
            self.assertEqual(0 if there is None else there._outcomes._held, 0)
        if self.keeps:
            self.assertEqual(self.world.journal.disk.commands, {})
            self.assertEqual(self.world.journal.disk.outcomes, {})
            self.assertEqual(self.world.journal.disk.files, {})

    def each_moment(
        self,
        call: Callable[[], Deferred[Any]],
        fault: Callable[[], None],
        check: Callable[[Any], None],
    ) -> None:
        """``fault`` after every number of steps that ``call`` takes; ``check`` gets the result or the exception."""
        moment = 0
        before_the_end = True
        while before_the_end:
            self.begin()
            made = call()
            before_the_end = self.world.steps(moment)
            fault()
            self.world.pump.run()
            self.world.repair()
            self.world.pump.run()
            self.world.pass_time(0.5)
            ended = outcome_of(made)
            self.assertIsNotNone(ended, f"after {moment} steps the call waits")
            if isinstance(ended, BaseException):
                raise ended
            check(ended)
            self.check_nothing_left()
            moment += 1
        self.assertGreater(moment, 5)


class EachMoment:
    """The scenarios; those who inherit say what breaks."""

    def fault(self) -> None:
        raise NotImplementedError

    def test_execute(self):
        def check(results):
            self.assertEqual(len(results), 2)
            self.assertEqual([self.namespace(engine)["count"] for engine in (0, 1)], [1, 1])

        self.each_moment(lambda: self.mec.execute(COUNT), self.fault, check)

    def test_execute_without_waiting(self):
        async def run():
            pending = await self.mec.execute(COUNT, block=False)
            return await pending.r

        def check(results):
            self.assertEqual(len(results), 2)
            self.assertEqual([self.namespace(engine)["count"] for engine in (0, 1)], [1, 1])

        self.each_moment(lambda: Deferred.fromCoroutine(run()), self.fault, check)

    def test_many_in_order(self):
        async def run():
            results = []
            made = [self.mec.execute("trail = []", targets=0)]
            for number in range(3):
                code = f"trail.append({number})"
                block = number == 1
                made.append(self.mec.execute(code, targets=0, block=block))
            for each in made:
                result = await each
                results.append(await result.r if hasattr(result, "r") else result)
            return results

        def check(results):
            self.assertEqual(len(results), 4)
            self.assertEqual(self.namespace(0)["trail"], [0, 1, 2])

        self.each_moment(lambda: Deferred.fromCoroutine(run()), self.fault, check)

    def check_arrays(self, result: Any) -> None:
        for engine in (0, 1):
            numpy.testing.assert_array_equal(self.namespace(engine)["a"], ARRAY)

    def test_push_of_large_data(self):
        self.each_moment(lambda: self.mec.push({"a": ARRAY}), self.fault, self.check_arrays)

    def test_push_of_large_data_without_waiting(self):
        async def run():
            pending = await self.mec.push({"a": ARRAY}, block=False)
            return await pending.r

        self.each_moment(lambda: Deferred.fromCoroutine(run()), self.fault, self.check_arrays)

    def pull(self, block: bool) -> Deferred[Any]:
        async def run():
            result = await self.mec.pull("a", block=block)
            return result if block else await result.r

        for engine in (0, 1):
            self.namespace(engine)["a"] = ARRAY
        return Deferred.fromCoroutine(run())

    def check_pulled(self, result: Any) -> None:
        numpy.testing.assert_array_equal(result, [ARRAY, ARRAY])

    def test_pull_of_large_data(self):
        self.each_moment(lambda: self.pull(True), self.fault, self.check_pulled)

    def test_pull_of_large_data_without_waiting(self):
        self.each_moment(lambda: self.pull(False), self.fault, self.check_pulled)

    def test_map(self):
        def check(result):
            self.assertEqual(result, [float(x) ** 2 for x in range(20)])

        self.each_moment(
            lambda: self.mec.map(lambda x: float(x) ** 2, range(20)), self.fault, check
        )


class EngineLinkTests(EachMoment, WorldCase):
    def fault(self) -> None:
        self.world.break_engine(0)


class ClientLinkTests(EachMoment, WorldCase):
    def fault(self) -> None:
        self.client.break_link()


class AllLinksTests(EachMoment, WorldCase):
    def fault(self) -> None:
        self.world.break_engine(0)
        self.client.break_link()
        self.world.break_engine(1)


class ControllerTests(EachMoment, WorldCase):
    def fault(self) -> None:
        self.world.kill_controller()


class NoJournalLinkTests(EachMoment, WorldCase):
    keeps = False

    def fault(self) -> None:
        self.world.break_engine(0)
        self.client.break_link()


class FullSpoolTests(EachMoment, WorldCase):
    """For a while the controller can keep nothing more for those who are slow, as its journal is."""

    def begin(self) -> None:
        self.patch(spool, "PIECE_SIZE", 256)
        self.patch(spool, "RESERVE", 4 * 256)
        super().begin()
        self.world.pump.run()
        self.spool = self.world.pump.flusher.spool
        self.spool._memory, self.spool._most = 8 * 256, 0
        self.world.journal.at_once = False

    def fault(self) -> None:
        kept = []
        with contextlib.suppress(spool.SpoolFull):
            while True:
                kept.append(self.spool.put(bytes(256)))
        self.world.pump.run()
        for each in kept:
            self.spool.free(each)
        self.world.journal.at_once = True
        self.world.journal.commit()


class FullSpoolSlowClientTests(FullSpoolTests):
    """The same, as its client is slow."""

    def begin(self) -> None:
        super().begin()
        there = MemoryTransport.of(self.client.link).other
        self.wire = MemoryTransport.of(there)
        self.wire.stop_reading()

    def fault(self) -> None:
        super().fault()
        self.wire.read_on()


class WarningTests(WorldCase):
    """A client is told what is wrong with the controller, also when it comes or comes back."""

    def watch(self, client: WorldClient) -> list[list[str]]:
        told: list[list[str]] = []
        client.mec.on_warnings(told.append)
        return told

    def test_a_full_disk(self):
        told = self.watch(self.client)
        self.world.journal.troubled("disk full (in /there)")
        self.world.pump.run()
        nothing, [line] = told
        self.assertEqual(nothing, [])
        self.assertIn("journal cannot be written: disk full (in /there)", line)
        self.assertEqual(self.watch(self.world.client()), [[line]])
        self.client.break_link()
        self.world.journal.troubled("")
        self.world.pump.run()
        self.world.repair()
        self.world.pump.run()
        self.assertEqual(told, [[], [line], []])


class OrphanTests(WorldCase):
    """Commands of which a new controller knows only what their engines say."""

    def orphan(self, *faults: Callable[[], None]) -> Deferred[Any]:
        """Have engine 0 busy with a blocking call when the controller dies; its client is not back."""
        self.world.cluster.engines[0].worker.held = True
        call = self.mec.execute(COUNT, targets=0)
        self.world.pump.run()
        self.world.kill_controller()
        for engine in self.world.cluster.engines:
            engine.register()
        self.other.connect()
        self.world.pump.run()
        return call

    def status(self) -> Any:
        return dict(self.world.settle(self.other.mec.queue_status()))[0]

    def test_the_queue_shows_it_and_nothing_else_is_sent(self):
        call = self.orphan()
        later = self.other.mec.execute("count = 'later'", targets=0)
        self.world.pump.run()
        self.assertIn("has not come back", self.status()["pending"])
        self.assertEqual(self.status()["queue"], ["execute(\"count = 'later'\")"])
        self.assertEqual(len(self.world.cluster.engines[0].worker._queue), 1)
        self.world.cluster.engines[0].worker.release()
        self.assertEqual(len(self.world.settle(later)), 1)
        self.assertIsNone(outcome_of(call))
        self.client.connect()
        self.world.pump.run()
        self.assertEqual(len(outcome_of(call)), 1)
        self.assertEqual(self.namespace(0)["count"], "later")
        self.check_nothing_left()

    def test_it_can_be_interrupted(self):
        call = self.orphan()
        interrupting = self.other.mec.interrupt(targets=0)
        self.world.pass_time(0.2)
        ((engine_id, told),) = outcome_of(interrupting)
        self.assertEqual((engine_id, told["ended"]), (0, True))
        self.assertIn("has not come back", told["pending"])
        self.assertEqual(self.status(), {"pending": None, "queue": []})
        self.client.connect()
        self.world.pump.run()
        self.assertIn("KeyboardInterrupt", str(outcome_of(call)))

    def test_its_client_finds_it_running(self):
        call = self.orphan()
        self.client.connect()
        self.world.pump.run()
        self.assertEqual(self.status()["pending"], f"execute({COUNT!r})")
        self.world.cluster.engines[0].worker.release()
        self.assertEqual(len(self.world.settle(call)), 1)
        self.assertEqual(self.namespace(0)["count"], 1)
        self.check_nothing_left()

    def test_its_client_can_abort_it_before_it_is_back(self):
        call = self.orphan()
        call.cancel()
        outcome_of(call)
        self.client.connect()
        self.world.pass_time(0.2)
        self.assertEqual(self.status(), {"pending": None, "queue": []})
        self.check_nothing_left()

    def test_nobody_waits_for_its_outcome_once_its_client_is_gone(self):
        call = self.orphan()
        self.world.cluster.engines[0].worker.release()
        self.world.pump.run()
        self.world.cluster.controller.clients.goodbye(self.client.hello.uuid, "it ended")
        self.client.end.give_up("it ended")
        self.assertIsInstance(outcome_of(call), ConnectionError)
        self.check_nothing_left()


class CalledOffTests(WorldCase):
    """Commands that are taken back or aborted while a new controller does not know yet how far they are."""

    def blocked(self, *calls: Callable[[], Deferred[Any]]) -> list[Deferred[Any]]:
        """The calls, of which engine 0 has begun the first, when the controller dies."""
        self.world.cluster.engines[0].worker.held = True
        made = [call() for call in calls]
        self.world.pump.run()
        self.world.kill_controller()
        return made

    def register(self) -> None:
        for engine in self.world.cluster.engines:
            engine.register()

    def release(self) -> None:
        self.world.cluster.engines[0].worker.release()
        self.world.pass_time(0.5)

    def take_back(self, *numbers: int) -> None:
        for number in numbers:
            self.client.end.ask("withdraw", number=number).addErrback(lambda failure: None)

    def count_twice(self) -> list[Deferred[Any]]:
        def count() -> Deferred[Any]:
            return self.mec.execute(COUNT, targets=0)

        return self.blocked(count, count)

    def check_second_was_taken_back(self, first: Deferred[Any], second: Deferred[Any]) -> None:
        self.release()
        self.assertEqual(self.namespace(0)["count"], 1)
        self.assertEqual(len(outcome_of(first)), 1)
        self.assertIn("it was taken back", str(outcome_of(second)))
        self.check_nothing_left()

    def test_what_has_begun_is_not_taken_back(self):
        first, second = self.count_twice()
        self.register()
        self.client.connect()
        self.take_back(*self.client.end._commands._commands)
        self.world.pump.run()
        self.check_second_was_taken_back(first, second)

    def test_nor_before_its_engine_is_back(self):
        first, second = self.count_twice()
        self.client.connect()
        self.take_back(*self.client.end._commands._commands)
        self.world.pump.run()
        self.assertIsNone(outcome_of(first))
        self.register()
        self.world.pump.run()
        self.check_second_was_taken_back(first, second)

    def test_what_has_ended_is_not_taken_back(self):
        first, second = self.count_twice()
        self.world.cluster.engines[0].worker.release()
        self.register()
        self.client.connect()
        self.take_back(*self.client.end._commands._commands)
        self.check_second_was_taken_back(first, second)


class GoneClientTests(WorldCase):
    """Clients that do not come back."""

    def hold(self) -> None:
        for engine in self.world.cluster.engines:
            engine.worker.held = True

    def release(self) -> None:
        for engine in self.world.cluster.engines:
            engine.worker.release()
        self.world.pass_time(0.5)

    def test_calls_that_waited_do_not_begin(self):
        self.hold()
        calls = [self.mec.execute(COUNT) for _ in range(3)]
        self.world.pump.run()
        self.client.die()
        self.release()
        self.assertEqual(self.namespace(0)["count"], 1)
        for call in calls:
            self.assertIsInstance(outcome_of(call), ConnectionError)
        self.check_nothing_left()

    def test_calls_that_did_not_wait_are_done_and_their_outcomes_kept(self):
        self.hold()
        for _ in range(3):
            self.mec.execute(COUNT, block=False)
        self.mec.push({"a": ARRAY}, block=False)
        self.mec.pull("a", block=False)
        self.world.pump.run()
        self.client.die()
        self.release()
        self.assertEqual(self.namespace(1)["count"], 3)
        numpy.testing.assert_array_equal(self.namespace(1)["a"], ARRAY)
        disk = self.world.journal.disk
        self.assertEqual((len(disk.outcomes), len(disk.over), disk.commands), (10, 5, {}))
        for engine in self.world.cluster.engines:
            self.assertEqual(engine.end.commands._memory.finished, ())

    def test_they_are_done_by_a_controller_that_starts_again(self):
        self.hold()
        for _ in range(3):
            self.mec.execute(COUNT, block=False)
        self.mec.push({"a": ARRAY}, block=False)
        self.world.pump.run()
        self.client.die()
        self.world.kill_controller()
        self.world.repair()
        self.release()
        self.assertEqual(self.namespace(1)["count"], 3)
        numpy.testing.assert_array_equal(self.namespace(1)["a"], ARRAY)
        self.assertEqual(len(self.world.journal.disk.outcomes), 8)

    def test_what_was_not_acknowledged_was_never_submitted(self):
        self.hold()
        self.mec.execute(COUNT, block=False)
        self.world.pump.run()
        call = self.mec.push({"a": ARRAY}, block=False)
        self.world.steps(8)  # not all of it comes
        self.client.die()
        self.release()
        self.assertIsInstance(outcome_of(call), ConnectionError)
        self.assertNotIn("a", self.namespace(0))
        self.assertEqual(self.namespace(0)["count"], 1)
        self.assertEqual(len(self.world.journal.disk.over), 1)


class HeldTests(WorldCase):
    """After a restart nothing of a client goes out before it has said what it still has."""

    def test_no_engine_gets_again_what_its_client_has_the_outcome_of(self):
        """It would wait there for data that the client does not have any more, and hold back all that comes later."""
        engines = self.world.cluster.engines
        engines[0].worker.held = True
        call = self.mec.execute(f"x = 1  # {'-' * 300_000}", targets=[0, 1])
        self.world.pump.run()
        self.assertEqual(self.namespace(1)["x"], 1)
        self.world.kill_controller()
        self.client.connect()
        engines[0].register()
        engines[0].worker.release()
        self.world.pump.run()
        self.assertEqual(len(outcome_of(call)), 2)
        engines[1].register()
        later = self.mec.execute("x += 1", targets=1)
        self.world.pump.run()
        self.assertEqual(len(outcome_of(later)), 1)
        self.assertEqual(self.namespace(1)["x"], 2)
        self.check_nothing_left()

    def test_a_journalled_command_never_overtakes_one_that_is_sent_again(self):
        for engine in self.world.cluster.engines:
            engine.worker.held = True
        blocked = self.other.mec.execute("trail = []", targets=0)
        self.world.pump.run()
        first = self.mec.execute("trail.append(1)", targets=0)
        second = self.mec.execute("trail.append(2)", targets=0, block=False)
        third = self.mec.execute("trail.append(3)", targets=0)
        self.world.pump.run()
        self.world.kill_controller()
        for engine in self.world.cluster.engines:
            engine.register()
            engine.worker.release()
        self.other.connect()
        self.world.pump.run()
        self.assertEqual(len(outcome_of(blocked)), 1)
        self.assertEqual(self.namespace(0)["trail"], [])
        self.client.connect()
        self.world.pump.run()
        self.assertEqual(self.namespace(0)["trail"], [1, 2, 3])
        for call in (first, third):
            self.assertEqual(len(outcome_of(call)), 1)
        self.assertEqual(len(self.world.settle(outcome_of(second).r)), 1)
        self.check_nothing_left()


class OvertakenTests(WorldCase):
    """A call is refused, later ones go out, and the controller dies before the client hears of the refusal."""

    def setUp(self):
        super().setUp()
        self.world.settle(self.mec.execute("trail = []"))
        self.world.cluster.engines.pop(1).kill()
        self.world.pass_time(11.0)
        self.assertEqual(self.client.end.ids, {0})

    def stop_hearing(self) -> None:
        there = MemoryTransport.of(self.client.link).other
        MemoryTransport.of(there).stop_reading()

    def restart(self) -> None:
        self.world.pump.run()
        self.world.kill_controller()
        self.world.repair()
        self.world.pump.run()

    def problems(self, call: Deferred[Any]) -> dict[int, Exception]:
        """What a call failed with, by engine."""
        problem = outcome_of(call)
        self.assertIsInstance(problem, CompositeError)
        return dict(zip(problem.engine_ids, problem.exceptions, strict=True))

    def later(self, block: bool) -> None:
        self.stop_hearing()
        first = self.mec.execute("trail.append(1)", targets=[0, 1])
        second = self.mec.execute("trail.append(2)", targets=0, block=block)
        self.restart()
        result = outcome_of(second)
        self.assertEqual(len(result if block else self.world.settle(result.r)), 1)
        self.assertEqual(self.namespace(0)["trail"], [2])
        problems = self.problems(first)
        self.assertEqual(sorted(problems), [0, 1])
        self.assertIn("the call did not run on this engine, and later ones", str(problems[0]))
        self.assertIsInstance(problems[1], EngineDied)
        self.world.settle(self.mec.execute("trail.append(3)", targets=0))
        self.assertEqual(self.namespace(0)["trail"], [2, 3])
        self.check_nothing_left()

    def test_by_calls_that_wait(self):
        self.later(block=True)

    def test_by_calls_that_are_in_the_journal(self):
        self.later(block=False)

    def test_one_that_no_later_call_came_before_runs(self):
        self.stop_hearing()
        first = self.mec.execute("trail.append(1)", targets=[0, 1])
        self.restart()
        self.assertEqual(list(self.problems(first)), [1])
        self.assertEqual(self.namespace(0)["trail"], [1])
        self.check_nothing_left()
