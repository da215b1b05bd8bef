"""Full disks and other trouble, what is kept and for how long, and many rows."""

from __future__ import annotations

import os
import random
import resource
import sqlite3
import threading
from typing import Any

from twisted.internet.defer import Deferred

from ipython1.kernel.basics.error import JournalError
from ipython1.kernel.controller.journal import tasktables
from ipython1.kernel.controller.journal.journal import FULL, WritingJournal
from ipython1.kernel.controller.journal.opening import JournalSettings, open_store
from ipython1.kernel.controller.journal.payloads import LARGE
from ipython1.kernel.controller.journal.plan import Plan
from ipython1.kernel.controller.journal.rows import PayloadFile, ResultBatch
from ipython1.kernel.controller.journal.store import Limits, Store
from ipython1.kernel.controller.journal.tables import VERSION, Damaged, NewerVersion, migrate
from ipython1.kernel.controller.journal.taskreading import fetch_results, task_history
from ipython1.kernel.controller.journal.tasktables import JOIN_AT
from ipython1.kernel.controller.journal.tests.support import (
    CLIENT,
    JournalCase,
    batch,
    client,
    command,
    done_row,
    outcome,
    payload_of,
    safe,
    submission,
)
from ipython1.kernel.wire.taskwire import DONE_HEAD

LARGEST = 24 * 2**20
"""Bytes of the largest file on the full disk; the test's own logs fit into it."""


async def told(journal: WritingJournal) -> str:
    """The next change of its trouble."""
    news: Deferred[str] = Deferred()
    journal.on_trouble_do(lambda text: None if news.called else news.callback(text))
    return await news


