"""News for those who only look, from a whole controller with engines and clients."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from ipython1.kernel.basics.error import CompositeError
from ipython1.kernel.controller.monitor import IMonitor
from ipython1.kernel.controller.monitorfc import IFCMonitor
from ipython1.kernel.controller.observing.observer import PATIENCE, TICK
from ipython1.kernel.controller.tests.test_monitor import MonitorCase
from ipython1.kernel.engine import end
from ipython1.kernel.host.processusage import ProcessUsage
from ipython1.kernel.objects.taskobjects import MapTask, StringTask
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.monitoring import News, unpack_news
from ipython1.testing import InMemoryCluster


def reciprocal(x: float) -> float:
    return 1 / x


class NewsCase(MonitorCase):
    def setUp(self) -> None:
        super().setUp()
        self.memory = 2**24
        # What this process uses changes all the time.
        self.patch(end, "own_usage", lambda: ProcessUsage(0.0, self.memory))
        self.tc: Any = self.cluster.task()
        self.mec = self.cluster.multiengine()

    def news(self, mark: int = 0) -> News:
        """A look, for which time passes if it is the first."""
        answer = self.ask("news", mark=mark)
        self.pass_time(TICK)
        return unpack_news(self.successResultOf(answer))

    def pass_time(self, seconds: float) -> None:
        self.cluster.pump.advance(seconds)
        self.cluster.pump.run()

    def hold(self, engine: int, held: bool = True) -> None:
        worker = self.cluster.engines[engine].worker
        if held:
            worker.held = True
        else:
            worker.release()
            self.cluster.pump.run()


class NewsTests(NewsCase):
    def test_the_first_look_has_everything_when_rates_are_measured(self) -> None:
        answer = self.ask("news")
        self.assertNoResult(answer)
        self.pass_time(TICK)
        news = unpack_news(self.successResultOf(answer))
        self.assertTrue(news.whole)
        self.assertEqual(sorted(engine.id for engine in news.engines), [0, 1])
        self.assertEqual((news.clients, news.name), (2, ""))
        self.assertGreaterEqual(news.time, news.started)
        later = self.successResultOf(self.ask("news", mark=news.mark))
        self.assertFalse(unpack_news(later).whole)

    def test_only_what_has_changed_comes_after_that(self) -> None:
        mark = self.news().mark
        mark = self.news(mark).mark  # it has the first values of what processes use
        self.mec.execute("a = 1", targets=1)
        news = self.news(mark)
        self.assertFalse(news.whole)
        self.assertEqual([engine.id for engine in news.engines], [1])
        self.assertEqual([(span.engine, span.what) for span in news.spans], [(1, "execute")])
        news = self.news(news.mark)
        self.assertEqual((news.spans, news.work, news.failures, news.gone), ((), (), (), ()))

    def test_a_long_timeline_comes_in_pieces(self) -> None:
        mark = self.news().mark
        observer = self.cluster.controller.observer
        begun = observer.epoch(observer.now())
        for number in range(1200):
            moment = begun + number / 100
            observer.spans.add(None, 0, "task", number, "f", None, moment, moment + 0.01)
        numbers: list[int] = []
        for _ in range(12):
            news = self.news(mark)
            mark = news.mark
            self.assertLessEqual(len(news.spans), 500)
            numbers += [span.id for span in news.spans]
        self.assertEqual(numbers, list(range(1200)))
        news = self.news()
        self.assertTrue(news.whole)
        numbers = [span.id for span in news.spans]
        for _ in range(2):
            news = self.news(news.mark)
            self.assertEqual((news.whole, news.failures), (False, ()))
            numbers += [span.id for span in news.spans]
        self.assertEqual(numbers, list(range(1200)))

    def test_several_can_look(self) -> None:
        _, another = self.cluster.connect(self.face, messages.MONITOR)
        mark = self.news().mark
        self.mec.execute("a = 1", targets=0)
        first = self.news(mark)
        answer = another.ask("news", mark=mark)
        self.cluster.pump.run()
        second = unpack_news(self.successResultOf(answer))
        self.assertEqual(first.spans, second.spans)
        self.assertEqual(len(first.spans), 1)

    def test_engines_say_what_they_do_and_since_when(self) -> None:
        mark = self.news().mark
        self.hold(0)
        self.hold(1)
        self.tc.asynchronous.run(MapTask(reciprocal, (2,)))
        self.cluster.pump.run()
        news = self.news(mark)
        [engine] = [each for each in news.engines if each.tasks]
        self.assertEqual((engine.doing, engine.what, engine.tasks), ("task", "reciprocal", 1))
        assert engine.since is not None
        self.assertLessEqual(engine.since, news.time)
        other = 1 - engine.id
        self.pass_time(5.0)
        self.mec.execute("hush = 1", targets=other, block=False)
        self.mec.push({"hush": 1}, targets=other, block=False)
        self.pass_time(2.0)
        news = self.news(news.mark)
        self.assertNotIn("hush", str(news))
        [busy] = [each for each in news.engines if each.id == other]
        self.assertEqual((busy.doing, busy.what, busy.queued), ("execute", "", 1))
        assert busy.since is not None
        self.assertAlmostEqual(news.time - busy.since, 2.0, 1)
        self.assertEqual((news.tasks.pending, news.tasks.scheduled), (1, 0))
        self.hold(0, False)
        self.hold(1, False)
        news = self.news(news.mark)
        self.assertEqual({(each.doing, each.since) for each in news.engines}, {("idle", None)})

    def test_engines_come_and_go(self) -> None:
        mark = self.news().mark
        self.cluster.add_engine()
        news = self.news(mark)
        self.assertIn(2, [engine.id for engine in news.engines])
        self.cluster.engines[0].kill()
        self.cluster.pump.run()
        news = self.news(news.mark)
        self.assertEqual(news.gone, (0,))
        self.assertEqual(self.news(news.mark).gone, ())
        everything = self.news()
        self.assertEqual((sorted(e.id for e in everything.engines), everything.gone), ([1, 2], ()))
        self.cluster.add_engine(0)
        news = self.news(news.mark)
        self.assertIn(0, [engine.id for engine in news.engines])
        self.assertEqual(news.gone, ())

    def test_a_map_counts_items(self) -> None:
        mark = self.news().mark
        self.assertRaises(CompositeError, self.tc.map, reciprocal, [1, 2, 0, 4] * 50)
        news = self.news(mark)
        [work] = news.work
        self.assertEqual(
            (work.what, work.unit, work.total, work.succeeded, work.failed),
            ("reciprocal", "items", 200, 150, 50),
        )
        self.assertIsNotNone(work.completed)
        self.assertEqual(sum(each.failed for each in news.spans), len(news.failures))
        for failure in news.failures:
            self.assertEqual(failure.error, "ZeroDivisionError: division by zero")
        self.assertGreater(news.tasks.succeeded, 0)
        self.assertGreater(self.news(news.mark).tasks.rate, 0)

    def test_work_is_counted_also_while_nobody_looks(self) -> None:
        for number in range(3):
            self.tc.run(MapTask(reciprocal, (number,)), block=True)
        self.mec.execute("b = 2")
        news = self.news()
        [work] = news.work
        self.assertEqual((work.total, work.succeeded, work.failed), (3, 2, 1))
        self.assertEqual([failure.id for failure in news.failures], [0])
        self.assertEqual(news.spans, ())

    def test_failures_of_tasks_and_commands(self) -> None:
        self.assertRaises(CompositeError, self.mec.execute, "1/0", targets=1)
        task_id = self.tc.run(StringTask("hush = 'x' / 2"), block=True).taskid
        news = self.news()
        command, task = news.failures
        self.assertEqual(
            (command.kind, command.what, command.engine, command.error),
            ("command", "execute", 1, "ZeroDivisionError: division by zero"),
        )
        self.assertIn("Traceback", command.traceback)
        self.assertTrue(command.traceback.endswith(command.error))
        self.assertNotIn("\x1b", command.traceback)
        self.assertEqual((task.kind, task.id, task.what), ("task", task_id, "code"))
        self.assertTrue(task.error.startswith("TypeError: unsupported operand"))
        self.assertEqual(self.news(news.mark).failures, (), "each is told once")

    def test_items_of_a_map_on_engines(self) -> None:
        mark = self.news().mark
        self.assertRaises(CompositeError, self.mec.map, reciprocal, [1, 0, 2, 4])
        news = self.news(mark)
        [failure] = news.failures
        self.assertEqual(
            (failure.kind, failure.what, failure.engine, failure.error),
            ("command", "map", 0, "ZeroDivisionError: division by zero"),
        )
        self.assertEqual({(s.engine, s.failed) for s in news.spans}, {(0, 1), (1, 0)})

    def test_errors_may_be_left_out(self) -> None:
        self.cluster.controller.observer.failures.with_texts = False
        self.assertRaises(CompositeError, self.mec.execute, "hush = 1/0", targets=1)
        self.tc.run(MapTask(reciprocal, (0,)), block=True)
        news = self.news()
        self.assertEqual(
            [(f.kind, f.error, f.traceback) for f in news.failures],
            [("command", "", ""), ("task", "", "")],
        )
        self.assertNotIn("hush", str(news))

    def test_the_kernels_own_errors(self) -> None:
        self.hold(0)
        self.hold(1)
        task = self.tc.asynchronous.run(MapTask(reciprocal, (1,)))
        call = self.mec.execute("a = 1", targets=0, block=False)
        self.cluster.pump.run()
        self.tc.abort(task)
        self.cluster.engines[0].kill()
        self.cluster.pump.run()
        self.assertRaises(CompositeError, call.get_result)
        errors = {failure.kind: failure.error for failure in self.news().failures}
        self.assertTrue(errors["command"].startswith("EngineDied: engine 0 "), errors)
        self.hold(1, False)
        self.cluster.pump.run()

    def test_nothing_is_gathered_for_nobody(self) -> None:
        observer = self.cluster.controller.observer
        mark = self.news().mark
        for _ in range(int(PATIENCE / TICK) + 3):
            self.pass_time(TICK)
        self.assertFalse(observer.on)
        calls = [call for call in self.cluster.pump.getDelayedCalls() if "_tick" in str(call)]
        self.assertEqual(calls, [])
        self.mec.execute("a = 1")
        news = self.news(mark)
        self.assertTrue(news.whole, "what was meanwhile is not known")

    def test_marks_of_an_earlier_controller_are_not_known(self) -> None:
        mark = self.news().mark
        cluster = InMemoryCluster(1)
        _, end = cluster.connect(IFCMonitor(IMonitor(cluster.controller)), messages.MONITOR)
        end.ask("news")
        cluster.pump.run()
        cluster.pump.advance(TICK)
        answer = end.ask("news", mark=mark)
        cluster.pump.run()
        news = unpack_news(self.successResultOf(answer))
        self.assertTrue(news.whole)
        self.assertGreater(news.mark, mark)

    def test_engines_of_other_hosts_are_asked_what_they_use(self) -> None:
        news = self.news()
        self.assertEqual({engine.memory for engine in news.engines}, {2**24})
        self.memory = 2**25
        self.pass_time(1.0)
        self.pass_time(1.0)
        news = self.news(news.mark)
        self.assertEqual({(each.cpu, each.memory) for each in news.engines}, {(0.0, 2**25)})

    def test_what_cannot_be_shown_costs_no_result(self) -> None:
        observer = self.cluster.controller.observer
        self.news()

        def broken(*args: Any) -> None:
            raise RuntimeError("broken")

        self.patch(observer.works, "submitted", broken)
        self.patch(observer.works, "finished", broken)
        self.patch(observer.spans, "add", broken)
        self.assertEqual(self.tc.map(reciprocal, [1, 2]), [1.0, 0.5])
        self.mec.execute("a = 5", targets=0)
        self.assertEqual(self.mec.pull("a", targets=0), [5])
        self.assertGreater(len(self.flushLoggedErrors(RuntimeError)), 0)

    def test_an_engine_that_is_gone_is_not_shown_again(self) -> None:
        mark = self.news().mark
        engine = self.cluster.controller.engines[0]
        self.cluster.engines[0].kill()
        self.cluster.pump.run()
        news = self.news(mark)
        self.assertEqual(news.gone, (0,))
        engine.commands.watch.turn()
        self.assertEqual(self.news(news.mark).engines, ())

    def test_a_mark_is_a_number(self) -> None:
        for mark in ("x", None, 1.5, [1]):
            self.failureResultOf(self.ask("news", mark=mark))
        self.assertTrue(self.end.connected)


class TimelineTests(NewsCase):
    def test_spans_do_not_overlap_and_have_the_durations_of_tasks(self) -> None:
        mark = self.news().mark
        for _ in range(3):
            self.tc.run(MapTask(reciprocal, (2,)), block=True)
            self.mec.execute("a = 1", targets=[0, 1])
            self.pass_time(0.5)
        news = self.news(mark)
        for engine in (0, 1):
            spans = sorted(
                (span for span in news.spans if span.engine == engine), key=lambda s: s.begun
            )
            for one, two in pairwise(spans):
                self.assertLessEqual(one.ended, two.begun)
        self.assertEqual(sum(s.count for s in news.spans if s.what == "execute"), 6)
        self.assertEqual(sum(s.count for s in news.spans if s.what == "reciprocal"), 3)
