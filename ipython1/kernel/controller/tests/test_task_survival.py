"""What the task interface holds survives broken links and the controller's death, and nothing of it is done twice."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.controller import resultkeeper
from ipython1.kernel.controller.config import TaskConfig
from ipython1.kernel.controller.tests.taskdesk import (
    OPTIONS,
    Desk,
    FileJournal,
    WireClient,
    WireEngine,
)
from ipython1.kernel.wire import bulk, taskwire
from ipython1.kernel.wire.tasksync import TaskEntry
from ipython1.kernel.wire.taskwire import OptionsSpec, Status
from ipython1.testing.memory import MemoryTransport

OK, REFUSED = Status.OK, Status.REFUSED
CONFIG = TaskConfig(
    scheduler="ipython1.kernel.task.FIFOScheduler",
    kill_limit=3,
    abort_grace=2.0,
    unrunnable_after=0.0,
    prefetch_seconds=0.01,
    prefetch_min=2,
    prefetch_max=4096,
    result_age=86400.0,
    result_size=2**26,
)


class BrokenLinkTests(SynchronousTestCase):
    """Without a journal: links break, and the controller lives."""

    def setUp(self) -> None:
        self.desk = Desk()
        self.engine = WireEngine(self.desk)
        self.client = WireClient(self.desk)

    def test_an_engine_keeps_its_tasks_while_it_is_away(self) -> None:
        ids = self.client.submit([b"a", b"b", b"c"])
        self.assertEqual(len(self.engine.runs), 2)
        self.engine.cut()
        other = WireEngine(self.desk)
        self.desk.wait(5)
        self.assertEqual([key[0] for key in other.runs], ids[2:], "only what nobody had")
        self.engine.end()
        self.engine.come_back()
        self.engine.end()
        other.end()
        self.assertEqual(sorted(self.client.results), ids)
        self.assertEqual(self.client.told, 3)
        self.assertEqual((self.engine.kept, other.kept), ({}, {}))
        self.assertEqual(sorted(self.engine.ran + other.ran), ids, "each ran once")

    def test_what_did_not_reach_an_engine_goes_to_another(self) -> None:
        [first, second] = self.client.submit([b"a", b"b"])
        self.engine.cut()
        lost = [key for key in self.engine.runs if key[0] == second]
        del self.engine.runs[lost[0]]
        other = WireEngine(self.desk)
        self.engine.come_back()
        self.desk.wait(0.1)
        self.assertEqual([key[0] for key in other.runs], [second])
        self.assertEqual([key[0] for key in self.engine.runs], [first])

    def test_an_engine_that_is_gone_for_too_long_is_given_up(self) -> None:
        [task] = self.client.submit([b"a"], replace(OPTIONS, retries=1))
        self.engine.begin()
        self.engine.cut()
        other = WireEngine(self.desk)
        self.desk.wait(9)
        self.assertEqual(other.runs, {})
        self.desk.wait(2)
        self.assertEqual([key[0] for key in other.runs], [task])
        late = self.engine.end()
        self.engine.come_back()
        self.assertEqual(late, [task])
        self.assertNotIn(task, self.client.results, "its late result does not count")
        other.end()
        self.assertEqual(self.client.results[task][0], OK)
        self.assertEqual(self.client.told, 1)

    def test_a_client_finds_its_results_when_it_is_back(self) -> None:
        ids = self.client.submit([b"a", b"b", b"c"])
        self.engine.end()
        self.client.cut()
        self.desk.wait(0.1)
        self.engine.end()
        answer = self.client.come_back()
        self.assertEqual((answer.arrived, answer.accepted), (3, 3))
        self.engine.end()
        self.assertEqual(sorted(self.client.results), ids)
        self.assertEqual(self.client.told, 3, "what it had was not told again")

    def test_what_was_sent_and_not_confirmed_is_sent_again(self) -> None:
        self.client.silent = True
        [task] = self.client.submit([b"a"])
        self.engine.end()
        self.client.results.clear()
        self.client.cut()
        self.client.silent = False
        self.client.come_back()
        self.assertEqual(self.client.results[task], (OK, b"result of a"))
        account = self.desk.tasks.machine.clients.accounts[bytes.fromhex(self.client.uuid)]
        self.assertEqual((account.arrived, account.released), (1, 1))

    def test_submissions_that_got_lost_are_sent_again_and_the_others_dropped(self) -> None:
        self.client.submit([b"a"])
        entries = list(self.client.submitted.values())
        self.client.cut()
        for payload in (b"b", b"c"):
            task_id = self.client.ids.pop(0)
            self.client.submitted[task_id] = entries[0]._replace(task_id=task_id, payload=payload)
        self.client.come_back()
        self.client.send_entries(list(self.client.submitted.values()))
        self.assertEqual(len(self.desk.tasks.machine.tasks), 3)
        self.assertEqual(self.desk.tasks.machine.dropped, 3)
        self.assertEqual(self.client.accepted, 3)

    def test_a_task_that_never_came_is_told_from_others(self) -> None:
        other = WireClient(self.desk)
        with self.assertRaisesRegex(RuntimeError, "never submitted because its client ended"):
            other.ask("fetch", taskids=[self.client.ids[5]], wait=True)
        with self.assertRaisesRegex(RuntimeError, "IndexError: there is no task 1000000"):
            other.ask("fetch", taskids=[10**6], wait=True)

    def test_results_that_nobody_reads_do_not_fill_the_memory(self) -> None:
        self.patch(resultkeeper, "PER_CLIENT", 2**20)
        assert self.client.link is not None
        wire = MemoryTransport.of(MemoryTransport.of(self.client.link).other)
        wire.stop_reading()
        ids = self.client.submit([b"%d" % number for number in range(200)])
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        size = 0
        for number in range(200):
            # Large ones and small ones go different ways.
            data = bytes([number]) * (300_000 if number % 2 else 100_000)
            size += len(data)
            self.engine.end(data=data)
        self.assertLess(tracemalloc.get_traced_memory()[0], size // 4)
        tracemalloc.stop()
        wire.read_on()
        self.desk.wait(1)
        self.assertEqual(sorted(self.client.results), ids)
        for number, task in enumerate(ids):
            length = 300_000 if number % 2 else 100_000
            self.assertEqual(self.client.results[task], (OK, bytes([number]) * length))


class JournalCase(SynchronousTestCase):
    """With a journal that is written when the test says so."""

    config: TaskConfig | None = None

    def setUp(self) -> None:
        self.journal = FileJournal()
        self.desk = Desk(self.journal, self.config)
        self.engine = WireEngine(self.desk)
        self.client = WireClient(self.desk)
        self.write()

    def write(self) -> None:
        """All that was said so far is safe."""
        self.desk.wait(resultkeeper.WAIT + 0.01)
        self.journal.commit()
        self.desk.pump.run()

    def submit(self, *payloads: bytes, **options: Any) -> list[int]:
        ids = self.client.submit(payloads, replace(OPTIONS, **options))
        self.write()
        return ids

    def restart(self, *others: Any) -> None:
        """The controller is killed, and started again with what was written."""
        self.desk.die(self.engine, self.client, *others)
        self.journal = FileJournal(self.journal.disk)
        self.desk.start(self.journal)


class JournalTests(JournalCase):
    """What is written, when, and what it is told to."""

    def test_a_task_is_neither_confirmed_nor_run_before_it_is_safe(self) -> None:
        self.client.submit([b"a"])
        number = self.client.ask_later("engines")
        self.assertEqual((self.client.accepted, self.engine.runs), (0, {}))
        self.assertNotIn(number, self.client.answers, "questions keep their place behind tasks")
        self.write()
        self.assertEqual((self.client.accepted, len(self.engine.runs)), (1, 1))
        self.assertEqual(self.client.answer(number), 1)

    def test_tasks_that_wait_for_a_full_disk_say_so(self) -> None:
        begun = self.submit(b"a")
        self.journal.trouble = "database or disk is full (in /there)"
        waiting = self.client.submit([b"b", b"c"])
        self.assertEqual(self.client.ask("queue_status")["scheduled"], 2)
        status = self.client.ask("queue_status", verbose=True)
        self.assertEqual((status["pending"], status["scheduled"]), (begun, waiting))
        [(why, ids)] = status["reasons"]
        self.assertEqual(ids, waiting)
        self.assertIn("journal cannot be written: database or disk is full (in /there)", why)
        self.assertIn("when there is room on that disk again", why)
        self.assertEqual(status["warnings"], [why])
        self.journal.trouble = ""
        self.write()
        status = self.client.ask("queue_status", verbose=True)
        self.assertEqual((status["reasons"], status["warnings"]), ([], []))

    def test_an_engine_is_given_nothing_before_it_is_safe_that_it_is_known(self) -> None:
        self.submit(b"a", b"b", b"c", b"d")
        other = WireEngine(self.desk)
        self.desk.wait(1)
        self.assertEqual(other.runs, {})
        self.write()
        self.assertEqual(len(other.runs), 2)

    def test_a_result_is_the_engines_until_it_is_safe(self) -> None:
        [task] = self.submit(b"a")
        self.engine.end()
        self.assertEqual(self.client.results[task], (OK, b"result of a"), "it does not wait")
        self.assertEqual(len(self.engine.kept), 1)
        self.write()
        self.assertEqual(self.engine.kept, {})
        self.assertEqual(self.journal.disk.submissions, {}, "it is over")

    def test_results_that_only_their_client_needs_are_not_written_when_it_has_them(self) -> None:
        [mine] = self.submit(b"a", private=True)
        [any_ones] = self.submit(b"b")
        self.engine.end(2)
        self.write()
        self.assertEqual(self.journal.disk.succeeded, {mine, any_ones})
        self.assertEqual(list(self.journal.disk.results), [any_ones])
        self.client.silent = True
        [unread] = self.submit(b"c", private=True)
        self.engine.end()
        self.write()
        self.assertIn(unread, self.journal.disk.results)

    def test_large_results_are_written_apart(self) -> None:
        data = bytes(300_000)
        [task] = self.submit(b"a")
        self.engine.end(data=data)
        self.write()
        self.assertEqual(self.client.results[task], (OK, data))
        stored = self.journal.disk.results[task][1]
        self.assertNotIsInstance(stored.payload, bytes)
        self.assertEqual(self.engine.kept, {})

    def test_clearing_reaches_the_journal(self) -> None:
        ids = self.submit(b"a", b"b")
        self.engine.end(2)
        self.client.ask("clear", taskids=ids[:1])
        self.write()
        self.assertEqual(list(self.journal.disk.results), ids[1:])
        with self.assertRaisesRegex(RuntimeError, "it was cleared"):
            self.client.ask("fetch", taskids=ids[:1], wait=False)

    def test_functions_are_written_once_and_go_with_their_last_client(self) -> None:
        other = WireClient(self.desk)
        digest = b"d" * 16
        for client in (self.client, other, other):
            client.send(taskwire.FUNCTION, 0, digest, b"code")
        self.write()
        self.assertEqual(len(self.journal.disk.functions), 1)
        self.assertEqual(len(self.journal.disk.functions[digest].clients), 2)
        other.submit([b"a"], OptionsSpec(b"t" * 16, functions=(digest,)))
        self.write()
        self.client.send(taskwire.FORGET, 0, digest)
        self.desk.service.clients.goodbye(other.uuid, "it leaves")
        self.write()
        self.assertIn(digest, self.journal.disk.functions, "a task needs it")
        self.engine.end()
        self.write()
        self.assertEqual(self.journal.disk.functions, {})
        self.assertEqual(self.engine.functions, {})

    def test_results_of_a_client_that_died_are_kept_and_found_by_others(self) -> None:
        ids = self.submit(b"a", b"b", b"c", private=True)
        self.engine.end()
        self.desk.service.clients.goodbye(self.client.uuid, "it died")
        self.client.cut()
        self.engine.end(2)
        self.write()
        self.assertEqual(len(self.journal.disk.results), 2, "the first had been taken")
        self.desk.tasks.machine.store.results.clear()
        other = WireClient(self.desk)
        self.assertTrue(other.ask("fetch", taskids=ids[1:], wait=True))
        self.assertEqual(sorted(other.results), ids[1:])
        with self.assertRaisesRegex(RuntimeError, "ResultAlreadyRetrieved: .* no longer kept"):
            other.ask("fetch", taskids=ids[:1], wait=True)

    def test_unread_results_are_held_in_memory_up_to_a_size(self) -> None:
        self.patch(resultkeeper, "PER_CLIENT", 10_000)
        assert self.client.controller_link is not None
        MemoryTransport.of(self.client.controller_link).stop_reading()
        assert self.client.link is not None
        ids = []
        for _ in range(60):
            ids += self.client.submit([b"x" * 100])
            self.write()
            self.engine.end(data=bytes(50_000))
            self.write()
        account = self.desk.tasks.machine.clients.accounts[bytes.fromhex(self.client.uuid)]
        self.assertLess(account.held, 200_000)
        self.assertEqual(self.client.results, {})
        transport = MemoryTransport.of(self.client.controller_link)
        self.assertLess(transport.unsent, 2**21, "what it does not read waits in the journal")
        for _ in range(1000):
            transport.read(10**9)
            self.desk.pump.run()
        self.assertEqual(sorted(self.client.results), ids)
        self.assertEqual({len(value) for _, value in self.client.results.values()}, {50_000})


class CacheTests(JournalCase):
    """Results that are in the journal are held in memory, too, while there is room."""

    config = replace(CONFIG, result_size=100_000)

    def test_they_give_way_to_results_that_nobody_has_read(self) -> None:
        read = self.end(8)
        self.client.silent = True
        self.end(11)
        held = self.desk.tasks.machine.store.results
        self.assertLess(sum(len(finished.payload) for finished in held.values()), 100_000)
        self.assertNotIn(read[0], held)
        other = WireClient(self.desk)
        number = other.ask_later("fetch", taskids=read, wait=True)
        self.write()
        other.answer(number)
        self.assertEqual(other.results, dict.fromkeys(read, (OK, bytes(9000))))
        self.assertEqual(other.ask("submission", taskid=read[0]), [], "it can be submitted again")
        number = other.ask_later("history", limit=100, states=None, before=None, own=False)
        self.write()
        entries = [TaskEntry.unpack(row) for row in other.answer(number)]
        self.assertEqual({entry.what for entry in entries}, {"f"})

    def end(self, number: int) -> list[int]:
        """Some tasks; the journal has their results."""
        ids = []
        for _ in range(number):
            ids += self.submit(b"a", what="f")
            self.engine.end(data=bytes(9000))
            self.write()
        return ids


class RestartTests(JournalCase):
    """The controller is killed, and another one goes on."""

    def test_tasks_go_on_where_they_were(self) -> None:
        ids = self.submit(*(bytes([n]) for n in range(5)))
        self.engine.end()
        self.write()
        self.restart()
        self.assertEqual(self.client.come_back().accepted, 5)
        other = WireEngine(self.desk)
        self.desk.wait(1)
        self.assertEqual(other.runs, {}, "the engine that is missing may have them")
        self.engine.end()
        self.engine.come_back()
        self.engine.end()
        self.desk.pump.run()
        while self.engine.runs or other.runs:
            for each in (self.engine, other):
                each.end(len(each.runs))
        self.write()
        self.assertEqual(sorted(self.client.results), ids)
        self.assertEqual(sorted(self.engine.ran + other.ran), ids, "each ran once")
        self.assertEqual((self.engine.kept, other.kept), ({}, {}))
        self.assertEqual(self.journal.disk.submissions, {})

    def test_new_tasks_do_not_wait_for_engines_that_are_missing(self) -> None:
        old = self.submit(b"a")
        self.restart()
        self.client.come_back()
        other = WireEngine(self.desk)
        new = self.submit(b"b")
        self.assertEqual([key[0] for key in other.runs], new)
        status = self.client.ask("queue_status", verbose=True)
        self.assertEqual(status["reasons"][0][1], old)
        self.assertIn("engine 0 may have it", status["reasons"][0][0])
        self.desk.wait(61)
        self.assertEqual([key[0] for key in other.runs], new + old)

    def test_what_was_not_written_is_sent_again(self) -> None:
        safe = self.submit(b"a")
        lost = self.client.submit([b"b"])
        self.restart()
        answer = self.client.come_back()
        self.assertEqual(answer.arrived, 1)
        self.write()
        self.engine.come_back()
        self.assertEqual(sorted(self.desk.tasks.machine.tasks), safe + lost)

    def test_a_result_that_was_told_and_not_written_is_told_by_its_engine(self) -> None:
        [task] = self.submit(b"a")
        self.engine.end()
        self.assertIn(task, self.client.results)
        self.restart()
        self.client.come_back()
        self.engine.come_back()
        self.write()
        self.assertEqual(self.engine.ran, [task])
        self.assertEqual(self.journal.disk.succeeded, {task})
        self.assertEqual(self.desk.tasks.machine.tasks, {})

    def test_a_client_gets_what_it_lacks_from_the_journal(self) -> None:
        self.client.silent = True
        ids = self.submit(b"a", b"b")
        self.engine.end()
        self.engine.end(data=bytes(400_000))
        self.write()
        self.client.results.clear()
        self.client.silent = False
        self.restart()
        self.client.come_back()
        self.assertEqual(sorted(self.client.results), ids)
        account = self.desk.tasks.machine.clients.accounts[bytes.fromhex(self.client.uuid)]
        self.assertEqual((account.arrived, account.released), (2, 2))

    def test_a_result_that_was_dropped_is_told_of(self) -> None:
        self.client.silent = True
        [task] = self.submit(b"a")
        self.engine.end()
        self.write()
        self.client.results.clear()
        self.journal.disk.results.clear()
        self.restart()
        self.client.come_back()
        status, (name, message) = self.client.results[task]
        self.assertEqual((status, name), (REFUSED, "ResultAlreadyRetrieved"))
        self.assertIn("no longer kept", message)

    def test_ids_go_on_where_they_ended(self) -> None:
        [before] = self.submit(b"a")
        self.restart()
        other = WireClient(self.desk)
        self.assertGreater(other.ids[0], self.client.ids[-1])
        self.client.come_back()
        self.assertEqual(self.submit(b"b"), [before + 1])

    def test_large_tasks_are_read_when_they_are_run(self) -> None:
        data = b"x" * 300_000
        [task] = self.submit(data)
        self.engine.cut()
        self.engine.runs.clear()
        self.restart()
        self.client.come_back()
        [record] = self.desk.tasks.machine.tasks.values()
        self.assertNotIsInstance(record.payload, bytes)
        self.engine.come_back()
        self.desk.pump.run()
        [got] = self.engine.runs.values()
        self.assertTrue(got == data, len(got))
        self.engine.end(data=b"done")
        self.assertEqual(self.client.results[task], (OK, b"done"))

    def test_retries_are_counted_anew(self) -> None:
        """What the documents say of it: runs that failed before do not count."""
        [task] = self.submit(b"a", retries=1)
        self.engine.end(status=Status.FAILED)
        self.write()
        self.restart()
        self.client.come_back()
        self.engine.come_back()
        self.engine.end(status=Status.FAILED)
        self.write()
        self.assertEqual(self.client.results, {})
        self.engine.end(status=Status.FAILED)
        self.write()
        self.assertEqual(self.client.results[task][0], Status.FAILED)
        self.assertEqual(self.engine.ran, [task] * 3)

    def test_functions_and_recovery_tasks_are_there_again(self) -> None:
        digest = b"d" * 16
        options = OptionsSpec(b"t" * 16, functions=(digest,))
        self.client.send(taskwire.FUNCTION, 0, digest, b"code")
        self.client.submit([b"a"], recovery=[(options.pack(), b"instead")])
        self.write()
        self.restart()
        self.client.come_back()
        fresh = WireEngine(self.desk)
        self.write()
        self.desk.wait(61)
        fresh.end(status=Status.FAILED)
        self.assertEqual(list(fresh.runs.values()), [b"instead"])
        self.assertEqual(fresh.functions, {digest: b"code"})

    def test_a_function_is_not_forgotten_before_its_tasks_are_known_to_be_done(self) -> None:
        digest = b"d" * 16
        self.client.send(taskwire.FUNCTION, 0, digest, b"code")
        [task] = self.submit(b"a", functions=(digest,))
        self.engine.end()
        self.desk.service.clients.goodbye(self.client.uuid, "it leaves")
        self.desk.pump.run()
        self.journal.commit()  # and what waits to be written is not written any more
        self.restart()
        self.engine.come_back()
        other = WireClient(self.desk)
        self.write()
        other.ask("fetch", taskids=[task], wait=True)
        self.write()
        self.assertEqual(other.results[task], (OK, b"result of a"))

    def test_nor_when_its_client_forgets_it(self) -> None:
        digest = b"d" * 16
        self.client.send(taskwire.FUNCTION, 0, digest, b"code")
        [task] = self.submit(b"a", functions=(digest,))
        self.engine.end()
        self.client.send(taskwire.FORGET, 0, digest)
        self.desk.pump.run()
        self.journal.commit()
        self.restart()
        self.assertIn(task, self.journal.disk.succeeded)
        self.assertEqual(self.desk.tasks.machine.tasks, {})

    def test_a_task_whose_function_is_lost_fails_and_says_so(self) -> None:
        digest = b"d" * 16
        self.client.send(taskwire.FUNCTION, 0, digest, b"code")
        [task] = self.submit(b"a", functions=(digest,))
        self.journal.disk.functions.clear()
        self.restart()
        self.client.come_back()
        self.desk.pump.run()
        status, (name, message) = self.client.results[task]
        self.assertEqual((status, name), (REFUSED, "JournalError"))
        self.assertIn("function", message)

    def test_an_engine_stops_what_was_settled_meanwhile(self) -> None:
        [task] = self.submit(b"a")
        self.restart()
        self.client.come_back()
        self.client.ask("abort", taskid=task)
        self.assertEqual(self.client.results[task][1][0], "TaskAborted")
        [run] = self.engine.runs
        self.engine.come_back()
        self.assertEqual(self.engine.stopped, [run])

    def test_an_aborted_task_is_not_run_again(self) -> None:
        """Its client has the result; the controller is killed before it has written that."""
        for engine_first in (False, True):
            self.setUp()
            [task] = self.submit(b"a", retries=3)
            self.client.ask("abort", taskid=task)
            self.engine.end(1, Status.STOPPED, self.engine.verdict)
            self.assertEqual(self.client.results[task][1][0], "TaskAborted")
            self.restart()
            parties = [self.client, self.engine]
            for party in reversed(parties) if engine_first else parties:
                party.come_back()
                self.write()
            self.assertEqual(self.engine.runs, {})
            self.assertEqual(self.desk.tasks.machine.tasks, {})
            self.assertEqual(self.journal.disk.failed, {task})

    def test_a_stop_that_was_under_way_is_not_forgotten(self) -> None:
        [task] = self.submit(b"a", retries=3)
        self.client.ask("abort", taskid=task)
        self.restart()
        self.client.come_back()
        self.engine.end(1, Status.STOPPED, self.engine.verdict)
        self.engine.come_back()
        self.write()
        status, (name, message) = self.client.results[task]
        self.assertEqual((status, name), (REFUSED, "TaskAborted"))
        self.assertEqual(message, f"task {task} was aborted")
        self.assertEqual(self.engine.runs, {})

    def test_a_run_for_nothing_is_called_off(self) -> None:
        """The engine died with its result; its client tells of it when the task runs again."""
        [task] = self.submit(b"a")
        self.engine.end()
        self.assertIn(task, self.client.results)
        self.engine.cut()
        self.restart()
        other = WireEngine(self.desk)
        self.write()
        self.desk.wait(61)
        [run] = other.runs
        self.client.come_back()
        self.write()
        self.assertEqual(other.stopped, [run])
        self.assertEqual(self.desk.tasks.machine.tasks, {})
        self.assertEqual(self.journal.disk.succeeded, {task})

    def test_an_old_run_does_not_stand_for_a_newer_one_on_the_same_engine(self) -> None:
        """The engine was given up, came back, and got the task again; it still had to tell the end of the old run."""
        [task] = self.submit(b"a", retries=1)
        self.engine.cut()
        self.desk.wait(11)
        self.engine.connect()
        self.write()
        self.assertEqual([key[0] for key in self.engine.runs], [task, task])
        self.engine.cut()
        self.engine.end(1, Status.STOPPED)
        self.engine.end()
        self.restart()
        self.client.come_back()
        self.engine.come_back()
        self.write()
        self.assertEqual(self.engine.runs, {}, "the result is there; it does not run again")
        self.assertEqual(self.client.results[task], (OK, b"result of a"))

    def test_a_run_that_failed_does_not_stand_for_a_newer_one_on_another_engine(self) -> None:
        for ends_first in (False, True):
            self.setUp()
            other = WireEngine(self.desk)
            self.write()
            [task] = self.submit(b"a", retries=5)
            first, second = (self.engine, other) if self.engine.runs else (other, self.engine)
            run = next(iter(first.runs))
            second.runs[task, run[1] + 1] = (
                b"a"  # as if it had failed with the first, which still tells of that
            )
            if ends_first:
                first.cut()
                first.end(1, Status.FAILED)
            self.restart(other)
            self.client.come_back()
            first.come_back()
            self.write()
            self.assertEqual([key[0] for key in first.runs], [] if ends_first else [task])
            second.come_back()
            self.write()
            self.assertEqual(first.stopped, [] if ends_first else [run])
            self.assertEqual((len(second.runs), second.stopped), (1, []))
            second.end()
            self.assertEqual(self.client.results[task], (OK, b"result of a"))

    def test_tasks_of_a_client_that_is_gone_go_on(self) -> None:
        [task] = self.submit(b"a")
        self.desk.service.clients.goodbye(self.client.uuid, "it died")
        self.write()
        self.restart()
        self.engine.come_back()
        self.engine.end()
        self.write()
        self.assertIn(task, self.journal.disk.results)
        self.assertNotIn(bytes.fromhex(self.client.uuid), self.desk.tasks.machine.clients.accounts)


class HistoryTests(JournalCase):
    """What was, and running it again."""

    def history(self, client: WireClient, **args: Any) -> list[list[Any]]:
        question = {"limit": 100, "before": None, "states": None, "own": False, **args}
        answer: list[list[Any]] = client.ask("history", **question)
        return answer

    def test_all_tasks(self) -> None:
        ids = self.submit(b"a", b"b", b"c")
        self.engine.end()
        self.engine.end(status=Status.FAILED)
        self.write()
        other = WireClient(self.desk)
        [mine] = other.submit([b"d"])
        self.write()
        for _ in range(2):
            entries = self.history(other)
            self.assertEqual([entry[0] for entry in entries], [*ids, mine])
            self.assertEqual(entries[0][1], self.client.uuid)
            states = [entry[3] for entry in entries]
            self.assertEqual(states, ["succeeded", "failed", "pending", "scheduled"])
            self.assertEqual([entry[8] for entry in entries], [11, 11, None, None])
            self.desk.tasks.machine.store.results.clear()  # the rest is in the journal
        self.assertEqual([e[0] for e in self.history(other, own=True)], [mine])
        self.assertEqual([e[0] for e in self.history(other, limit=2)], [ids[2], mine])
        self.assertEqual([e[0] for e in self.history(other, before=ids[2])], ids[:2])
        self.assertEqual([e[0] for e in self.history(other, states=["failed"])], ids[1:2])

    def test_bad_questions(self) -> None:
        for args in ({"limit": -1}, {"limit": 10**6}, {"states": ["lost"]}, {"before": "x"}):
            self.submit(b"a")
            with self.assertRaisesRegex(RuntimeError, "ProtocolError"):
                self.history(self.client, **args)

    def test_what_was_submitted(self) -> None:
        digest = b"d" * 16
        options = OptionsSpec(b"t" * 16, functions=(digest,))
        self.client.send(taskwire.FUNCTION, 0, digest, b"code")
        recovery = [(options.pack(), b"instead"), (OPTIONS.pack(), b"at last")]
        [task] = self.client.submit([b"a"], recovery=recovery)
        self.write()
        for _ in range(3):
            self.client.frames.clear()
            self.assertEqual(self.client.ask("submission", taskid=task), [digest.hex()])
            [(_, meta, code), (_, _, frame)] = self.client.frames
            self.assertEqual((meta, code), (digest, b"code"))
            [entry] = taskwire.unpack_submissions(frame, bytes)
            self.assertEqual(
                (entry.payload, [each[1] for each in entry.recovery]),
                (b"a", [b"instead", b"at last"]),
            )
            self.engine.end(status=Status.FAILED)
        self.assertEqual(self.client.results[task][0], Status.FAILED)
        self.write()
        self.restart()
        self.client.come_back()
        with self.assertRaisesRegex(
            RuntimeError, "no longer kept, so it cannot be submitted again"
        ):
            self.client.ask("submission", taskid=task)
        with self.assertRaisesRegex(RuntimeError, "IndexError"):
            self.client.ask("submission", taskid=10**6)


class LimitTests(JournalCase):
    """Time limits, and tasks that no engine can run."""

    config = replace(CONFIG, unrunnable_after=30.0)

    def test_a_frozen_engine_is_killed_and_its_task_tried_elsewhere(self) -> None:
        first, second = self.submit(b"a", b"b", timeout=2.0, retries=3)
        self.assertEqual(len(self.engine.runs), 2)
        self.desk.wait(1.9)
        self.assertEqual(self.engine.stopped, [])
        self.desk.wait(0.2)
        self.assertEqual([key[0] for key in self.engine.stopped], [first])
        self.desk.wait(2.1)
        self.assertEqual(self.engine.killed, 1)
        self.desk.service.unregister_engine(self.engine.id, "it was killed")
        other = WireEngine(self.desk)
        self.write()
        attempts = {key[0]: key[1] for key in other.runs}
        self.assertEqual(set(attempts), {first, second})
        trouble = {r.id: r.trouble for r in self.desk.tasks.machine.tasks.values()}
        self.assertEqual(trouble[first].used, 1)
        self.assertIsNone(trouble[second], "it only waited behind the other")

    def test_tasks_that_no_engine_can_run(self) -> None:
        self.desk.service.unregister_engine(self.engine.id, "it is gone")
        [task] = self.submit(b"a")
        [(reason, ids)] = self.client.ask("queue_status", verbose=True)["reasons"]
        self.assertEqual((reason, ids), ("no engine is registered", [task]))
        for _ in range(29):
            self.desk.wait(1)
        self.assertEqual(self.client.results, {})
        for _ in range(15):
            self.desk.wait(1)
        status, (name, message) = self.client.results[task]
        self.assertEqual((status, name), (REFUSED, "TaskTimeout"))
        self.assertEqual(
            message, f"no engine could run task {task} for 30 s: no engine is registered"
        )

    def test_dependencies_that_are_false_everywhere(self) -> None:
        digest = b"d" * 16
        self.client.send(taskwire.FUNCTION, 0, digest, b"code")
        [task] = self.submit(b"a", depend=digest)
        self.engine.send(taskwire.DEPENDS, 0, taskwire.pack_depends(digest, False))
        self.desk.pump.run()
        [(reason, ids)] = self.client.ask("queue_status", verbose=True)["reasons"]
        self.assertEqual((reason, ids), ("its depend function is false on engine 0", [task]))

    def test_dependencies_that_raise(self) -> None:
        digest = b"d" * 16
        self.client.send(taskwire.FUNCTION, 0, digest, b"code")
        [task] = self.submit(b"a", depend=digest)
        self.engine.send(
            taskwire.DEPENDS, 0, taskwire.pack_depends(digest, False, "NameError: 'np'")
        )
        self.desk.pump.run()
        [(reason, ids)] = self.client.ask("queue_status", verbose=True)["reasons"]
        told = "its depend function raised NameError: 'np' on engine 0, which counts as false"
        self.assertEqual((reason, ids), (told, [task]))
        self.desk.wait(2)
        [note] = [text for kind, _, text in self.client.frames if kind == taskwire.NOTE]
        self.assertIn(f"task {task} waits: {told}. It is called again when", note.decode())


class RefusalTests(JournalCase):
    """What a party does not take is told, and waits nowhere."""

    def test_an_engine_that_has_no_memory_for_a_task(self) -> None:
        def no_memory(size: int) -> Any:
            raise MemoryError(f"not enough memory for {size} bytes")

        self.client.submit([b"x" * 300_000])
        # From here on; the controller itself has it.
        self.patch(bulk, "allocate", no_memory)
        self.write()
        self.desk.wait(1)
        [(status, (name, message))] = self.client.results.values()
        self.assertEqual((status, name), (REFUSED, "MessageSizeError"))
        self.assertIn("engine 0 did not take task", message)
        self.assertIn("not enough memory", message)

    def test_a_controller_that_has_no_memory_for_a_task(self) -> None:
        def no_memory(size: int) -> Any:
            raise MemoryError(f"not enough memory for {size} bytes on the receiving side")

        self.patch(bulk, "allocate", no_memory)
        [before] = self.client.submit([b"a"])
        [large] = self.client.submit([b"x" * 300_000])
        [behind] = self.client.submit([b"b"])
        self.assertEqual(
            self.client.results, {}, "nothing is told before what came earlier is safe"
        )
        self.write()
        self.engine.end()
        self.engine.end()
        self.write()
        self.desk.wait(1)
        self.assertEqual(sorted(self.client.results), [before, large, behind])
        self.assertEqual(
            self.client.results[large],
            (
                REFUSED,
                (
                    "MessageSizeError",
                    f"the controller did not take task {large} (300000 bytes): "
                    "not enough memory for 300000 bytes on the receiving side",
                ),
            ),
        )
        self.assertEqual(self.client.accepted, 3)
        account = self.desk.tasks.machine.clients.accounts[bytes.fromhex(self.client.uuid)]
        self.assertEqual((account.released, account.released_size), (3, 300_002), "its credit")
        self.assertEqual(self.journal.disk.failed, {large})
        with self.assertRaisesRegex(RuntimeError, "did not get all of the task"):
            self.client.ask("submission", taskid=large)

    def test_a_client_that_has_no_memory_for_a_result(self) -> None:
        [task] = self.submit(b"a")
        allocate = bulk.allocate
        calls = []

        def no_memory(size: int) -> Any:
            calls.append(size)
            if len(calls) > 1:  # the first is the controller's own
                raise MemoryError(f"not enough memory for {size} bytes")
            return allocate(size)

        self.patch(bulk, "allocate", no_memory)
        self.engine.end(data=bytes(500_000))
        self.desk.wait(1)
        status, (name, message) = self.client.results[task]
        self.assertEqual((status, name), (REFUSED, "MessageSizeError"))
        self.assertIn("the client did not take the result of task", message)
        self.write()
        self.assertEqual(self.journal.disk.succeeded, {task}, "it is kept for others")

    def test_garbage_costs_its_engine_only(self) -> None:
        other = WireEngine(self.desk)
        ids = self.submit(b"a", b"b", b"c", b"d")
        self.engine.send(taskwire.RESULTS, 7, b"", b"garbage")
        self.desk.pump.run()
        self.assertIsNone(self.engine.link)
        self.desk.wait(11)
        while other.runs:
            other.end()
        self.assertEqual(sorted(self.client.results), ids)
        self.flushLoggedErrors()

    def test_rows_that_are_missing_cost_the_connection(self) -> None:
        self.submit(b"a")
        self.engine.end()
        assert self.engine.link is not None
        for parts, size in taskwire.pack_results([(10**6, 1, 0, 0.1, b"")], 5):
            self.engine.link.send_packed(parts, size)
        self.desk.pump.run()
        self.assertIsNone(self.engine.link)
        self.flushLoggedErrors()
