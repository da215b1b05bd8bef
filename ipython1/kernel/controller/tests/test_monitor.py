"""Those who only look: what they see, and that they can do nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from ipython1.kernel.basics.error import InvalidEngineID, ProtocolError, SecurityError
from ipython1.kernel.controller.journal.interface import NoJournal
from ipython1.kernel.controller.journal.rows import CommandHistory, OutcomeNote, TaskHistory
from ipython1.kernel.controller.monitor import IMonitor, Monitor
from ipython1.kernel.controller.monitorfc import FCMonitor, IFCMonitor
from ipython1.kernel.objects.taskobjects import StringTask
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.monitoring import EngineInfo, HistoryEntry, unpack_entries
from ipython1.testing import InMemoryCluster

CLIENT = bytes.fromhex("ab" * 16)


class RememberingJournal(NoJournal):
    """Has a history."""

    keeps = True

    def task_history(self, limit: int, before: float | None = None) -> Deferred[list[TaskHistory]]:
        rows = [
            TaskHistory(7, CLIENT, 0, 1, 100.0, 101.0, 0.5, 10),
            TaskHistory(6, CLIENT, 1, -1, 90.0, 91.0, 0.0, 0),
        ]
        return succeed(rows[:limit])

    def command_history(
        self, limit: int, before: float | None = None
    ) -> Deferred[list[CommandHistory]]:
        done = OutcomeNote(CLIENT, 3, 0, 0, 98.0, 20)
        rows = [
            CommandHistory(CLIENT, 4, (0, 1), "push", 97.0, 5, (done._replace(number=4),)),
            CommandHistory(CLIENT, 3, (0,), "execute('hush = 5')", 95.0, 5, (done,)),
        ]
        return succeed(rows[:limit])


class MonitorCase(SynchronousTestCase):
    def setUp(self):
        self.cluster = InMemoryCluster(2)
        controller = self.cluster.controller
        controller.interfaces["task"] = self.cluster.task_face.tasks
        self.face = IFCMonitor(IMonitor(controller))
        _, self.end = self.cluster.connect(self.face, messages.MONITOR)

    def ask(self, name: str, **args: Any) -> Any:
        answer = self.end.ask(name, **args)
        self.cluster.pump.run()
        return answer

    def answer(self, name: str, **args: Any) -> Any:
        return self.successResultOf(self.ask(name, **args))


class MonitorTests(MonitorCase):
    def test_interfaces(self):
        self.assertTrue(verifyClass(IMonitor, Monitor))
        self.assertTrue(verifyClass(IFCMonitor, FCMonitor))
        self.assertTrue(verifyObject(IFCMonitor, self.face))

    def test_engines(self):
        self.assertEqual(self.answer("get_ids"), [0, 1])
        engines = unpack_entries(EngineInfo, self.answer("engines"))
        self.assertEqual(
            [(each.id, each.doing, each.queued) for each in engines],
            [(0, "idle", 0), (1, "idle", 0)],
        )
        self.assertFalse(engines[0].away)

    def test_engines_that_come_and_go_are_seen(self):
        self.cluster.add_engine()
        self.cluster.pump.run()
        self.assertEqual(sorted(self.end.ids), [0, 1, 2])

    def test_queues_show_methods_and_no_code(self):
        self.cluster.engines[0].worker.held = True
        mec = self.cluster.multiengine()
        mec.execute("password = 'hush'", targets=0, block=False)
        mec.push({"hush": 5}, targets=0, block=False)
        self.cluster.pump.run()
        seen = str(self.answer("queue_status")) + str(self.answer("engines"))
        self.assertIn("execute", seen)
        self.assertIn("push", seen)
        self.assertNotIn("hush", seen)
        self.assertEqual(
            self.answer("queue_status", targets=[0]),
            [[0, {"pending": "execute", "queue": ["push"]}]],
        )
        self.failureResultOf(self.ask("queue_status", targets=[9]), InvalidEngineID)
        self.cluster.engines[0].worker.release()
        self.cluster.pump.run()

    def test_counts_of_tasks(self):
        self.assertEqual(self.answer("task_status")["succeeded"], 0)
        self.assertEqual(self.answer("task_status", verbose=True)["scheduled"], [])
        self.cluster.controller.interfaces.clear()
        self.assertEqual(self.answer("task_status"), {})

    def test_history_has_what_was_run_by_whom_and_how_it_ended(self):
        self.cluster.controller.journal = RememberingJournal()
        entries = unpack_entries(HistoryEntry, self.answer("history"))
        self.assertEqual(
            [(each.kind, each.id, each.method, each.state, each.engines) for each in entries],
            [
                ("task", 7, "", "succeeded", (1,)),
                ("command", 4, "push", "pending", (0, 1)),
                ("command", 3, "execute", "succeeded", (0,)),
                ("task", 6, "", "failed", ()),
            ],
        )
        self.assertEqual([each.completed for each in entries], [101.0, None, 98.0, 91.0])
        self.assertEqual(entries[0].client, "abababab")
        self.assertEqual(len(self.answer("history", limit=1)), 1)
        self.assertEqual(self.answer("history", limit=0), [])

    def test_without_a_journal_tasks_in_memory_are_the_history(self):
        tc = self.cluster.task()
        good, bad = (tc.run(StringTask(lines), block=True).taskid for lines in ("hush = 1", "1/0"))
        entries = unpack_entries(HistoryEntry, self.answer("history"))
        self.assertEqual(
            {(each.kind, each.id, each.state) for each in entries},
            {("task", good, "succeeded"), ("task", bad, "failed")},
        )
        for entry in entries:
            self.assertLessEqual(entry.submitted, entry.completed)
        self.assertNotIn("hush", str(entries))
        self.assertEqual(len(self.answer("history", limit=1)), 1)
        self.assertEqual(self.answer("history", before=1.0), [])


class HarmlessTests(MonitorCase):
    def test_other_questions_are_refused(self):
        for name, args in (
            ("kill", {"targets": None}),
            ("interrupt", {"targets": None}),
            ("clear_queue", {"targets": None}),
            ("report", {"targets": None, "request": {}}),
            ("stacks", {"targets": None, "within": 1}),
            ("abort", {"number": 1}),
            ("get_ids", {"wrong": 1}),
            ("history", {"limit": "many"}),
            ("queue_status", {"targets": 5}),
            ("queue_status", {"targets": [[]]}),
        ):
            self.failureResultOf(self.ask(name, **args), ProtocolError)
        self.assertTrue(self.end.connected)
        self.assertEqual(self.answer("get_ids"), [0, 1])

    def test_anything_but_a_question_ends_the_connection(self):
        for kind in (frames.SUBMIT, frames.COMMAND, frames.OUTCOME, 56, 60, 200):
            _, end = self.cluster.connect(self.face, messages.MONITOR)
            end.link.send(kind, 1, messages.SubmitMeta("execute", None).pack(), b"{}")
            self.cluster.pump.run()
            self.assertFalse(end.connected, kind)
        self.assertTrue(self.end.connected)

    def test_bulk_data_for_it_are_not_taken(self):
        self.end.link.send_large(frames.ASK, 1, b"", [bytes(frames.PIECE_SIZE + 1)])
        self.cluster.pump.run()
        self.assertFalse(self.end.connected)

    def test_it_cannot_come_as_somebody_else(self):
        _, client = self.cluster.connect(self.cluster.multiengine_face)
        greeting = messages.Hello(
            uuid=client.origin.hex(), pid=1, host="", role=messages.MONITOR, secret="guessed"
        )
        self.assertRaises(SecurityError, self.face.accept, greeting)

    def test_other_furls_do_not_lead_here_nor_this_one_elsewhere(self):
        greeting = messages.Hello(uuid="ab" * 16, pid=1, host="", role=messages.MONITOR)
        for face in (
            self.cluster.multiengine_face,
            self.cluster.task_face,
            self.cluster.engines_face,
        ):
            with self.assertRaisesRegex(SecurityError, "ipcontroller-monitor.furl is for"):
                face.accept(greeting)
        for role in (messages.TASK, messages.MULTIENGINE, messages.ENGINE):
            self.assertRaises(
                SecurityError, self.face.accept, dataclasses.replace(greeting, role=role)
            )

    def test_it_leaves_nothing_behind(self):
        before = len(self.cluster.controller._on_register)
        _, end = self.cluster.connect(self.face, messages.MONITOR)
        end.close()
        self.cluster.pump.run()
        self.assertEqual(len(self.cluster.controller._on_register), before)
        self.assertFalse(self.cluster.controller.clients.is_living(end.origin))
