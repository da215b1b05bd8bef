"""The asynchronous client: the same methods with Deferreds, in Twisted and in asyncio."""

from __future__ import annotations

import asyncio
import gc
import inspect
import weakref

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ipython1.kernel import asynclient
from ipython1.kernel.basics.error import (
    ClientError,
    CompositeError,
    ConnectionError,
    InvalidDeferredID,
    InvalidEngineID,
    NotAPendingResult,
)
from ipython1.kernel.calls.mapper import IMultiEngineMapperFactory
from ipython1.kernel.calls.parallelfunction import IMultiEngineParallelDecorator
from ipython1.kernel.clients import asyncclient
from ipython1.kernel.clients.multiengineclient import MultiEngineClient
from ipython1.kernel.tests.wiresupport import run_program
from ipython1.testing import InMemoryCluster

METHODS = (
    "get_ids",
    "execute",
    "push",
    "pull",
    "zip_pull",
    "push_function",
    "pull_function",
    "scatter",
    "gather",
    "apply",
    "map",
    "mapper",
    "raw_map",
    "parallel",
    "run",
    "get_result",
    "keys",
    "reset",
    "kill",
    "queue_status",
    "clear_queue",
    "flush",
    "barrier",
    "set_properties",
    "get_properties",
    "has_properties",
    "del_properties",
    "clear_properties",
    "push_serialized",
    "pull_serialized",
    "interrupt",
    "close",
)


class AsyncClientCase(SynchronousTestCase):
    def setUp(self):
        self.cluster = InMemoryCluster(2)
        self.mec = self.cluster.async_multiengine()

    def result(self, deferred):
        self.cluster.pump.run()
        return self.successResultOf(deferred)

    def problem(self, deferred, *kinds):
        self.cluster.pump.run()
        return self.failureResultOf(deferred, *kinds).value


class MethodsTest(AsyncClientCase):
    def test_every_method_of_the_blocking_client_is_there_with_the_same_arguments(self):
        for name in METHODS:
            blocking = set(inspect.signature(getattr(MultiEngineClient, name)).parameters)
            twin = set(inspect.signature(getattr(self.mec, name)).parameters) | {"self"}
            only_for_those_who_wait = {"timeout"} if name == "barrier" else set()
            self.assertEqual(blocking - twin, only_for_those_who_wait, name)
        self.assertTrue(verifyObject(IMultiEngineMapperFactory, self.mec))
        self.assertTrue(verifyObject(IMultiEngineParallelDecorator, self.mec))

    def test_calls_give_deferreds_of_results(self):
        self.assertEqual(self.result(self.mec.get_ids()), [0, 1])
        self.assertEqual(self.result(self.mec.push({"a": 1})), [None, None])
        self.assertEqual(self.result(self.mec.pull("a")), [1, 1])
        self.assertEqual(self.result(self.mec.apply(max, 3, 4)), [4, 4])
        self.assertEqual(self.result(self.mec.map(abs, [-1, -2, 3])), [1, 2, 3])
        self.assertEqual(self.result(self.mec.mapper(dist="r").map(abs, [-1, -2])), [1, 2])
        self.assertEqual(self.result(self.mec.parallel()(abs)([-5])), [5])
        status = self.result(self.mec.queue_status())
        self.assertEqual(
            status, [(0, {"pending": None, "queue": []}), (1, {"pending": None, "queue": []})]
        )
        self.assertIsNone(self.result(self.mec.clear_queue()))

    def test_bad_arguments_raise_at_once(self):
        self.assertRaises(TypeError, self.mec.execute, 5)
        self.assertRaises(TypeError, self.mec.execute, "a", targets="x")
        self.assertRaises(InvalidEngineID, self.mec.execute, "a", targets=[])
        self.assertRaises(InvalidEngineID, self.mec.push, {"a": 1}, targets=[0, 0])
        self.problem(self.mec.execute("a", targets=9), InvalidEngineID)

    def test_failures(self):
        error = self.problem(self.mec.execute("1/0"), CompositeError)
        self.assertEqual(error.engine_ids, [0, 1])

    def test_calls_of_one_client_keep_their_order(self):
        made = [
            self.mec.scatter("x", range(4)),
            self.mec.execute("y = sum(x)"),
            self.mec.pull("y"),
            self.mec.reset(),
            self.mec.keys(),
        ]
        self.cluster.pump.run()
        self.assertEqual(self.successResultOf(made[2]), [1, 5])
        self.assertEqual(self.successResultOf(made[4]), [[], []])

    def test_coroutines_of_twisted(self):
        async def work():
            await self.mec.push({"a": 5})
            first = (await self.mec.pull("a"))[0]
            try:
                await self.mec.execute("1/0", targets=0)
            except CompositeError as error:
                return first, error.engine_ids
            return None

        self.assertEqual(self.result(Deferred.fromCoroutine(work())), (5, [0]))

    def test_a_loop_that_the_reactor_does_not_run_on_is_refused(self):
        """It would wait for ever."""

        async def connect(get_client):
            await get_client("nothing")

        for get_client in (asyncclient.get_multiengine_client, asyncclient.get_task_client):
            with self.assertRaisesRegex(ClientError, "asyncioreactor.install"):
                asyncio.run(connect(get_client))

    def test_both_spellings_of_the_module(self):
        self.assertIs(asynclient.get_multiengine_client, asyncclient.get_multiengine_client)
        self.assertIs(asynclient.get_task_client, asyncclient.get_task_client)


