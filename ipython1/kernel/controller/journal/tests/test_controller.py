"""A controller opens its journal before anybody can connect, and closes it when it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from ipython1.kernel.basics.error import SecurityError
from ipython1.kernel.controller.journal.interface import NoJournal
from ipython1.kernel.controller.journal.tests.support import CLIENT, client
from ipython1.kernel.controller.process import RunningController, start_controller
from ipython1.kernel.scripts.controlleroptions import parse_controller


class ControllerTests(TestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.state = self.directory / "journal" / "state"

    def started(self, *words: str) -> Deferred[RunningController]:
        options = (f"--ipython-dir={self.directory}", "--client-ip=127.0.0.1", *words)
        config = parse_controller(options)
        return Deferred.fromCoroutine(start_controller(config, reactor, lambda: None))

    async def test_it_is_the_same_one_after_each_start(self) -> None:
        found: list[Any] = []
        for _ in range(2):
            running = await self.started()
            journal = running.service.journal
            found.append((journal.instance, journal.epoch, len(running.service.clients.living())))
            # What was taken over is not kept a second time, as it may be large.
            self.assertEqual(journal.recovered.clients, ())
            journal.client_came(client(CLIENT))
            await running.stop()
        (instance, *first), (again, *second) = found
        self.assertEqual(instance, again)
        self.assertEqual((first, second), ([1, 0], [2, 1]))

    async def test_there_may_be_none(self) -> None:
        instances = set()
        for _ in range(2):
            running = await self.started("--journal=off")
            self.assertIsInstance(running.service.journal, NoJournal)
            instances.add(running.service.journal.instance)
            await running.stop()
        self.assertEqual(len(instances), 2)
        self.assertFalse(self.state.parent.exists())

    async def test_what_is_in_its_way_is_said(self) -> None:
        running = await self.started()
        await running.stop()
        self.state.chmod(0o755)
        with self.assertRaisesRegex(SecurityError, "run: chmod 700 .*/journal/state"):
            await self.started()
        self.state.chmod(0o700)
        (self.state / "marks").chmod(0)
        (self.state / "marks").rename(self.state / "elsewhere")
        (self.state / "marks").mkdir(mode=0o700)
        with self.assertRaisesRegex(SecurityError, "marks is not a regular file"):
            await self.started()
        (self.state / "marks").rmdir()
        (self.state / "elsewhere").rename(self.state / "marks")
        (self.state / "marks").chmod(0o600)
        running = await self.started()  # nothing is left of those attempts that would be in its way
        self.assertEqual((running.service.journal.epoch, running.service.journal.lost), (2, ""))
        await running.stop()

    async def test_one_that_was_damaged_is_said(self) -> None:
        running = await self.started()
        instance = running.service.journal.instance
        await running.stop()
        with (self.state / "journal.sqlite").open("r+b") as file:
            file.seek(8192)
            file.write(bytes(20_000))
        running = await self.started()
        self.assertNotEqual(running.service.journal.instance, instance)
        self.assertIn("was set aside as", running.service.journal.lost)
        await running.stop()
