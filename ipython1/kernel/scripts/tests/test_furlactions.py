"""``ipcontroller furl``, with a controller that runs and without one."""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import uuid
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from ipython1.kernel.basics.error import (
    ClientError,
    ConnectionError,
    KernelError,
    SecurityError,
)
from ipython1.kernel.calls.clientlink import ClientEnd
from ipython1.kernel.controller.process import RunningController, start_controller
from ipython1.kernel.host import control
from ipython1.kernel.host.furl import Furl, new_name
from ipython1.kernel.host.lockfile import LockFile
from ipython1.kernel.host.security import IPythonDirs, read_furl, write_furl
from ipython1.kernel.scripts import furlactions
from ipython1.kernel.scripts.controlleroptions import parse_controller
from ipython1.kernel.tub import tubs
from ipython1.kernel.tub.gate import register
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.link import FrameLink, TurnFlusher
from ipython1.testing.folders import temporary_path


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def call(directory: Path, *words: str, output: io.StringIO | None = None) -> str:
    """What the command prints."""
    written = output or io.StringIO()
    with contextlib.redirect_stdout(written):
        assert furlactions.main([*words, f"--ipython-dir={directory}"]) == 0
    return written.getvalue()


class WithoutAControllerTests(SynchronousTestCase):
    def setUp(self):
        self.directory = Path(temporary_path(self)).absolute()
        self.security = self.directory / "security"
        self.path = self.security / "ipcontroller-tc.furl"

    def prepare(self) -> Furl:
        IPythonDirs.resolve(self.directory).prepare()
        furl = Furl("a" * 32, (("127.0.0.1", 10105),), new_name())
        write_furl(self.path, furl)
        return furl

    def refused(self, *words: str) -> str:
        with contextlib.redirect_stdout(io.StringIO()) as written:
            problem = self.assertRaises(KernelError, call, self.directory, *words)
        self.assertEqual(written.getvalue(), "")
        return str(problem)

    def test_where_nothing_is_there_yet(self):
        text = call(self.directory, "list")
        self.assertIn("none yet", text)
        self.assertIn("no controller runs", text)
        self.assertIn("does not exist", self.refused("show", "task", "--yes"))
        self.assertIn("does not exist", self.refused("rotate", "task"))
        self.assertFalse(self.directory.exists())

    def test_the_files_are_listed_without_their_secrets(self):
        furl = self.prepare()
        os.utime(self.path, (0, 0))
        text = call(self.directory, "list")
        self.assertRegex(text, rf"task +\d+ days +{self.path}\n")
        self.assertNotIn(furl.name, text + call(self.directory, "list", "--json"))

    def test_a_furl_is_shown_on_a_terminal_or_on_demand(self):
        furl = self.prepare()
        self.assertIn("--yes", self.refused("show", "task"))
        self.assertEqual(call(self.directory, "show", "task", "--yes"), f"{furl}\n")
        self.assertEqual(call(self.directory, "show", "task", output=Terminal()), f"{furl}\n")
        self.assertIn(
            "there are engine, multiengine, task, monitor", self.refused("show", "x", "--yes")
        )

    def test_a_furl_is_replaced_for_the_next_controller(self):
        furl = self.prepare()
        self.assertIn("when it is started", call(self.directory, "rotate", "task"))
        new = read_furl(self.path)
        self.assertEqual((new.tub_id, new.hints), (furl.tub_id, furl.hints))
        self.assertNotEqual(new.name, furl.name)
        self.assertEqual(len(new.name), 32)

    def test_nobody_can_be_revoked(self):
        self.prepare()
        self.assertIn("no controller runs", self.refused("revoke", "abcdef12"))

    def test_a_controller_that_cannot_be_asked_from_here_is_told(self):
        furl = self.prepare()
        lock = LockFile(self.security / "ipcontroller.lock")
        self.assertTrue(lock.acquire())
        self.addCleanup(lock.release)
        problem = self.refused("rotate", "task")
        self.assertIn(f"process {os.getpid()}", problem)
        self.assertIn("on its host", problem)
        self.assertEqual(read_furl(self.path), furl)

    def test_wrong_usage_is_told_in_one_line(self):
        for words in ([], ["rotate"], ["show", "a", "b"], ["lst"], ["list", "--jso"], ["revoke"]):
            with contextlib.redirect_stderr(io.StringIO()) as written:
                self.assertRaises(SystemExit, furlactions.main, words)
            self.assertEqual(len(written.getvalue().splitlines()), 1, words)


class Party:
    """A client of a controller, over a real connection."""

    def __init__(self, role: str, furl: Furl) -> None:
        self.furl = furl
        self.end = ClientEnd(uuid.uuid4().bytes)
        self.tub = tubs.make_tub()
        self.hello = messages.Hello(
            uuid=self.end.origin.hex(),
            pid=os.getpid(),
            host="",
            role=role,
            secret=messages.new_secret(),
            label="ann\x1b[2J@there",
        )
        self.lost: Deferred[str] = Deferred()
        self.end.on_lost.append(self.lost.callback)

    async def connect(self) -> None:
        gate = await tubs.connect(self.tub, self.furl, 30)
        flusher = TurnFlusher(lambda flush: reactor.callLater(0, flush))
        link = FrameLink(flusher, self.end)
        self.end.attach(link, await register(gate, self.hello, link, 30, reactor))


class WithAControllerTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.directory = Path(temporary_path(self)).absolute()
        self.parties: list[Party] = []
        self.running: list[RunningController] = []

    async def start(self) -> RunningController:
        config = parse_controller([f"--ipython-dir={self.directory}", "--client-ip=127.0.0.1"])
        running = await start_controller(config, reactor, lambda: None)
        self.running.append(running)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.stop(running)))
        return running

    async def stop(self, running: RunningController) -> None:
        if running in self.running:
            self.running.remove(running)
            for party in self.parties:
                await tubs.close(party.tub)
            await running.stop()

    async def party(self, role: str = messages.TASK) -> Party:
        party = Party(role, read_furl(self.path(role)))
        self.parties.append(party)
        await party.connect()
        return party

    def comes_again(self, party: Party) -> Deferred[None]:
        """The same client makes a new connection."""
        again = Party(party.hello.role, party.furl)
        again.hello = party.hello
        self.parties.append(again)
        return Deferred.fromCoroutine(again.connect())

    def path(self, role: str = messages.TASK) -> Path:
        name = {"task": "tc", "multiengine": "mec"}.get(role, role)
        return self.directory / "security" / f"ipcontroller-{name}.furl"

    def call(self, *words: str) -> Deferred[str]:
        return deferToThread(call, self.directory, *words)

    async def test_the_list_has_who_is_connected(self) -> None:
        await self.start()
        party = await self.party()
        text = await self.call("list")
        self.assertIn(party.hello.uuid[:8], text)
        self.assertIn(r"ann\x1b[2J@there", text)
        found = json.loads(await self.call("list", "--json"))
        self.assertTrue(found["running"])
        self.assertEqual(found["files"]["task"], str(self.path()))
        self.assertEqual([each["interface"] for each in found["clients"]], ["task"])
        for secret in (party.furl.name, party.hello.secret, party.hello.uuid):
            self.assertNotIn(secret, text + json.dumps(found))

    async def test_rotating_cuts_off_all_who_have_the_old_furl_and_nobody_else(self) -> None:
        await self.start()
        party, other = await self.party(), await self.party(messages.MULTIENGINE)
        # One that has got through the gate's door, and has not registered.
        lurker = Party(messages.TASK, party.furl)
        self.parties.append(lurker)
        gate = await tubs.connect(lurker.tub, lurker.furl, 30)
        gone: Deferred[None] = Deferred()
        gate.notifyOnDisconnect(lambda: gone.callback(None))
        self.assertIn("connections ended: 1", await self.call("rotate", "task"))
        await party.lost
        await gone
        for each in (party, lurker):
            await self.assertFailure(self.comes_again(each), SecurityError)
        self.assertTrue(other.end.connected)
        new = await self.party()
        self.assertNotEqual(new.furl.name, party.furl.name)
        self.assertEqual((new.furl.tub_id, new.furl.hints), (party.furl.tub_id, party.furl.hints))
        self.assertEqual(len((await self.call("rotate", "engine")).splitlines()), 2)
        self.assertTrue(new.end.connected)

    async def test_a_furl_that_cannot_be_written_stays_as_it_is(self) -> None:
        running = await self.start()
        party = await self.party()

        def full(path: object, data: object) -> Path:
            raise SecurityError("no space left")

        self.patch(furlactions, "write_furl", full)
        from ipython1.kernel.controller import capabilities

        self.patch(capabilities, "write_furl", full)
        await self.assertFailure(self.call("rotate", "task"), SecurityError)
        self.assertTrue(party.end.connected)
        self.assertEqual(running.capabilities._published["task"].furl, party.furl)

    async def test_a_revoked_client_stays_out_also_after_a_restart(self) -> None:
        running = await self.start()
        party, other = await self.party(), await self.party()
        text = await self.call("revoke", party.hello.uuid[:8])
        self.assertIn(rf"client {party.hello.uuid[:8]} (ann\x1b[2J@there) is disconnected", text)
        self.assertIn("revoked", await party.lost)
        self.assertTrue(other.end.connected)
        await self.assertFailure(self.comes_again(party), SecurityError)
        await self.stop(running)
        await self.start()
        await self.assertFailure(self.comes_again(party), SecurityError)
        await self.party()

    async def test_what_is_wrong_is_told(self) -> None:
        await self.start()
        await self.assertFailure(self.call("rotate", "nothing"), ClientError)
        await self.assertFailure(self.call("revoke", "abcdef12"), ClientError)

    async def test_only_its_user_can_give_orders(self) -> None:
        await self.start()
        path = self.directory / "security" / "ipcontroller.sock"
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)

    async def test_the_socket_of_a_directory_with_a_long_name_is_found(self) -> None:
        self.directory /= "x" * 100
        running = await self.start()
        self.assertIn("nobody is connected", await self.call("list"))
        place = control.find_socket(self.directory / "security" / "ipcontroller.sock")
        self.assertNotEqual(place.parent, self.directory / "security")
        self.assertEqual(stat.S_IMODE(place.parent.stat().st_mode), 0o700)
        await self.stop(running)
        self.assertFalse(place.parent.exists())
        self.assertIn("no controller runs", await self.call("list"))

    async def test_a_socket_that_was_left_behind_is_in_nobodys_way(self) -> None:
        running = await self.start()
        path = self.directory / "security" / "ipcontroller.sock"
        kept = path.with_name("kept")
        os.link(path, kept)
        await self.stop(running)
        kept.rename(path)
        self.assertIn("no controller runs", await self.call("list"))
        await self.start()
        self.assertIn("nobody is connected", await self.call("list"))

    async def test_it_is_not_asked_when_it_is_gone(self) -> None:
        self.assertRaises(
            ConnectionError, control.connect_control, str(self.directory / "none"), who="it"
        )