class TroubleTests(JournalCase):
    async def limit(self, journal: WritingJournal, pages: int) -> None:
        """Let the database have so many pages more, as a full disk would."""

        def change(store: Store) -> None:
            [(now,)] = store.db.execute("PRAGMA page_count").fetchall()
            store.db.execute(f"PRAGMA max_page_count = {now + pages}").fetchall()

        await journal._ask(change)

    async def test_a_full_disk_is_waited_for(self) -> None:
        journal = await self.opened()
        await safe(journal, journal.client_came(client(CLIENT)))
        await self.limit(journal, 5)
        done: list[int] = []
        for number in range(20):
            ticket = journal.submission(submission(CLIENT, number, 1, os.urandom(100_000)))
            journal.when_safe(ticket, lambda number=number: done.append(number))
        self.assertIn("full", await told(journal))
        self.assertIn("full", journal.trouble)
        before = len(done)
        self.assertLess(before, 20)
        # What can be read is read; what is new waits too.
        self.assertEqual(await journal.fetch_results([1]), {})
        last = journal.submission(submission(CLIENT, 20, 1))
        self.assertEqual(len(done), before)
        await self.limit(journal, 10_000)
        self.assertEqual(await told(journal), "")
        await safe(journal, last)
        self.assertEqual((done, journal.trouble), (list(range(20)), ""))
        await journal.close()
        journal = await self.opened()
        self.assertEqual([row.first for row in journal.recovered.submissions], list(range(21)))
        await journal.close()
        self.flushLoggedErrors()

    async def test_payload_files_are_waited_for(self) -> None:
        journal = await self.opened()
        payloads = self.directory / "payloads"
        hidden = payloads.with_name("hidden")
        payloads.rename(hidden)
        first = journal.client_came(client(CLIENT))
        ticket = journal.submission(submission(CLIENT, 0, 1)._replace(bodies=os.urandom(200_000)))
        self.assertIn("No such file", await told(journal))
        await safe(journal, first)
        hidden.rename(payloads)
        await safe(journal, ticket)
        await journal.close()
        journal = await self.opened()
        [row] = journal.recovered.submissions
        self.assertEqual(len(await journal.read_payload(row.bodies or b"", 0, 10**6)), 200_000)
        await journal.close()

    async def test_it_says_when_too_much_waits(self) -> None:
        journal = await self.opened()
        await self.limit(journal, 5)
        room: Deferred[None] = Deferred()
        journal.on_room_do(lambda: room.callback(None))
        size = 1_000_000
        count = 0
        while not journal.overfull:
            journal.submission(submission(CLIENT, count, 1, bytes(size)))
            count += 1
        self.assertLess(count, FULL // size + 2)
        await told(journal)
        await self.limit(journal, 100_000)
        await room
        self.assertFalse(journal.overfull)
        await journal.close()

    async def test_it_ends_in_trouble(self) -> None:
        journal = await self.opened()
        await safe(journal, journal.submission(submission(CLIENT, 0, 1)))
        await self.limit(journal, 2)
        safe_after_all: list[None] = []
        ticket = journal.submission(submission(CLIENT, 1, 1, bytes(100_000)))
        journal.when_safe(ticket, lambda: safe_after_all.append(None))
        await told(journal)
        await journal.close()
        self.assertEqual(safe_after_all, [])
        journal = await self.opened()
        self.assertEqual([row.first for row in journal.recovered.submissions], [0])
        self.assertEqual(journal.recovered.lost, "")
        await journal.close()

    async def test_a_question_that_fails_costs_nothing_else(self) -> None:
        journal = await self.opened()
        with self.assertRaises(ZeroDivisionError):
            await journal._ask(lambda store: 1 / 0)
        await safe(journal, journal.client_came(client(CLIENT)))
        await journal.close()


class PayloadTests(JournalCase):
    async def test_pieces(self) -> None:
        journal = await self.opened()
        data = os.urandom(3_000_001)
        for sizes in (
            (1, 300_000, 400_000),
            (262_144, 262_144, 175_713),
            (700_001,),
            (),
            (1, 3_000_000),
        ):
            writer = journal.new_payload()
            end = 0
            for size in sizes:
                writer.add(data[end : end + size])
                end += size
            file = writer.finish()
            self.assertEqual(file.size, end)
            row = submission(CLIENT, len(sizes), 1)._replace(bodies=file)
            await safe(journal, journal.submission(row))
            for offset, size in ((0, end), (262_000, 400), (end - 5, 10), (end, 5), (0, 0)):
                found = await journal.read_payload(file, max(offset, 0), size)
                self.assertEqual(found, data[:end][max(offset, 0) :][:size])
        await journal.close()

    async def test_files_that_begin_together_are_not_mixed(self) -> None:
        journal = await self.opened()
        writers = [journal.new_payload() for _ in range(3)]
        for number, writer in enumerate(writers * 2):
            writer.add(bytes((number % 3,)) * 1000)
        rows = [
            submission(CLIENT, number, 1)._replace(bodies=writer.finish())
            for number, writer in enumerate(writers)
        ]
        await safe(journal, [journal.submission(row) for row in rows][-1])
        for number, row in enumerate(rows):
            assert isinstance(row.bodies, PayloadFile)
            data = await journal.read_payload(row.bodies, 0, 5000)
            self.assertEqual(data, bytes((number,)) * 2000)
        await journal.close()

    async def test_a_large_piece_that_could_not_be_written_is_written_again(self) -> None:
        journal = await self.opened()
        data = os.urandom(LARGE) * (2 * LARGEST // LARGE)
        writer = journal.new_payload()
        first = writer.add(memoryview(data)[:100])
        await safe(journal, first)
        size = self.most_of_a_file(LARGEST)
        writer.add(memoryview(data)[100:])
        file = writer.finish()
        ticket = journal.submission(submission(CLIENT, 0, 1)._replace(bodies=file))
        self.assertIn("File too large", await told(journal))
        self.most_of_a_file(size)
        await safe(journal, ticket)
        self.assertEqual(await journal.read_payload(file, 0, len(data)), data)
        await journal.close()

    async def test_large_pieces_are_written_when_no_thread_can_be_started(self) -> None:
        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        journal = await self.opened()
        self.patch(threading.Thread, "start", refuse)
        data = os.urandom(2 * LARGE + 5)
        writer = journal.new_payload()
        writer.add(data)
        file = writer.finish()
        await safe(journal, journal.submission(submission(CLIENT, 0, 1)._replace(bodies=file)))
        self.assertEqual(await journal.read_payload(file, 0, len(data)), data)
        await journal.close()

    def most_of_a_file(self, size: int) -> int:
        """Let files of this process have so many bytes, as a full disk would; returns what they could have."""
        before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, (before, most))
        return before

    async def test_what_is_abandoned_or_was_never_named_is_removed(self) -> None:
        journal = await self.opened()
        abandoned = journal.new_payload()
        abandoned.add(bytes(100))
        abandoned.abandon()
        named = journal.new_payload()
        named.add(bytes(100))
        file = named.finish()
        number = journal.submission(submission(CLIENT, 0, 1)._replace(bodies=file))
        journal.new_payload().add(b"cut off")
        forgotten = journal.new_payload()
        forgotten.add(bytes(10))
        forgotten.finish()
        await safe(journal, number)
        await journal.close()
        journal = await self.opened()
        self.assertEqual(os.listdir(self.directory / "payloads"), [file.name])
        await safe(journal, journal.submissions_over([number]))
        self.assertEqual(os.listdir(self.directory / "payloads"), [])
        with self.assertRaisesRegex(JournalError, "cannot be read: No such file"):
            await journal.read_payload(file, 0, 10)
        await journal.close()


class KeepingTests(JournalCase):
    """Of results and outcomes, the oldest go first."""

    def stored(self, now: list[float], **limits: float) -> Store:
        settings = JournalSettings(self.directory, limits=Limits(**limits))  # type: ignore[arg-type]
        store, self.recovered = open_store(settings, now=lambda: now[0])
        return store

    def tidied(self, store: Store) -> list[tuple[int, int]]:
        dropped = []
        while (effects := store.tidy()) is not None:
            dropped += effects.dropped
            store.files.remove(effects.files)
        return dropped

    def test_by_age(self) -> None:
        now = [1000.0]
        store = self.stored(now, age=100.0)
        for number in range(3):
            late = 1000.0 + number
            results = [batch(CLIENT, [number * 10, number * 10 + 1], [number * 10 + 2], 20, late)]
            ended = [(10 + number, outcome(CLIENT, number, 0)._replace(completed=late))]
            store.write(Plan(ticket=number + 1, results=results, outcomes=ended))
        self.assertEqual(self.tidied(store), [])
        now[0] = 1101.5
        self.assertEqual(sorted(self.tidied(store)), [(0, 2), (2, 3), (10, 12), (12, 13)])
        self.assertEqual((store.tasks.results.count, store.commands.outcomes), (3, 1))
        store.close()
        now[0] = 2000.0
        store = self.stored(now, age=100.0)
        # That they are done is not forgotten.
        self.assertEqual(list(self.recovered.succeeded), [0, 1, 10, 11, 20, 21])
        self.assertEqual(list(self.recovered.failed), [2, 12, 22])
        self.tidied(store)
        self.assertEqual((store.kept, store.tasks.oldest, store.commands.oldest), (0, None, None))
        store.close()

    def test_by_size(self) -> None:
        store = self.stored([1000.0], age=1e9, size=50_000)
        for ticket, number in enumerate(range(500), 1):
            late = 1000.0 + number
            plan = Plan(ticket, results=[batch(CLIENT, [number], (), 1000, late)])
            if number % 10 == 0:
                file = PayloadFile(f"{number}", 1000)
                store.files.append(file.name, bytes(1000))
                store.files.finish(file.name)
                plan.outcomes.append(
                    (ticket, outcome(CLIENT, number, 0)._replace(payload=file, completed=late))
                )
            store.write(plan)
        dropped = self.tidied(store)
        self.assertLessEqual(store.kept, 50_000)
        self.assertGreater(store.kept, 45_000)
        first = dropped[-1][1]
        self.assertEqual(sum(stop - start for start, stop in dropped), first)
        self.assertEqual(store.tasks.results.count, 500 - first)
        self.assertEqual(store.commands.outcomes, sum(n >= first for n in range(0, 500, 10)))
        self.assertEqual(len(os.listdir(self.directory / "payloads")), store.commands.outcomes)
        store.close()

    async def test_the_owner_is_told(self) -> None:
        journal = await self.opened(limits=Limits(size=1000))
        dropped: Deferred[Any] = Deferred()
        journal.on_dropped_do(dropped.callback)
        await safe(journal, journal.results([batch(CLIENT, range(10, 30), (), 100)]))
        self.assertEqual(await dropped, [(10, 30)])
        self.assertEqual(await journal.fetch_results(range(100)), {})
        await journal.close()

    def test_rows_of_what_is_finished_are_joined(self) -> None:
        store = self.stored([1000.0])
        kept = [submission(CLIENT, 0, 100), submission(CLIENT, 5000, 100)]
        rows = [row._replace(number=index + 1) for index, row in enumerate(kept)]
        store.write(Plan(ticket=2, submissions=rows))
        for number in range(JOIN_AT + 5):
            ids = [10 * number, 10 * number + 1]
            store.write(
                Plan(ticket=number + 3, results=[ResultBatch(CLIENT, 1.0, ids[:1], ids[1:])])
            )
        store.write(Plan(ticket=5000, results=[batch(CLIENT, range(20_000, 20_010))]))
        cleared = [(10 * n, 10 * n + 2) for n in range(500)] + [(20_000, 20_004)]
        store.write(Plan(ticket=5001, cleared=cleared))
        self.assertEqual(self.tidied(store), [])
        [(count,)] = store.db.execute("SELECT count(*) FROM finished").fetchall()
        self.assertEqual(count, 1)
        store.close()
        store = self.stored([1000.0])
        expected = [10 * n for n in range(500, JOIN_AT + 5)]
        self.assertEqual(list(self.recovered.succeeded), [*expected, *range(20_004, 20_010)])
        self.assertEqual(list(self.recovered.failed), [n + 1 for n in expected])
        # Needed, so that they are not run again.
        self.assertEqual(list(self.recovered.cleared), [n for n in range(100) if n % 10 < 2])
        # Other tasks may still be submitted that run after them.
        first = [10 * n for n in range(500)]
        self.assertEqual(list(self.recovered.past_succeeded), [*first, *range(20_000, 20_004)])
        self.assertEqual(list(self.recovered.past_failed), [n + 1 for n in first])
        [partly] = store.tasks.results.partly.values()
        self.assertEqual(partly.ranges(), [(20_000, 20_004)])
        store.close()
        self.patch(tasktables, "MOST_RANGES", 10)
        store = self.stored([1000.0])
        for number in range(JOIN_AT + 5):
            results = [ResultBatch(CLIENT, 1.0, [50_000 + 2 * number], [])]
            store.write(Plan(ticket=6000 + number, results=results))
        self.assertEqual(self.tidied(store), [])
        store.close()
        store = self.stored([1000.0])
        self.assertEqual(list(self.recovered.cleared), [n for n in range(100) if n % 10 < 2])
        self.assertLess(len(self.recovered.past_succeeded), 20)
        self.assertEqual(list(self.recovered.failed), [n + 1 for n in expected])
        store.close()

    def test_small_rows_of_results_are_joined(self) -> None:
        rng = random.Random(1)
        store = self.stored([2e9])
        expected: dict[int, bytes] = {}
        clients = [CLIENT, b"B" * 16]
        next_id = 0
        for ticket in range(1, 601):
            next_id += rng.choice((1, 1, 1, 5, 70_000) if ticket > 400 else (1, 2))
            ids = list(range(next_id, next_id + rng.choice((1, 1, 2, 5))))
            next_id = ids[-1]
            size = rng.choice((0, 10, 3000))
            late = 2e9 - 10_000 + ticket
            row = batch(rng.choice(clients), ids[1:], ids[:1], size, late)
            plan = Plan(ticket, results=[row])
            expected.update((task_id, payload_of(task_id, size)) for task_id in ids)
            if rng.random() < 0.2:
                gone = rng.choice(list(expected))
                del expected[gone]
                plan.cleared.append((gone, gone + 1))
            store.write(plan)
            self.tidied(store)
        history = task_history(store.db, 10_000, None, store.tasks.results.partly)
        for _ in range(2):
            [(count,)] = store.db.execute("SELECT count(*) FROM results").fetchall()
            self.assertLess(count, 300)
            results = store.tasks.results
            found = fetch_results(store.db, range(next_id + 1), results.partly)
            self.assertEqual({n: result.payload for n, result in found.items()}, expected)
            self.assertEqual(len(history), len(expected))
            self.assertEqual(history, sorted(history, key=lambda known: -known.completed))
            total = results.count, results.size
            store.close()
            store = self.stored([2e9])
            self.assertEqual({*self.recovered.succeeded, *self.recovered.failed}, expected.keys())
            self.assertEqual((store.tasks.results.count, store.tasks.results.size), total)
        store.close()

    def test_old_commands_are_forgotten(self) -> None:
        store = self.stored([2e9])
        for number in range(12):
            some = range(number * 1000, number * 1000 + 1000)
            store.write(
                Plan(
                    ticket=(number + 1) * 2000,
                    commands=[(n + 1, command(CLIENT, n, [0])) for n in some],
                    commands_over=[(CLIENT, n) for n in some if n],
                )
            )
        self.tidied(store)
        [(count,)] = store.db.execute("SELECT count(*) FROM commands").fetchall()
        self.assertLess(count, 11_002)
        self.assertEqual(list(store.commands.open), [(CLIENT, 0)])
        store.close()


class ManyTests(JournalCase):
    async def test_batches_that_spread_widely(self) -> None:
        journal = await self.opened()
        ids = [n * 7_001 for n in range(100)] + [5, 6, 10**15]
        await safe(journal, journal.results([batch(CLIENT, ids[10:], ids[:10])]))
        found = await journal.fetch_results([*ids, 7, 8, 10**15 + 1])
        self.assertEqual(
            {n: result.payload for n, result in found.items()}, {n: payload_of(n) for n in ids}
        )
        self.assertEqual(DONE_HEAD.unpack(found[7_001].head)[2], 1)
        await journal.close()
        journal = await self.opened()
        self.assertEqual(list(journal.recovered.succeeded), sorted(ids[10:]))
        self.assertEqual(list(journal.recovered.failed), sorted(ids[:10]))
        await journal.close()

    async def test_a_large_result(self) -> None:
        journal = await self.opened()
        large = os.urandom(300_000)
        row = ResultBatch(CLIENT, 2e9, [3], (), [done_row(3, b"")], large)
        await safe(journal, journal.results([row]))
        [stored] = (await journal.fetch_results([3])).values()
        self.assertEqual(await journal.read_payload(stored.payload, 0, 10**6), large)
        [known] = await journal.task_history(5)
        self.assertEqual((known.task_id, known.size), (3, 300_000))
        journal.lease_given(CLIENT, 0, 10)
        await safe(journal, journal.cleared([(0, 10)]))
        self.assertEqual(os.listdir(self.directory / "payloads"), [])
        await journal.close()

    async def test_history_in_pages(self) -> None:
        journal = await self.opened()
        for number in range(100):
            late = 2e9 + number
            ids = [3 * number, 3 * number + 1, 3 * number + 2]
            ticket = journal.results([batch(CLIENT, ids, (), 20, late)])
        await safe(journal, ticket)
        seen: list[int] = []
        before = None
        while page := await journal.task_history(30, before):
            seen += [known.task_id for known in page]
            before = page[-1].completed
        self.assertEqual(seen, list(range(299, -1, -1)))
        await journal.close()

    async def test_a_submission_and_its_results_in_one_commit_leave_no_row(self) -> None:
        journal = await self.opened()
        journal.lease_given(CLIENT, 0, 10)
        number = journal.submission(submission(CLIENT, 0, 10))
        await safe(journal, journal.results([ResultBatch(CLIENT, 1.0, range(10), ())], [number]))
        await journal.close()
        journal = await self.opened()
        self.assertEqual(journal.recovered.submissions, ())
        self.assertEqual(journal.recovered.succeeded.ranges(), [(0, 10)])
        [lease] = journal.recovered.leases
        self.assertEqual(lease.next, 10)
        await journal.close()


class VersionTests(JournalCase):
    def test_migration(self) -> None:
        store, _ = open_store(JournalSettings(self.directory))
        db = store.db

        def add_colour(db: sqlite3.Connection) -> None:
            db.execute("ALTER TABLE engines ADD COLUMN colour TEXT")

        def add_shape(db: sqlite3.Connection) -> None:
            db.execute("ALTER TABLE engines ADD COLUMN shape TEXT")

        steps = {VERSION: add_colour, VERSION + 1: add_shape}
        migrate(db, VERSION + 2, steps)
        self.assertEqual(db.execute("PRAGMA user_version").fetchone(), (VERSION + 2,))
        self.assertEqual(db.execute("SELECT version FROM state").fetchone(), (VERSION + 2,))
        self.assertEqual(db.execute("SELECT colour, shape FROM engines").fetchall(), [])
        migrate(db, VERSION + 2, steps)  # nothing is left to do
        with self.assertRaises(NewerVersion):
            migrate(db, VERSION, steps)

        def fail(db: sqlite3.Connection) -> None:
            db.execute("ALTER TABLE engines ADD COLUMN size TEXT")
            raise sqlite3.OperationalError("disk full")

        with self.assertRaises(sqlite3.OperationalError):
            migrate(db, VERSION + 3, {VERSION + 2: fail})
        self.assertEqual(db.execute("PRAGMA user_version").fetchone(), (VERSION + 2,))
        with self.assertRaises(sqlite3.OperationalError):
            db.execute("SELECT size FROM engines")
        with self.assertRaises(Damaged):
            migrate(db, VERSION + 3, {})
        db.execute("PRAGMA user_version = 5")
        with self.assertRaises(Damaged):
            migrate(db, 9, steps)
        store.close()
