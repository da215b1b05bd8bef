"""What is gathered for those who look: the machines by themselves."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import KernelError
from ipython1.kernel.controller.observing import changes as changes_module
from ipython1.kernel.controller.observing.changes import BURST, RATE, Changes
from ipython1.kernel.controller.observing.failures import MOST as MOST_FAILURES
from ipython1.kernel.controller.observing.failures import FailureRecord, Failures
from ipython1.kernel.controller.observing.meters import Lateness, Rate
from ipython1.kernel.controller.observing.spans import KEPT, SpanRecord, Spans
from ipython1.kernel.controller.observing.spans import MOST as MOST_SPANS
from ipython1.kernel.controller.observing.usage import STALE, Usage
from ipython1.kernel.controller.observing.works import MOST as MOST_WORKS
from ipython1.kernel.controller.observing.works import TOGETHER, WorkRecord, Works
from ipython1.kernel.controller.scheduling.accounts import Account, Finished
from ipython1.kernel.controller.scheduling.prefetch import Measured, Prefetch
from ipython1.kernel.controller.scheduling.records import TaskRecord, TaskTerms, Trouble
from ipython1.kernel.host.processstate import ProcessName
from ipython1.kernel.host.processusage import ProcessUsage
from ipython1.kernel.wire.taskwire import OptionsSpec, Status


class ChangesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.changes: Changes[str] = Changes()

    def look(self, mark: int, now: float = 100.0) -> tuple[list[str], int]:
        self.changes.release(now)
        return self.changes.since(mark)

    def test_each_change_is_told_once(self) -> None:
        for item in "ab":
            self.changes.changed(item)
        items, mark = self.changes.everything()
        self.assertEqual(items, ["a", "b"])
        self.assertEqual(self.look(mark), ([], mark))
        self.changes.changed("a")
        self.changes.changed("a")
        items, later = self.look(mark)
        self.assertEqual(items, ["a"])
        self.assertEqual(self.look(mark)[0], ["a"], "another one who looks")
        self.assertEqual(self.look(later)[0], [])

    def test_what_is_forgotten_is_not_told(self) -> None:
        self.changes.changed("a")
        _, mark = self.changes.everything()
        self.changes.changed("a")
        self.changes.forget("a")
        self.assertEqual(self.look(mark)[0], [])
        self.assertEqual(self.changes.everything()[0], [])

    def test_all_get_their_turn_however_fast_all_change(self) -> None:
        names = [str(number) for number in range(5 * BURST)]
        _, mark = self.changes.everything()
        told: dict[str, int] = dict.fromkeys(names, 0)
        now = 100.0
        for _ in range(200):
            for name in names:
                self.changes.changed(name)
            now += 0.1
            items, mark = self.look(mark, now)
            self.assertLessEqual(len(items), BURST)
            for item in items:
                told[item] += 1
        wanted = 200 * 0.1 * RATE / len(names)
        self.assertGreaterEqual(min(told.values()), int(wanted) - 1)
        self.assertLessEqual(max(told.values()), int(wanted) + 2)

    def test_answers_are_bounded_and_lose_nothing(self) -> None:
        self.patch(changes_module, "MOST", 10)
        _, mark = self.changes.everything()
        for number in range(35):
            self.changes.changed(str(number))
        found: list[str] = []
        for _ in range(4):
            items, mark = self.look(mark)
            self.assertLessEqual(len(items), 10)
            found += items
        self.assertEqual(found, [str(number) for number in range(35)])


class SpansTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.changed: list[SpanRecord] = []
        self.forgotten: list[SpanRecord] = []
        self.spans = Spans(self.changed.append, self.forgotten.append)

    def add(
        self,
        last: SpanRecord | None,
        begun: float,
        ended: float,
        group: object = "f",
        failed: int = 0,
    ) -> SpanRecord:
        return self.spans.add(last, 0, "task", 1, "f", group, begun, ended, 1, failed)

    def test_short_tasks_are_one_span(self) -> None:
        one = self.add(None, 10.0, 10.01)
        two = self.add(one, 10.011, 10.02, failed=1)
        self.assertIs(one, two)
        told = one.told()
        self.assertEqual((told.begun, told.ended, told.count, told.failed), (10.0, 10.02, 2, 1))
        self.assertEqual(self.changed, [one, one])

    def test_others_are_not(self) -> None:
        one = self.add(None, 10.0, 10.01)
        for begun, ended, group in (
            (10.01, 10.02, "g"),
            (10.01, 10.02, None),
            (10.2, 10.21, "f"),
            (10.01, 11.0, "f"),
        ):
            self.assertIsNot(self.add(one, begun, ended, group), one)
        self.assertEqual(one.count, 1)

    def test_what_an_engine_does_does_not_overlap(self) -> None:
        one = self.add(None, 10.0, 20.0)
        two = self.add(one, 19.0, 30.0)
        self.assertEqual((two.begun, two.ended), (20.0, 30.0))
        three = self.add(two, 24.0, 25.0)
        self.assertLessEqual(three.begun, three.ended)

    def test_no_two_of_an_engine_begin_at_the_same_time(self) -> None:
        last = None
        begun = set()
        for _ in range(20):
            last = self.add(last, 10.0, 10.0, None)
            begun.add(last.told().begun)
        self.assertEqual(len(begun), 20)

    def test_the_more_engines_the_longer_they_are(self) -> None:
        for engines in (4, 1000):
            self.spans.engines_are(engines)
            self.assertLessEqual(engines * KEPT / self.spans.longest, MOST_SPANS * 1.01)

    def test_old_ones_go(self) -> None:
        one = self.add(None, 10.0, 20.0)
        two = self.add(one, 30.0, 40.0)
        self.spans.expire(20.0 + KEPT + 1)
        self.assertEqual((self.forgotten, len(self.spans)), ([one], 1))
        self.spans.expire(1e9)
        self.assertEqual(self.forgotten, [one, two])

    def test_there_are_not_more_than_so_many(self) -> None:
        last = None
        for number in range(MOST_SPANS + 5):
            last = self.add(last, number, number + 0.9)
        self.assertEqual((len(self.spans), len(self.forgotten)), (MOST_SPANS, 5))


class MeterTests(SynchronousTestCase):
    def test_rates_are_of_the_last_seconds(self) -> None:
        rate = Rate(2)
        self.assertEqual(rate.rates(), (0.0, 0.0))
        count = 0
        for step in range(100):
            count += 10 if step < 50 else 1
            rate.sample(step * 0.25, count, 5)
        self.assertEqual(rate.rates(), (4.0, 0.0))
        rate.clear()
        rate.sample(100.0, 0, 0)
        rate.sample(100.0, 5, 5)
        self.assertEqual(rate.rates(), (0.0, 0.0))

    def test_lateness_is_the_worst_lately(self) -> None:
        late = Lateness()
        self.assertEqual(late.worst, 0.0)
        late.came(10.5, 10.0)
        late.came(11.0, 11.1)
        self.assertEqual(late.worst, 0.5)
        late.came(14.0, 13.9)
        self.assertAlmostEqual(late.worst, 0.1)


class WorksTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.changed: list[WorkRecord] = []
        self.forgotten: list[WorkRecord] = []
        self.works = Works(self.changed.append, self.forgotten.append, lambda moment: moment + 1e6)
        self.client = Account(b"c" * 16, 10, 10)
        self.next = 0

    def terms(
        self, what: str = "f", weight: int = 1, measured: Measured | None = None
    ) -> TaskTerms:
        packed = OptionsSpec(bytes(16), weight=weight, what=what).pack()
        return TaskTerms(measured or Measured(Prefetch()), weight=weight, packed=packed)

    def tasks(self, terms: TaskTerms, count: int, now: float = 0.0) -> list[TaskRecord]:
        self.next += count
        records = [
            TaskRecord(self.next - number, self.client, terms, b"", now) for number in range(count)
        ]
        self.works.submitted(records, now)
        return records

    def finish(
        self, records: list[TaskRecord], now: float = 1.0, status: Status = Status.OK
    ) -> None:
        self.works.finished([Finished(each, status, 0, now, 0.5, b"") for each in records])

    def told(self, record: TaskRecord) -> Any:
        work = self.works.work_of(record)
        assert work is not None
        return work.told("ann@here")

    def test_tasks_of_a_function(self) -> None:
        records = self.tasks(self.terms(), 4)
        self.works.running_are(records[:2])
        told = self.told(records[0])
        self.assertEqual(
            (told.what, told.label, told.unit, told.total, told.running, told.seconds),
            ("f", "ann@here", "tasks", 4, 2, None),
        )
        self.finish(records[:3])
        self.finish(records[3:], 2.0, Status.FAILED)
        self.works.running_are([])
        told = self.told(records[0])
        self.assertEqual(
            (told.succeeded, told.failed, told.running, told.seconds, told.completed),
            (3, 1, 0, 0.5, 1e6 + 2.0),
        )

    def test_items_of_a_map(self) -> None:
        measured = Measured(Prefetch())
        single = self.tasks(self.terms(measured=measured), 2)
        groups = self.tasks(self.terms(weight=10, measured=measured), 3)
        self.finish(single)
        self.finish(groups[:2])
        self.works.items_failed(groups[0], 4)
        told = self.told(groups[0])
        self.assertEqual(
            (told.key, told.unit, told.total, told.succeeded, told.failed, told.completed),
            (self.told(single[0]).key, "items", 32, 18, 4, None),
        )
        self.assertAlmostEqual(told.seconds, 2.0 / 22, 4)

    def test_different_tasks_at_once(self) -> None:
        one, two = self.terms("f"), self.terms("g")
        records = [
            TaskRecord(number, self.client, two if number % 2 else one, b"", 0.0)
            for number in range(7)
        ]
        self.works.submitted(records, 0.0)
        self.finish(records)
        self.assertEqual([self.told(each).succeeded for each in records[:2]], [4, 3])
        self.assertEqual([self.told(each).what for each in records[:2]], ["f", "g"])

    def test_code_is_not_told(self) -> None:
        [record] = self.tasks(self.terms("password = 'hush'"), 1)
        self.assertEqual(self.told(record).what, "code")
        for name in ("<lambda>", "outer.<locals>.f", "Model.fit", "fünf"):
            [record] = self.tasks(self.terms(name), 1)
            self.assertEqual(self.told(record).what, name)

    def test_a_recovery_task_counts_as_what_it_replaces(self) -> None:
        [record] = self.tasks(self.terms("f"), 1)
        record.trouble = Trouble(replaced=[(record.options, b"")])
        record.options = self.terms("g")
        self.finish([record])
        told = self.told(record)
        self.assertEqual((told.what, told.total, told.succeeded), ("f", 1, 1))

    def test_later_calls_are_new_work(self) -> None:
        terms = self.terms()
        first = self.tasks(terms, 1)
        self.finish(first, 1.0)
        key = self.told(first[0]).key
        soon = self.tasks(terms, 1, 1.0 + TOGETHER - 1)
        self.assertEqual((self.told(soon[0]).key, self.told(soon[0]).total), (key, 2))
        self.finish(soon, 10.0)
        later = self.tasks(terms, 1, 10.0 + TOGETHER + 1)
        self.assertEqual((self.told(later[0]).key, self.told(later[0]).total), (key + 1, 1))

    def test_what_is_complete_goes_first(self) -> None:
        going_on = self.tasks(self.terms("slow"), 1)
        for number in range(MOST_WORKS + 10):
            self.finish(self.tasks(self.terms(f"f{number}"), 1))
        self.assertEqual(len(self.works), MOST_WORKS)
        self.assertEqual(self.told(going_on[0]).what, "slow")
        self.assertEqual(self.forgotten[0].what, "f0")
        for number in range(MOST_WORKS + 10):
            self.tasks(self.terms(f"g{number}"), 1)
        self.assertEqual(len(self.works), MOST_WORKS)
        self.finish(going_on)  # which is not kept any more
        self.assertIsNone(self.works.work_of(going_on[0]))


class FailuresTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.changed: list[FailureRecord] = []
        self.forgotten: list[FailureRecord] = []
        self.failures = Failures(self.changed.append, self.forgotten.append)

    def test_texts_control_no_terminal(self) -> None:
        self.failures.add("task", 1, "f", 0, "E: \x1b[2J\n", "a\n\tb\x1b[2J\r\x9b", 1.0)
        told = self.changed[0].told
        self.assertEqual((told.error, told.traceback), ("E: \\x1b[2J\\n", "a\n\tb?[2J??"))

    def test_texts_can_be_left_out(self) -> None:
        self.failures.with_texts = False
        self.failures.add("task", 1, "f", 0, "E: hush", "hush", 1.0)
        self.assertNotIn("hush", str(self.changed[0].told))

    def test_the_latest_are_kept(self) -> None:
        for number in range(MOST_FAILURES + 3):
            self.failures.add("task", number, "f", None, "E", "", 1.0)
        self.assertEqual([each.told.id for each in self.forgotten], [0, 1, 2])


class Engine:
    """An engine whose answers the test gives."""

    def __init__(self, process: ProcessName | None = None) -> None:
        self.process = process
        self.away = False
        self.asked: list[Deferred[Any]] = []

    def report(self, request: dict[str, Any]) -> Deferred[Any]:
        assert request == {"usage": True}
        self.asked.append(Deferred())
        return self.asked[-1]


class UsageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.changes = 0
        self.found: ProcessUsage | None = ProcessUsage(0.0, 100)

    def usage(self, engine: Engine) -> Usage:
        return Usage(engine, self.count, lambda process: self.found)

    def count(self) -> None:
        self.changes += 1

    def test_the_system_knows_of_engines_that_cannot_answer(self) -> None:
        engine = Engine(ProcessName(5, 1.0))
        usage = self.usage(engine)
        usage.look(10.0, 1.0)
        self.assertEqual((usage.cpu, usage.memory), (None, 100))
        self.found = ProcessUsage(1.0, 100)
        usage.look(12.0, 1.0)
        self.assertEqual((usage.cpu, engine.asked), (50.0, []))
        usage.begin()
        self.assertIsNone(usage.cpu)

    def test_others_are_asked_and_measured_by_their_own_clocks(self) -> None:
        engine = Engine()
        usage = self.usage(engine)
        usage.look(10.0, 1.0)
        engine.asked[0].callback({"usage": [5000.0, 3.0, 200]})
        usage.look(11.0, 1.0)
        engine.asked[1].callback({"usage": [5002.0, 4.5, 200]})
        self.assertEqual((usage.cpu, usage.memory), (75.0, 200))
        self.assertEqual(self.changes, 2)
        usage.look(12.0, 1.0)
        engine.asked[2].callback({"usage": [5004.0, 6.0, 200]})
        self.assertEqual(self.changes, 2, "nothing that matters has changed")

    def test_one_that_is_silent_is_asked_once_and_has_no_values_after_a_while(self) -> None:
        engine = Engine()
        usage = self.usage(engine)
        for moment, answer in ((10.0, [1.0, 1.0, 7]), (11.0, [2.0, 2.0, 7])):
            usage.look(moment, 1.0)
            engine.asked[-1].callback({"usage": answer})
        for moment in range(12, 21):
            usage.look(moment, 1.0)
        self.assertEqual((len(engine.asked), usage.cpu), (3, 100.0))
        usage.look(11.0 + STALE + 1.1, 1.0)
        self.assertEqual((usage.cpu, usage.memory), (None, None))
        engine.asked[-1].callback({"usage": [30.0, 2.0, 8]})
        self.assertEqual((usage.cpu, usage.memory), (None, 8))

    def test_a_process_that_is_gone_is_asked_about_at_its_engine(self) -> None:
        engine = Engine(ProcessName(5, 1.0))
        self.found = None
        usage = self.usage(engine)
        usage.look(10.0, 1.0)
        engine.asked[0].errback(KernelError("it is gone"))
        usage.look(11.0, 1.0)
        self.assertEqual(len(engine.asked), 2)

    def test_nonsense_is_not_told(self) -> None:
        engine = Engine()
        usage = self.usage(engine)
        for answer in (
            {},
            {"usage": None},
            {"usage": [1, 2]},
            {"usage": ["x", 1, 1]},
            {"usage": [1, float("nan"), 1]},
            {"usage": [1, float("inf"), 1]},
            {"usage": [1, 1.0, -5]},
            {"usage": [1, 1.0, float("inf")]},
            {"usage": [1, 1.0, 2**70]},
        ):
            usage.look(10.0, 1.0)
            engine.asked[-1].callback(answer)
            self.assertEqual((usage.cpu, usage.memory), (None, None), answer)

    def test_one_that_is_away_is_not_asked(self) -> None:
        engine = Engine()
        engine.away = True
        self.usage(engine).look(10.0, 1.0)
        self.assertEqual(engine.asked, [])
        engine.away = False
        engine.report = lambda request: fail(KernelError("just gone"))  # type: ignore[method-assign]
        self.usage(engine).look(10.0, 1.0)
