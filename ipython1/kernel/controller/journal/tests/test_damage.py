"""What happens to a journal's files: bits flip, ends are cut off, files vanish, the power fails."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ipython1.kernel.basics.error import ClientError, JournalError, SecurityError
from ipython1.kernel.controller.journal.marks import boot_id
from ipython1.kernel.controller.journal.opening import (
    AFTER_POWER_LOSS,
    JournalSettings,
    open_store,
)
from ipython1.kernel.controller.journal.rows import PayloadFile, Recovered
from ipython1.kernel.controller.journal.tests.support import (
    CLIENT,
    JournalCase,
    RandomUser,
    batch,
    client,
    command,
    safe,
    submission,
)

SEEDS = int(os.environ.get("IPYTHON1_TEST_EXAMPLES", "60"))
DATABASE = "journal.sqlite"
LOG = "journal.sqlite-wal"


def flip(path: Path, rng: random.Random) -> None:
    """Turn one bit of a file round."""
    data = bytearray(path.read_bytes())
    place = rng.randrange(len(data))
    data[place] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def cut(path: Path, rng: random.Random) -> None:
    """Cut a file's end off."""
    os.truncate(path, rng.randrange(path.stat().st_size))


def clear_page(path: Path, rng: random.Random) -> None:
    """Fill a piece of a file with zeros."""
    page = rng.randrange(max(1, path.stat().st_size // 4096))
    with path.open("r+b") as file:
        file.seek(page * 4096)
        file.write(bytes(min(4096, path.stat().st_size - page * 4096)))


class DamageCase(JournalCase):
    async def used(self, closed: bool = False) -> Recovered:
        """Leave a journal as after a kill -9, in :attr:`directory`; returns what is in it."""
        journal = await self.opened()
        user = RandomUser(1, 100_000)
        user.journals = [journal]
        for _ in range(5):
            ticket = [user.step() for _ in range(30)][-1][0]
            await safe(journal, ticket)
        if closed:
            await journal.close()
        else:
            killed = self.killed(0)
            await journal.close()
            self.replace(killed)
        found = self.found()
        self.assertEqual(found.lost, "")
        return found

    async def noted(self) -> Recovered:
        """Leave a journal of which the intake has a part that nothing else has."""
        journal = await self.opened()
        await safe(journal, journal.client_came(client(CLIENT)))
        let_go = await self.held(journal)
        for number in range(1, 100, 2):
            journal.command(command(CLIENT, number, [0, 3], b"x" * number))
            journal.submission(submission(CLIENT, number, 2))
        killed = self.killed(0)
        let_go.set()
        await journal.close()
        self.replace(killed)
        found = self.found()
        self.assertEqual((found.lost, len(found.commands), len(found.submissions)), ("", 50, 50))
        return found

    def replace(self, killed: Path) -> None:
        """Have a copy that a kill -9 left in the place of the journal."""
        shutil.rmtree(self.directory)
        killed.rename(self.directory)

    def found(self) -> Recovered:
        """What is in the journal, which stays as it is."""
        copy = self.copied()
        found = self.reopened(copy)
        shutil.rmtree(copy)
        return found

    def copied(self) -> Path:
        copy = self.directory.with_name("copy")
        shutil.copytree(self.directory, copy)
        return copy

    def reopened(
        self,
        directory: Path,
        boot: Callable[[], bytes] = boot_id,
        synced: bool = False,
    ) -> Recovered:
        settings = JournalSettings(directory, synced)
        store, recovered = open_store(settings, boot=boot)
        self.instance = store.state.instance
        self.epoch = store.state.epoch
        store.close()
        return recovered

    def aside(self) -> list[Path]:
        return sorted(self.directory.parent.glob("copy.damaged-*"))

    def same(self, one: Recovered, other: Recovered) -> bool:
        return repr(shown(one)) == repr(shown(other))


def shown(recovered: Recovered) -> Recovered:
    names = ("succeeded", "failed", "cleared", "past_succeeded", "past_failed")
    ids = {name: getattr(recovered, name).ranges() for name in names}
    return replace(recovered, **ids)


class DamageTests(DamageCase):
    async def test_damage_is_found_or_makes_no_difference(self) -> None:
        self.check(await self.used(), (DATABASE, DATABASE, LOG, LOG, "marks"))

    async def test_damage_of_the_intake_is_found_or_makes_no_difference(self) -> None:
        self.check(await self.noted(), ("intake",))

    def check(self, whole: Recovered, names: Sequence[str]) -> None:
        said = 0
        for seed in range(SEEDS):
            rng = random.Random(seed)
            copy = self.copied()
            name = rng.choice(names)
            damage = rng.choice((flip, flip, cut, clear_page))
            damage(copy / name, rng)
            damaged = sorted(path.name for path in copy.rglob("*"))
            found = self.reopened(copy)
            what = f"seed {seed}: {damage.__name__} {name}"
            if found.lost:
                said += 1
                self.assertTrue(self.same(replace(found, lost=""), Recovered()), what)
                self.assertEqual(self.epoch, 1, what)
                [aside] = self.aside()
                self.assertIn(f"set aside as {aside}, and a new one was begun", found.lost)
                self.assertEqual(sorted(path.name for path in aside.rglob("*")), damaged)
                shutil.rmtree(aside)
            else:
                self.assertTrue(self.same(found, whole), what)
                self.assertEqual(self.aside(), [])
            shutil.rmtree(copy)
        self.assertGreater(said, SEEDS // 3)

    async def test_what_was_lost_is_said(self) -> None:
        journal = await self.opened()
        journal.submission(submission(CLIENT, 0, 30))
        await safe(journal, journal.results([batch(CLIENT, range(100, 350))]))
        copy = self.copied()
        await journal.close()
        flip(copy / LOG, random.Random(1))
        lost = self.reopened(copy).lost
        self.assertRegex(
            lost, "commits are missing; it was set aside as .*; lost are: 30 tasks in "
        )
        self.assertIn("250 results of tasks", lost)
        self.assertNotIn("\n", lost)

    async def test_files_that_are_missing(self) -> None:
        await self.used()
        for name in (DATABASE, LOG, "marks", "intake", "payloads"):
            copy = self.copied()
            path = copy / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            lost = self.reopened(copy).lost
            self.assertIn("is damaged: ", lost, name)
            shutil.rmtree(copy)
        self.assertEqual(len(self.aside()), 5)

    async def test_a_row_that_vanishes_is_missed(self) -> None:
        await self.used(closed=True)
        db = sqlite3.connect(self.directory / DATABASE)
        db.execute("DROP TRIGGER finished_delete")
        db.execute("DELETE FROM finished")
        db.execute(
            "CREATE TRIGGER finished_delete AFTER DELETE ON finished BEGIN UPDATE totals SET rows = rows - 1, "
            "crcs = crcs - OLD.crc WHERE name = 'finished'; END"
        )
        db.commit()
        db.close()
        self.assertIn("rows of finished are missing", self.reopened(self.directory).lost)

    async def test_a_damaged_payload_file_costs_what_is_in_it_only(self) -> None:
        journal = await self.opened()
        large = os.urandom(700_000)
        journal.submission(submission(CLIENT, 0, 1)._replace(bodies=large))
        await safe(journal, journal.submission(submission(CLIENT, 1, 1)._replace(bodies=large)))
        await journal.close()
        journal = await self.opened()
        one, other = [row.bodies for row in journal.recovered.submissions]
        assert isinstance(one, PayloadFile) and isinstance(other, PayloadFile)
        with (self.directory / "payloads" / one.name).open("r+b") as file:
            file.seek(300_000)
            file.write(b"\0")
        self.assertEqual(await journal.read_payload(one, 0, 200_000), large[:200_000])
        with self.assertRaises(JournalError):
            await journal.read_payload(one, 200_000, 200_000)
        self.assertEqual(await journal.read_payload(one, 650_000, 99_999), large[650_000:])
        self.assertEqual(await journal.read_payload(other, 1, 699_998), large[1:-1])
        os.truncate(self.directory / "payloads" / other.name, 700_000)
        await journal.close()
        journal = await self.opened()
        self.assertEqual(journal.recovered.broken_files, (other.name,))
        self.assertEqual(journal.recovered.lost, "")
        await journal.close()


class PowerTests(DamageCase):
    """A power failure may cost the last second, unless each commit is synced."""

    def cut_log(self, directory: Path) -> None:
        """Leave what a power failure may leave: the beginning of what was not synced."""
        log = directory / LOG
        os.truncate(log, log.stat().st_size * 2 // 3)

    async def test_the_end_is_lost_and_the_rest_goes_on(self) -> None:
        whole = await self.used()
        copy = self.copied()
        self.cut_log(copy)
        found = self.reopened(copy, boot=lambda: b"another boot....")
        self.assertRegex(found.lost, "^this host stopped without warning, .* lost its last [0-9]+ ")
        self.assertEqual(self.aside(), [])
        self.assertEqual(self.epoch, 2)
        self.assertNotEqual(found.submissions, whole.submissions)
        # What was given away and forgotten is not given away again.
        self.assertEqual(found.next_task, whole.next_task + AFTER_POWER_LOSS)
        self.assertEqual(found.next_engine, whole.next_engine)
        again = self.reopened(copy, boot=lambda: b"another boot....")
        self.assertEqual(again.lost, "")

    async def test_of_what_only_the_intake_has_the_beginning_counts(self) -> None:
        whole = await self.noted()
        for damage in (None, flip, cut, clear_page):
            copy = self.copied()
            if damage is not None:
                damage(copy / "intake", random.Random(3))
            found = self.reopened(copy, boot=lambda: b"another boot....")
            self.assertEqual((found.clients[0].uuid, self.epoch), (CLIENT, 2))
            count = len(found.commands)
            self.assertEqual(found.commands, whole.commands[:count])
            self.assertIn(count - len(found.submissions), (0, 1))
            self.assertEqual(count == 50, damage is None)
            self.assertEqual(found.next_task, whole.next_task + AFTER_POWER_LOSS)
            if damage in (flip, cut):  # its head is whole
                self.assertRegex(found.lost, "^this host stopped .* lost its last [0-9]+ commits")
            again = self.reopened(copy)
            self.assertEqual((again.lost, len(again.commands)), ("", count))
            shutil.rmtree(copy)
        self.assertEqual(self.aside(), [])

    async def test_what_follows_on_something_that_is_lost_does_not_count(self) -> None:
        await self.noted()
        os.truncate(self.directory / LOG, 0)
        found = self.reopened(self.directory, boot=lambda: b"another boot....")
        self.assertRegex(found.lost, "^this host stopped .* lost its last 10[0-9] commits")
        self.assertFalse(found.clients + found.commands + found.submissions)

    async def test_without_a_new_start_of_the_system_it_is_damage(self) -> None:
        await self.used()
        self.cut_log(self.directory)
        self.assertIn("commits are missing", self.reopened(self.directory).lost)

    async def test_what_is_synced_each_time_cannot_be_lost_that_way(self) -> None:
        directory = self.directory
        journal = await self.opened(synced=True)
        for number in range(20):
            ticket = journal.submission(submission(CLIENT, number, 1))
            await safe(journal, ticket)
        killed = self.killed(0)
        await journal.close()
        self.assertTrue(directory.exists())
        copy = shutil.copytree(killed, self.directory.with_name("copy"))
        found = self.reopened(copy, boot=lambda: b"another boot....", synced=True)
        self.assertEqual((found.lost, len(found.submissions)), ("", 20))
        shutil.rmtree(copy)
        killed.rename(copy)
        self.cut_log(copy)
        found = self.reopened(copy, boot=lambda: b"another boot....", synced=True)
        self.assertIn("commits are missing", found.lost)


class RefusalTests(DamageCase):
    """What is not damage is said, and changes nothing."""

    async def test_two_at_once(self) -> None:
        journal = await self.opened()
        with self.assertRaisesRegex(ClientError, "cannot be used: another process uses it"):
            await self.opened()
        await safe(journal, journal.client_came(client(CLIENT)))
        await journal.close()
        self.assertEqual(len(self.reopened(self.directory).clients), 1)

    async def test_a_later_version(self) -> None:
        await self.used(closed=True)
        store, _ = open_store(JournalSettings(self.directory))
        store.state = replace(store.state, version=77)
        store.begin_epoch()
        store.db.execute("PRAGMA user_version = 77")
        store.close()
        with self.assertRaisesRegex(ClientError, "a later version of this package has written it"):
            self.reopened(self.directory)
        self.assertTrue((self.directory / DATABASE).exists())

    async def test_others_may_not_read_it(self) -> None:
        await self.used(closed=True)
        for path in (self.directory, *self.directory.iterdir()):
            self.assertEqual(path.stat().st_mode & 0o077, 0, path)
        for path, mode in ((self.directory / DATABASE, 0o644), (self.directory, 0o755)):
            before = path.stat().st_mode
            path.chmod(mode)
            with self.assertRaisesRegex(SecurityError, "run: chmod"):
                self.reopened(self.directory)
            path.chmod(before)
        moved = self.directory.with_name("moved")
        (self.directory / "marks").rename(moved)
        (self.directory / "marks").symlink_to(moved)
        with self.assertRaisesRegex(SecurityError, "symbolic link"):
            self.reopened(self.directory)

    async def test_a_start_that_was_interrupted_is_begun_again(self) -> None:
        half = self.directory.with_name(f"{self.directory.name}.new")
        half.mkdir(parents=True, mode=0o700)
        self.directory.parent.chmod(0o700)
        (half / DATABASE).write_bytes(b"half")
        self.assertEqual(self.reopened(self.directory).lost, "")
        self.assertFalse(half.exists())
