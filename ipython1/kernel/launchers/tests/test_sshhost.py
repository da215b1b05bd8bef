"""One login, with programs in place of ``ssh``."""

from __future__ import annotations

import os
import re
import signal
import stat
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.trial import unittest

from ipython1.daemon import osprocess
from ipython1.daemon.protocol import Hello, Message, encode
from ipython1.kernel.launchers import sshhost
from ipython1.kernel.launchers.clusterfile import HostSpec
from ipython1.kernel.launchers.hostlogin import Trouble
from ipython1.kernel.launchers.sshconfig import connect_timeout
from ipython1.kernel.launchers.sshhost import Listener, LoginFailed, SshConnection
from ipython1.testing.folders import temporary_path


class LoginTests(unittest.TestCase):
    timeout = 60

    def program(self, text: str) -> tuple[str, ...]:
        path = Path(temporary_path(self)).absolute()
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(stat.S_IRWXU)
        return (str(path),)

    async def fails(self, text: str, timeout: float = 0.0, **more: str) -> LoginFailed:
        """Run a program in place of ``ssh``; returns how the login fails."""
        self.told: list[str] = []

        def note(word: str) -> None:
            self.told.append(word)

        events: list[Message] = []
        listener = Listener(
            events.append,
            note,
            on_answer=lambda: note("answered"),
            on_authenticated=lambda: note("authenticated"),
        )
        spec = HostSpec("node1", **more)
        connection = SshConnection(spec, self.program(text), reactor, listener)
        try:
            await connection.open(timeout)
        except LoginFailed as problem:
            await connection.close(0.0)
            return problem
        raise AssertionError("it did not fail")

    async def test_no_answer(self) -> None:
        """Nobody waits for the time limits of the system."""
        self.patch(sshhost, "PATIENCE", 0.2)
        problem = await self.fails('[ "$1" = -G ] || exec sleep 300')
        self.assertRegex(str(problem), "^node1 has not answered for 0.2 s; it may be down")
        self.assertIs(problem.trouble, Trouble.PASSING)

    async def test_what_ssh_leaves_behind_does_not_hold_up_the_end(self) -> None:
        """As the process that ``ControlPersist`` keeps."""
        note = Path(temporary_path(self)).absolute()
        problem = await self.fails(f"sleep 300 >/dev/null & echo $! >{note}; echo no >&2; exit 1")
        self.assertEqual(str(problem), "node1: no")
        os.kill(int(note.read_text()), signal.SIGKILL)

    async def test_the_login_to_a_jump_host_ends_too(self) -> None:
        self.patch(sshhost, "PATIENCE", 0.2)
        note = Path(temporary_path(self)).absolute()
        await self.fails(f'[ "$1" = -G ] || {{ sleep 300 & echo $! >{note}; wait; }}')
        pid = int(note.read_text())
        gone = LoopingCall(lambda: osprocess.is_alive(pid) or gone.stop())
        await gone.start(0.01)

    async def test_the_user_is_more_patient(self) -> None:
        self.patch(sshhost, "PATIENCE", 0.1)
        problem = await self.fails(
            'if [ "$1" = -G ]; then echo "host node1"; echo "connecttimeout 1"; exit; fi; exec sleep 300'
        )
        self.assertRegex(str(problem), "^node1 has not answered for 1 s;")

    async def test_what_ssh_says_of_its_progress_is_heard_and_is_no_reason(self) -> None:
        problem = await self.fails(
            "echo 'debug1: Remote protocol version 2.0' >&2; "
            "echo 'Authenticated to node1 ([::1]:22) using \"publickey\".' >&2; "
            "echo 'debug1: Exit status 1' >&2; echo 'Transferred: sent 1' >&2; exit 1"
        )
        self.assertEqual(str(problem), "node1: ssh exited without an error message")
        self.assertEqual(self.told, ["answered", "authenticated"])

    async def test_a_login_script_that_asks_something(self) -> None:
        problem = await self.fails(
            "echo 'Authenticated to node1' >&2; echo 'Type your token:'; exec sleep 300",
            timeout=1.0,
        )
        self.assertEqual(
            str(problem),
            "node1 has accepted the login, but Python has not started there within 1 s; "
            "it printed: Type your token:",
        )

    async def test_another_version_of_this_package(self) -> None:
        said = Hello(1, "there", "/", sshhost.HERE, "0.0.1", True)
        hello = encode(said).decode().strip()
        problem = await self.fails(f"echo '{hello}'; exec sleep 300")
        self.assertRegex(str(problem), "^node1 has ipython1 0.0.1, but this host has ")
        self.assertIs(problem.trouble, Trouble.LASTING)

    async def test_a_program_that_is_not_there(self) -> None:
        connection = SshConnection(
            HostSpec("node1"), ("/no/such/ssh",), reactor, Listener(lambda m: None, lambda r: None)
        )
        problem = await self.assertFailure(
            Deferred.fromCoroutine(connection.open(0.0)), LoginFailed
        )
        self.assertIn("cannot run /no/such/ssh", str(problem))

    async def test_what_openssh_says_of_its_configuration(self) -> None:
        config = Path(temporary_path(self))
        config.write_text("Host slow\n    ConnectTimeout 45\n")
        for host, seconds in (("slow", 45.0), ("other", 0.0)):
            found = await connect_timeout(("ssh", "-F", str(config)), host, reactor)
            self.assertEqual(found, seconds)


class RemoteCommandTests(unittest.SynchronousTestCase):
    def test_any_python_can_read_it(self) -> None:
        """Also one that is too old says so, rather than pointing at a syntax error, or at an unknown option."""
        command = sshhost.remote_command(HostSpec("node1", python="/py"))
        self.assertNotIn("-P ", command)
        code = re.search(r"import sys; v=.*main\(sys.argv\[1:\]\)\)", command)
        assert code is not None
        self.assertNotRegex(code[0], r"\bf['\"]|print |:=")
