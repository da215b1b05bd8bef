"""The intake: what is safe in it is safe, in order, and it is not needed."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

from ipython1.kernel.controller.journal.intake import LIMIT, Intake, Row, create_intake
from ipython1.kernel.controller.journal.interface import Journal
from ipython1.kernel.controller.journal.opening import JournalSettings, open_store
from ipython1.kernel.controller.journal.rows import INLINE, PayloadFile
from ipython1.kernel.controller.journal.tables import VERSION
from ipython1.kernel.controller.journal.tests.support import (
    CLIENT,
    JournalCase,
    client,
    command,
    safe,
    submission,
)

INSTANCE = b"i" * 16


class Order:
    """Which tickets became safe, in order."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.safe: list[int] = []

    def watch(self, ticket: int) -> int:
        self._journal.when_safe(ticket, lambda: self.safe.append(ticket))
        return ticket


class JournalTests(JournalCase):
    async def test_what_is_safe_while_the_writer_is_held_up_is_there_after_a_kill(self) -> None:
        journal = await self.opened()
        journal.client_came(client(CLIENT))
        await safe(journal, journal.lease_given(CLIENT, 10, 20))
        let_go = await self.held(journal)
        order = Order(journal)
        number = order.watch(journal.submission(submission(CLIENT, 10, 3)))
        order.watch(journal.command(command(CLIENT, 7, [0, 2], b"payload")))
        self.assertEqual(order.safe, [number, number + 1])
        killed = self.killed(0)
        let_go.set()
        await journal.close()
        for directory, epoch in ((killed, 2), (killed, 3), (self.directory, 2)):
            again = await self.opened(directory)
            found = again.recovered
            self.assertEqual((found.lost, again.epoch), ("", epoch))
            self.assertEqual(
                found.submissions, (submission(CLIENT, 10, 3)._replace(number=number),)
            )
            self.assertEqual(found.commands, (command(CLIENT, 7, [0, 2], b"payload"),))
            self.assertEqual((found.clients[0].last_command, found.leases[0].next), (7, 13))
            await again.close()
        # They can end like all others.
        again = await self.opened(killed)
        again.command_over(CLIENT, 7)
        await safe(again, again.submissions_over([number]))
        await again.close()
        again = await self.opened(killed)
        self.assertEqual((again.recovered.commands, again.recovered.submissions), ((), ()))
        await again.close()

    async def test_nothing_is_safe_before_what_came_before_it(self) -> None:
        journal = await self.opened()
        let_go = await self.held(journal)
        order = Order(journal)
        tickets = [
            order.watch(journal.command(command(CLIENT, 1, [0]))),
            order.watch(journal.client_came(client(CLIENT))),
            order.watch(journal.command(command(CLIENT, 2, [0]))),
            order.watch(journal.submission(submission(CLIENT, 0, 1))),
        ]
        self.assertEqual(order.safe, tickets[:1])
        killed = self.killed(0)
        let_go.set()
        await safe(journal, tickets[-1])
        self.assertEqual(order.safe, tickets)
        await journal.close()
        journal = await self.opened(killed)
        self.assertEqual(journal.recovered.commands, (command(CLIENT, 1, [0]),))
        self.assertEqual(journal.recovered.submissions, ())
        await journal.close()

    async def test_what_the_power_must_not_cost_is_not_safe_there(self) -> None:
        journal = await self.opened(synced=True)
        let_go = await self.held(journal)
        order = Order(journal)
        ticket = order.watch(journal.command(command(CLIENT, 1, [0])))
        self.assertEqual(order.safe, [])
        let_go.set()
        await safe(journal, ticket)
        await journal.close()

    async def test_what_is_safe_can_be_read(self) -> None:
        journal = await self.opened()
        for number in range(20):
            await safe(journal, journal.command(command(CLIENT, number, [0])))
            [latest] = await journal.command_history(1)
            self.assertEqual(latest.number, number)
        await journal.close()

    async def test_it_is_begun_anew_and_does_not_grow(self) -> None:
        journal = await self.opened()
        large = os.urandom(INLINE // 2)
        for number in range(1, 200):
            await safe(journal, journal.command(command(CLIENT, number, [0], large)))
            self.assertLessEqual((self.directory / "intake").stat().st_size, LIMIT)
        killed = self.killed(0)
        await journal.close()
        journal = await self.opened(killed)
        self.assertEqual([row.number for row in journal.recovered.commands], list(range(1, 200)))
        await journal.close()

    async def test_what_it_has_stays_when_the_journal_ends_in_trouble(self) -> None:
        journal = await self.opened()
        await journal._ask(lambda store: store.db.execute("PRAGMA query_only = ON"))
        await safe(journal, journal.command(command(CLIENT, 1, [0])))
        await journal.close()
        journal = await self.opened()
        self.assertEqual(journal.recovered.commands, (command(CLIENT, 1, [0]),))
        await journal.close()
        self.flushLoggedErrors()

    def test_a_journal_from_before_there_was_one(self) -> None:
        store, _ = open_store(JournalSettings(self.directory))
        store.state = replace(store.state, version=1)
        store.begin_epoch()
        store.db.execute("PRAGMA user_version = 1")
        store.close()
        (self.directory / "intake").unlink()
        for epoch in (3, 4):
            store, recovered = open_store(JournalSettings(self.directory))
            self.assertEqual((recovered.lost, store.state.epoch), ("", epoch))
            self.assertEqual(store.state.version, VERSION)
            store.close()


class IntakeTests(JournalCase):
    def intake(self) -> Intake:
        self.room = 10**9

        def write(fd: int, data: bytes, position: int) -> int:
            if position + len(data) > self.room + 100:
                raise OSError(errno.ENOSPC, "No space left on device")
            return os.pwrite(fd, data[: self.room - position], position)

        self.directory.parent.mkdir(parents=True, mode=0o700)
        create_intake(self.directory, INSTANCE)
        intake = Intake(self.directory, INSTANCE, write)
        self.addCleanup(intake.close)
        return intake

    def found(self) -> list[tuple[int, Row]]:
        again = Intake(self.directory, INSTANCE)
        try:
            return list(again.read())
        finally:
            again.close()

    def test_rows_come_back_as_they_were(self) -> None:
        intake = self.intake()
        rows: list[tuple[int, Row]] = [
            (5, command(CLIENT, 2**40, [], b"")),
            (6, command(b"", 1, [0, 2**40], b"p" * 1000)._replace(method="\u20ac", meta=b"")),
            (8, submission(CLIENT, 2**50, 10)._replace(number=8)),
            (9, submission(CLIENT, 1, 1, b"")._replace(number=9, bodies=b"", submitted=0.1)),
            (10, submission(CLIENT, 1, 1)._replace(number=10, bodies=b"bodies")),
        ]
        for ticket, row in rows:
            self.assertTrue(intake.note(ticket, row))
        self.assertEqual(self.found(), rows)

    def test_large_rows_and_those_with_files_are_not_for_it(self) -> None:
        intake = self.intake()
        file = PayloadFile("name", 10)
        for row in (
            submission(CLIENT, 1, 1, bytes(INLINE + 1)),
            submission(CLIENT, 1, 1)._replace(bodies=file),
            command(CLIENT, 1, [0])._replace(payload=file),
        ):
            self.assertFalse(intake.note(1, row))
        self.assertEqual(self.found(), [])

    def test_a_full_disk(self) -> None:
        intake = self.intake()
        row = command(CLIENT, 1, [0], bytes(1000))
        self.assertTrue(intake.note(1, row))
        size = self.directory.stat().st_size
        for room in (size + 10, size + 1000, size):  # a part of a record is written, or nothing
            self.room = room
            self.assertFalse(intake.note(2, row))
            self.assertEqual(self.found(), [(1, row)])
        self.room = 10**9
        self.assertTrue(intake.note(3, row))
        self.assertEqual(self.found(), [(1, row), (3, row)])

    def test_it_is_full_until_all_is_in_the_database(self) -> None:
        intake = self.intake()
        row = command(CLIENT, 1, [0], bytes(INLINE // 2))
        ticket = 1
        while intake.note(ticket, row):
            ticket += 1
        intake.written(ticket - 2)
        self.assertFalse(intake.note(ticket, row))
        intake.written(ticket - 1)
        self.assertTrue(intake.note(ticket, row))
        self.assertEqual(self.found(), [(ticket, row)])
