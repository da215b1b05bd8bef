"""Which process is at the other end of a connection: with real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import Any

from twisted.trial import unittest

from ipython1 import system
from ipython1.daemon import osprocess
from ipython1.kernel.host import peerprocess
from ipython1.kernel.host.hosts import host_identity
from ipython1.kernel.host.peerprocess import Ends, HostProcesses, NoProcesses, _plain
from ipython1.kernel.host.processstate import ProcessName, ProcessState, name_process

CALLER = (
    "import socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2]))); s.recv(1)"
)


def ends_of(connection: socket.socket) -> Ends:
    (host, port, *_), (peer, peer_port, *_) = connection.getsockname(), connection.getpeername()
    return Ends((_plain(host), port), (_plain(peer), peer_port))


class PeerProcessTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.processes = HostProcesses()

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", *argv], stdin=subprocess.PIPE)

        def end() -> None:
            process.kill()
            process.communicate()

        self.addCleanup(end)
        return process

    def caller(
        self, bind: str = "127.0.0.1", call: str = "127.0.0.1", **options: Any
    ) -> tuple[subprocess.Popen[bytes], Ends]:
        """A process that is connected to this one, and the ends of its connection."""
        family = socket.AF_INET6 if ":" in bind else socket.AF_INET
        try:
            listening = socket.create_server((bind, 0), family=family, **options)
        except OSError:
            raise unittest.SkipTest("this host has no IPv6") from None
        with listening:
            process = self.start(CALLER, call, str(listening.getsockname()[1]))
            connection, _ = listening.accept()
            self.addCleanup(connection.close)
        return process, ends_of(connection)

    def find(self, pid: int, ends: Ends | None) -> ProcessName | None:
        return self.processes.find(host_identity(), pid, ends)

    def check(self, caller: subprocess.Popen[bytes], ends: Ends) -> None:
        victim = self.start("input()")
        found = self.find(caller.pid, ends)
        assert found is not None
        self.assertEqual(found.pid, caller.pid)
        self.assertIs(self.processes.state(found), ProcessState.RUNNING)
        for pid in (victim.pid, os.getpid(), 1, 2**22):
            self.assertIsNone(self.find(pid, ends), pid)
        entry = name_process(victim.pid)
        assert entry is not None
        self.assertFalse(self.processes.end(entry, ends))
        reused = ProcessName(caller.pid, found.started - 1000)
        self.assertFalse(self.processes.end(reused, None))
        self.assertTrue(self.processes.end(found, ends))
        self.assertEqual(caller.wait(), -signal.SIGKILL)
        self.assertIs(self.processes.state(found), ProcessState.GONE)
        self.assertFalse(self.processes.end(found, None))
        self.assertIsNone(victim.poll())

    def test_only_who_holds_the_connection_is_confirmed_and_ended(self) -> None:
        self.check(*self.caller())

    def test_without_the_calls_of_linux(self) -> None:
        self.patch(system, "LINUX", False)
        self.assertFalse(osprocess.is_linux())
        if hasattr(os, "pidfd_open"):
            self.patch(os, "pidfd_open", None)
            del os.pidfd_open
        self.check(*self.caller())

    def test_on_systems_that_do_not_answer_questions_about_sockets(self) -> None:
        def silent(ends: Ends) -> None:
            raise OSError("there is no netlink")

        self.patch(peerprocess, "_ask_netlink", silent)
        self.check(*self.caller())
        self.check(*self.caller("::1", "::1"))

    def test_ipv6_and_both_at_once(self) -> None:
        self.check(*self.caller("::1", "::1"))
        if socket.has_dualstack_ipv6():
            self.check(*self.caller("::", "127.0.0.1", dualstack_ipv6=True))

    def test_claims_of_other_hosts_and_without_a_connection_are_not_confirmed(self) -> None:
        caller, ends = self.caller()
        self.assertIsNone(self.processes.find("another host", caller.pid, ends))
        self.assertIsNone(self.find(caller.pid, None))
        moved = Ends(ends.here, (ends.there[0], ends.there[1] ^ 1))
        self.assertIsNone(self.find(caller.pid, moved))

    def test_it_never_ends_its_own_process(self) -> None:
        entry = name_process(os.getpid())
        assert entry is not None
        self.assertFalse(self.processes.end(entry, None))

    def test_ends_of_what_is_not_tcp(self) -> None:
        class Unix:
            def getHost(self) -> object:
                return object()

            getPeer = getHost

        self.assertIsNone(Ends.of_transport(Unix()))
        self.assertIsNone(Ends.of_transport(None))

    def test_nothing_is_known_without_an_operating_system(self) -> None:
        nothing = NoProcesses()
        self.assertIsNone(nothing.find(host_identity(), 1, None))
        self.assertIs(nothing.state(ProcessName(1, 0.0)), ProcessState.RUNNING)
        self.assertFalse(nothing.end(ProcessName(1, 0.0), None))