class PendingTest(AsyncClientCase):
    def start(self, lines="a = 1", **options):
        pending = self.result(self.mec.execute(lines, block=False, **options))
        self.assertIsInstance(pending, asyncclient.AsyncPendingResult)
        return pending

    def hold(self):
        for engine in self.cluster.engines:
            engine.worker.held = True

    def release(self):
        for engine in self.cluster.engines:
            engine.worker.release()
        self.cluster.pump.run()

    def test_it_fires_when_the_call_is_queued(self):
        self.hold()
        pending = self.start()
        self.assertEqual(
            (pending.engine_ids, pending.ready, pending.progress), ([0, 1], False, (0, 2))
        )
        waiting = pending.r
        self.assertNoResult(waiting)
        self.assertIsNone(self.result(pending.get_result(block=False)))
        self.assertEqual(self.result(pending.get_result("not yet", block=False)), "not yet")
        self.cluster.engines[0].worker.release()
        self.cluster.pump.run()
        self.assertEqual(pending.progress, (1, 2))
        self.release()
        self.assertEqual([each["id"] for each in self.successResultOf(waiting)], [0, 1])
        self.assertTrue(pending.ready)

    def next_of(self, values):
        return Deferred.fromCoroutine(values.__anext__())

    def test_elements_come_in_order_and_as_completed(self):
        self.hold()
        pending = self.result(self.mec.map(lambda x: 12 // x, [1, 2, 0, 4], block=False))
        ordered, completed = aiter(pending), pending.as_completed(numbered=True)
        self.assertEqual(len(pending), 4)
        first, soonest = self.next_of(ordered), self.next_of(completed)
        by_engine = pending.get_dict()
        self.cluster.engines[1].worker.release()
        self.cluster.pump.run()
        self.assertNoResult(first)
        self.failureResultOf(soonest, ZeroDivisionError)
        self.assertEqual(self.successResultOf(self.next_of(completed)), (3, 3))
        soonest = self.next_of(completed)
        self.assertNoResult(soonest)
        self.release()
        self.assertEqual(self.successResultOf(soonest), (0, 12))
        self.assertEqual(self.successResultOf(self.next_of(completed)), (1, 6))
        self.failureResultOf(self.next_of(completed), StopAsyncIteration)
        self.assertEqual(self.successResultOf(first), 12)
        self.assertEqual(self.successResultOf(self.next_of(ordered)), 6)
        self.failureResultOf(self.next_of(ordered), ZeroDivisionError)
        self.assertEqual(self.successResultOf(self.next_of(ordered)), 3)
        self.failureResultOf(self.next_of(ordered), StopAsyncIteration)
        self.failureResultOf(by_engine, CompositeError)

    def test_an_element_that_would_end_the_loop_does_not(self):
        pending = self.result(self.mec.execute("raise StopAsyncIteration", block=False))
        failure = self.failureResultOf(self.next_of(aiter(pending)), RuntimeError)
        self.assertIsInstance(failure.value.__cause__, StopAsyncIteration)

    def test_elements_by_engine_and_of_a_whole_result(self):
        self.result(self.mec.scatter("a", [1, 2, 3, 4]))
        pending = self.result(self.mec.pull("a", block=False))
        self.assertEqual(self.result(pending.get_dict()), {0: [1, 2], 1: [3, 4]})
        pending = self.result(self.mec.gather("a", block=False))
        self.assertTrue(pending)
        self.assertRaisesRegex(TypeError, "await get_result", len, pending)
        self.assertEqual(self.result(self.all_of(pending)), [1, 2, 3, 4])

    async def all_of(self, pending):
        return [each async for each in pending]

    def test_an_iterator_gets_what_ended_the_call(self):
        self.hold()
        pending = self.start()
        value = self.next_of(aiter(pending))
        pending.abort()
        self.cluster.pump.run()
        self.failureResultOf(value, CompositeError)
        pending = self.start()
        value = self.next_of(aiter(pending))
        self.mec.flush()
        self.release()
        self.failureResultOf(value, InvalidDeferredID)
        self.hold()
        values = aiter(self.start())
        value = self.next_of(values)
        self.mec._connection.end.give_up("it was stopped")
        self.failureResultOf(value, ConnectionError)
        self.failureResultOf(self.next_of(values), StopAsyncIteration)

    def test_it_can_be_asked_again_and_gives_the_same(self):
        pending = self.result(self.mec.pull("a", block=False))
        first, second = self.problem(pending.r), self.problem(pending.r)
        self.assertIs(first, second)
        self.result(self.mec.push({"a": [1]}))
        pending = self.result(self.mec.pull("a", block=False))
        self.assertIs(self.result(pending.r), self.result(pending.get_result()))

    def test_callbacks_hear_of_results_and_of_errors(self):
        self.hold()
        heard = []
        good, bad = self.start(), self.start("1/0")
        good.add_callback(
            lambda value, *args, **kwargs: heard.append((len(value), args, kwargs)), 1, k=2
        )
        bad.add_callback(heard.append)
        self.release()
        good.add_callback(lambda value: heard.append("again"))
        self.assertEqual(heard[0], (2, (1,), {"k": 2}))
        self.assertIsInstance(heard[1], CompositeError)
        self.assertEqual(heard[2:], ["again"])

    def test_a_refused_call_gives_no_pending_result(self):
        self.problem(self.mec.execute("a", targets=9, block=False), InvalidEngineID)

    def test_barrier_waits_for_all_and_reads_none(self):
        self.hold()
        good, bad = self.start(), self.start("1/0")
        done = self.mec.barrier([good, bad])
        self.assertNoResult(done)
        self.release()
        self.assertIsNone(self.successResultOf(done))
        self.assertIsNone(self.result(self.mec.barrier(good)))
        self.assertIsNone(self.result(self.mec.barrier([])))
        self.result(self.mec.flush())
        self.problem(good.r, InvalidDeferredID)
        for wrong in (5, [good, "x"], None):
            self.assertRaises((TypeError, NotAPendingResult), self.mec.barrier, wrong)

    def test_flush_drops_what_was_not_read(self):
        read, unread = self.start(), self.start("1/0")
        self.result(read.r)
        self.hold()
        unfinished = self.start()
        waiting = unfinished.r
        self.result(self.mec.flush())
        self.result(read.r)
        self.problem(unread.r, InvalidDeferredID)
        self.problem(waiting, InvalidDeferredID)
        self.problem(unfinished.r, InvalidDeferredID)
        self.problem(unfinished.get_result(block=False), InvalidDeferredID)
        self.release()
        self.problem(unfinished.r, InvalidDeferredID)

    def test_results_that_nobody_holds_are_not_kept(self):
        pending = self.start()
        self.cluster.pump.run()
        reference = weakref.ref(pending)
        del pending
        gc.collect()
        self.assertIsNone(reference())

    def test_abort(self):
        self.hold()
        running, waiting = self.start(), self.start()
        waiting.abort()
        running.abort()
        names = [type(each).__name__ for each in self.problem(waiting.r, CompositeError).exceptions]
        self.assertEqual(names, ["QueueCleared"] * 2)
        names = [type(each).__name__ for each in self.problem(running.r, CompositeError).exceptions]
        self.assertEqual(names, ["KeyboardInterrupt"] * 2)

    def test_cancelling_a_call_ends_it_and_no_other(self):
        self.hold()
        running = self.mec.execute("a = 1")
        waiting = self.mec.execute("a = 2")
        last = self.mec.execute("b = 3")
        self.cluster.pump.run()
        waiting.cancel()
        running.cancel()
        for cancelled in (waiting, running):
            self.failureResultOf(cancelled, CancelledError)
        self.cluster.pump.run()
        for engine in self.cluster.engines:
            engine.worker.release()
        self.assertEqual(len(self.result(last)), 2)
        self.assertEqual(self.result(self.mec.keys()), [["b"]] * 2)

    def test_giving_up_a_result_that_others_may_have_ends_nothing(self):
        self.hold()
        pending = self.start()
        waiting = pending.get_result()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        for engine in self.cluster.engines:
            engine.worker.release()
        self.assertEqual(len(self.result(pending.r)), 2)


class LossTest(AsyncClientCase):
    def test_everything_fails_when_the_controller_is_lost_and_nothing_waits(self):
        for engine in self.cluster.engines:
            engine.worker.held = True
        reasons = []
        self.mec.on_connection_lost(reasons.append)
        pending = self.result(self.mec.execute("a", block=False))
        waiting = [
            pending.r,
            self.mec.execute("b = 1"),
            self.mec.push({"big": bytes(10**6)}),
            self.mec.scatter("x", range(4)),
            self.mec.map(abs, range(4)),
            self.mec.queue_status(),
            self.mec.barrier([pending]),
        ]
        self.mec._connection.end.link.abort("the controller is gone")
        for deferred in waiting[:-1]:
            error = self.failureResultOf(deferred, ConnectionError).value
            self.assertIn("the controller is gone", str(error))
        self.successResultOf(waiting[-1])
        self.assertEqual(reasons, ["the controller is gone"])
        for call in (
            self.mec.get_ids,
            lambda: self.mec.execute("a"),
            lambda: self.mec.scatter("x", [1]),
        ):
            self.failureResultOf(call(), ConnectionError)
        self.failureResultOf(self.mec.execute("a", block=False), ConnectionError)
        self.result(self.mec.close())
        self.assertEqual(len(reasons), 1)

    def test_closing(self):
        self.result(self.mec.close())
        self.result(self.mec.close())
        error = self.failureResultOf(self.mec.execute("a = 1"), ConnectionError).value
        self.assertIn("closed", str(error))

    def test_engines_that_come_and_go_are_told(self):
        seen = []
        self.mec.on_engines_changed(lambda ids: 1 / 0)
        self.mec.on_engines_changed(seen.append)
        self.cluster.engines[0].kill()
        self.cluster.pump.run()
        self.cluster.add_engine()
        self.cluster.pump.run()
        self.assertEqual(seen, [[1], [1, 2]])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.assertEqual(self.result(self.mec.get_ids()), [1, 2])


class AsyncioTest(SynchronousTestCase):
    def test_under_asyncio(self):
        run_program(
            """
            import asyncio
            from twisted.internet import asyncioreactor
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            asyncioreactor.install(loop)
            from twisted.internet.defer import Deferred, ensureDeferred
            from ipython1.kernel.basics.error import CompositeError, InvalidEngineID
            from ipython1.testing import InMemoryCluster, ReactorPump

            async def twisted_way(mec):
                await mec.push({"t": 1})
                return await mec.pull("t")

            async def main():
                cluster = InMemoryCluster(3, ReactorPump())
                mec = cluster.async_multiengine()
                assert await mec.get_ids() == [0, 1, 2]
                assert await mec.push({"a": 1}) == [None] * 3
                first, second = await asyncio.gather(mec.pull("a"), mec.map(abs, [-1, 2]))
                assert (first, second) == ([1, 1, 1], [1, 2]), (first, second)
                pending = await mec.execute("b = a", block=False)
                assert len(await pending.r) == 3
                for call, kind in ((mec.execute("1/0"), CompositeError), (mec.pull("a", targets=9), InvalidEngineID)):
                    try:
                        await call
                    except kind:
                        pass
                    else:
                        raise AssertionError(kind)
                # What the loop or a coroutine would take as a signal of its own.
                async def stopped():
                    await mec.pull("a", targets=0).addCallback(lambda found: next(iter(())))

                for way in (stopped(), Deferred.fromCoroutine(stopped()).asFuture(loop)):
                    try:
                        await way
                    except RuntimeError as problem:
                        assert isinstance(problem.__cause__, StopIteration), problem
                    else:
                        raise AssertionError("an await swallowed StopIteration")
                # Coroutines of Twisted that are begun inside of one of asyncio's.
                assert await Deferred.fromCoroutine(twisted_way(mec)).asFuture(loop) == [1] * 3
                assert await ensureDeferred(twisted_way(mec)).asFuture(loop) == [1] * 3
                # A task of asyncio that gives up does not disturb the others.
                for engine in cluster.engines:
                    engine.worker.held = True
                try:
                    async with asyncio.timeout(0.05):
                        await mec.execute("c = 1")
                except TimeoutError:
                    pass
                for engine in cluster.engines:
                    engine.worker.release()
                assert await mec.pull("a") == [1] * 3
                await mec.close()
                print("done")

            loop.run_until_complete(asyncio.wait_for(main(), 30))
            """
        )
