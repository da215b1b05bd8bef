"""The in-memory cluster does what the documentation promises."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ipython1.kernel.basics.engineinterfaces import IEngineBase
from ipython1.kernel.basics.error import CompositeError, EngineDied, InvalidDeferredID
from ipython1.kernel.calls.mapper import IMultiEngineMapperFactory
from ipython1.kernel.calls.parallelfunction import IMultiEngineParallelDecorator
from ipython1.kernel.controller.queuedengine import IEngineQueued
from ipython1.kernel.wire import frames
from ipython1.testing import InMemoryCluster, Pump


class InMemoryClusterTest(SynchronousTestCase):
    def setUp(self):
        self.cluster = InMemoryCluster(2)
        self.mec = self.cluster.multiengine()

    def test_calls_return_results(self):
        self.assertEqual(self.mec.get_ids(), [0, 1])
        self.assertEqual(self.mec.push({"a": 1}), [None, None])
        self.assertEqual(self.mec.pull("a"), [1, 1])
        self.mec["b"] = [2]
        self.assertEqual(self.mec["b"], [[2], [2]])
        self.assertEqual(self.mec.execute("print(a)")[0]["stdout"], "1\n")
        self.assertEqual(self.mec.map(abs, [-1, 2, -3]), [1, 2, 3])
        self.assertEqual(self.mec.mapper(dist="r").map(abs, [-1, 2, -3]), [1, 2, 3])
        self.assertEqual(self.mec.parallel()(abs)([-1]), [1])

    def test_it_provides_the_interfaces_of_the_real_thing(self):
        self.assertTrue(verifyObject(IMultiEngineMapperFactory, self.mec))
        self.assertTrue(verifyObject(IMultiEngineParallelDecorator, self.mec))
        self.assertTrue(verifyObject(IEngineBase, self.cluster.engines[0]._service))
        self.assertTrue(verifyObject(IEngineQueued, self.cluster.controller.engines[0]))
        self.assertTrue(verifyObject(IReactorTime, self.cluster.pump))

    def test_targets_and_block_are_the_clients(self):
        self.mec.targets = 1
        self.assertEqual(self.mec.push({"a": 1}), [None])
        self.assertEqual(self.cluster.multiengine().targets, "all")
        self.mec.block = False
        pending = self.mec.pull("a")
        self.assertEqual((pending.ready, pending.progress, pending.r), (True, (1, 1), [1]))

    def test_engines_have_namespaces_of_their_own(self):
        self.mec.push({"a": "zero"}, targets=0)
        self.mec.push({"a": "one"}, targets=1)
        self.assertEqual(self.cluster.engines[0].interpreter.user_ns["a"], "zero")
        self.assertEqual(self.mec.pull("a"), ["zero", "one"])

    def test_an_engine_can_be_busy(self):
        worker = self.cluster.engines[0].worker
        worker.held = True
        self.assertRaises(TimeoutError, self.mec.execute, "a = 1")
        pending = self.mec.execute("b = 1", block=False)
        self.assertEqual((pending.ready, pending.progress), (False, (1, 2)))
        self.assertRaises(TimeoutError, pending.get_result)
        self.assertIsNone(pending.get_result(block=False))
        worker.release()
        self.mec.barrier(pending)
        self.assertEqual(len(pending.r), 2)

    def test_results_can_be_dropped(self):
        pending = self.mec.execute("a = 1", block=False)
        self.mec.flush()
        self.assertRaises(InvalidDeferredID, pending.get_result)

    def test_an_engine_can_die_and_another_come(self):
        self.cluster.engines[0].worker.held = True
        pending = self.mec.execute("a = 1", block=False)
        self.cluster.engines[0].kill()
        error = self.assertRaises(CompositeError, pending.get_result)
        self.assertIsInstance(error.exceptions[0], EngineDied)
        self.assertEqual(self.mec.get_ids(), [1])
        self.cluster.add_engine()
        self.assertEqual(self.mec.get_ids(), [1, 2])
        self.cluster.add_engine(wanted_id=7)
        self.assertEqual(self.mec.get_ids(), [1, 2, 7])

    def test_an_engine_can_lose_its_connection_and_come_back_with_its_namespace(self):
        self.mec.push({"a": 5})
        engine = self.cluster.engines[0]
        engine.link.abort("a cable was pulled")
        self.assertEqual(self.mec.get_ids(), [1])
        engine.register()
        self.assertEqual(self.mec.get_ids(), [0, 1])
        self.assertEqual(self.mec.pull("a"), [5, 5])

    def test_a_busy_engine_can_be_interrupted(self):
        self.cluster.engines[0].worker.held = True
        pending = self.mec.execute("a = 1", targets=0, block=False)
        later = self.mec.execute("b = 1", targets=0, block=False)
        pending.abort()
        error = self.assertRaises(CompositeError, pending.get_result)
        self.assertIsInstance(error.exceptions[0], KeyboardInterrupt)
        self.cluster.engines[0].worker.release()
        self.assertEqual(later.r[0]["input"]["raw"], "b = 1")

    def test_engines_and_controller_can_be_ended(self):
        self.mec.kill(targets=1)
        self.assertEqual(self.mec.get_ids(), [0])

    def test_a_closed_client_leaves_the_others_alone(self):
        other = self.cluster.multiengine()
        self.mec.close()
        self.assertRaises(ConnectionError, self.mec.get_ids)
        self.assertEqual(other.get_ids(), [0, 1])


class PumpTest(SynchronousTestCase):
    def test_time_stands_still(self):
        pump = Pump()
        done: list[str] = []
        pump.callLater(1, done.append, "later")
        pump.callFromThread(done.append, "now")
        pump.run()
        self.assertEqual(done, ["now"])
        pump.advance(1)
        self.assertEqual(done, ["now", "later"])

    def test_parties_that_never_stop_are_noticed(self):
        pump = Pump()

        def again():
            pump.soon(again)

        pump.soon(again)
        self.assertRaises(RuntimeError, pump.run, 100)

    def test_a_network_that_is_gone_drops_what_is_sent(self):
        cluster = InMemoryCluster(1)
        engine = cluster.engines[0]
        engine.link._transport.cut_off = True
        engine.link.send(frames.REPLY, 1)
        cluster.pump.run()
        self.assertFalse(engine.controller_link.lost)
