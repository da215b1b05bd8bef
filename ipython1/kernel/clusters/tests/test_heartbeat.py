"""Signs of life of a nanny, and which processes a cluster has, by what its state file says."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial import unittest

from ipython1.daemon.children import OWNER_VARIABLE
from ipython1.daemon.link import NannyLink
from ipython1.daemon.protocol import Alive, Hello, encode
from ipython1.kernel.clusters.force import processes_of
from ipython1.kernel.clusters.heartbeat import Heartbeat
from ipython1.kernel.clusters.status import ClusterStatus, ProcessInfo
from ipython1.kernel.host.processstate import name_process, this_process


class HeartbeatTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.said: list[str] = []
        self.nanny = NannyLink(lambda message: None)
        self.transport = StringTransport()
        self.nanny.makeConnection(self.transport)
        self.heartbeat = Heartbeat(self.clock, self.nanny, self.said.append)
        me = this_process()
        hello = Hello(me.pid, "here", "/home", "3.11", "1", True, me.started)
        self.nanny.dataReceived(encode(hello))
        self.addCleanup(self.heartbeat.stop)

    def test_it_sends_and_listens(self) -> None:
        self.clock.pump([5.0] * 4)
        self.assertEqual(self.transport.value().count(encode(Alive())), 5)

    def test_a_silent_nanny_is_said_once_and_that_it_answers_again(self) -> None:
        for _ in range(10):
            self.nanny.dataReceived(encode(Alive()))
            self.clock.advance(5.0)
        self.assertEqual(self.said, [])
        self.clock.pump([5.0] * 10)
        (line,) = self.said
        self.assertRegex(
            line, r"the nanny \(process \d+\) has given no sign of life for 20 s: it is stuck"
        )
        info = self.heartbeat.info()
        assert info is not None
        self.assertEqual((info.pid, info.silent), (os.getpid(), 50.0))
        self.nanny.dataReceived(encode(Alive()))
        self.clock.advance(5.0)
        self.assertEqual(self.said[1:], ["the nanny answers again"])

    def test_time_in_which_this_process_was_held_is_nobody_s_silence(self) -> None:
        self.clock.advance(500.0)
        self.assertEqual(self.said, [])
        self.clock.pump([5.0] * 3)
        self.assertEqual(self.said, [])


class FamilyTests(unittest.SynchronousTestCase):
    """What belongs to a cluster is known by pid and start together, and by its nanny's mark."""

    def start(self, **environ: str) -> ProcessInfo:
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", "print(flush=True); input()"],
            env={**os.environ, **environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None and process.stdout is not None
        for cleanup in (process.stdin.close, process.stdout.close, process.wait, process.kill):
            self.addCleanup(cleanup)
        process.stdout.readline()
        name = name_process(process.pid)
        assert name is not None
        return ProcessInfo(state="running", pid=name.pid, pid_started=name.started)

    def status(self, main: ProcessInfo, **what: ProcessInfo) -> ClusterStatus:
        return ClusterStatus(
            cluster_id="",
            kind="local",
            state="running",
            host="",
            pid=main.pid,
            pid_started=main.pid_started,
            started=0.0,
            ipython_dir="",
            **what,  # type: ignore[arg-type]
        )

    def test_by_pid_and_start(self) -> None:
        main, controller = self.start(), self.start()
        status = self.status(main, controller=controller)
        self.assertEqual(processes_of(status), sorted([main.pid, controller.pid]))
        later = replace(controller, pid_started=controller.pid_started + 100)
        self.assertEqual(processes_of(self.status(main, controller=later)), [main.pid])
        elsewhere = replace(controller, host="node1")
        self.assertEqual(processes_of(self.status(main, controller=elsewhere)), [main.pid])

    def test_by_the_mark_of_a_dead_nanny(self) -> None:
        main, witness = self.start(), self.start()
        dead = subprocess.Popen(["true"])
        dead.wait()
        nanny = replace(witness, pid=dead.pid, pid_started=witness.pid_started)
        orphan = self.start(**{OWNER_VARIABLE: f"{dead.pid}/engine-0"})
        self.assertEqual(
            processes_of(self.status(main, nanny=nanny)), sorted([main.pid, orphan.pid])
        )
        # A later nanny has the pid: the mark may be its.
        namesake = replace(witness, pid_started=witness.pid_started - 100)
        marked = self.start(**{OWNER_VARIABLE: f"{witness.pid}/engine-0"})
        found = processes_of(self.status(main, nanny=namesake))
        self.assertNotIn(marked.pid, found)
        self.assertNotIn(witness.pid, found)
