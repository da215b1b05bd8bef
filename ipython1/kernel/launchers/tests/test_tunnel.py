"""What ``ssh`` says of its forwarding, FURLs that lead through it, and what logs say when there is none."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial import unittest

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.host.furl import parse_furl
from ipython1.kernel.launchers.tunnel import (
    HostTunnel,
    furl_file_name,
    reached_at,
    reached_from_its_host,
    target,
)
from ipython1.kernel.launchers.waitnotes import WaitNotes, why_it_waits

TUB = "a" * 32
FAR = f"pb://{TUB}@tcp:192.0.2.1:4000,tcp:[2001:db8::1]:4000,tcp:127.0.0.1:4000/secret"


class Place:
    async def place(self) -> tuple[str, int]:
        return "2001:db8::1", 4000


class HostTunnelTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.tunnel = HostTunnel("node1", Place(), self.clock)  # type: ignore[arg-type]

    def log_in(self) -> Deferred[None]:
        command = self.successResultOf(
            Deferred.fromCoroutine(self.tunnel.command(("ssh", "-F", "file")))
        )
        self.assertEqual(command[0], "ssh")
        self.assertEqual(command[-4:], ("-R", "127.0.0.1:0:[2001:db8::1]:4000", "-F", "file"))
        return Deferred.fromCoroutine(self.tunnel.opened())

    def test_each_login_has_its_port(self) -> None:
        for port in (40123, 40999):
            opened = self.log_in()
            self.assertFalse(self.tunnel.heard("Warning: something else"))
            self.assertNoResult(opened)
            line = f"Allocated port {port} for remote forward to 2001:db8::1:4000"
            self.assertTrue(self.tunnel.heard(line))
            self.successResultOf(opened)
            self.assertEqual(self.tunnel.furl(FAR), f"pb://{TUB}@tcp:127.0.0.1:{port}/secret")

    def test_a_server_that_refuses(self) -> None:
        opened = self.log_in()
        self.assertTrue(
            self.tunnel.heard("Warning: remote port forwarding failed for listen port 0")
        )
        problem = self.failureResultOf(opened, ClusterError)
        self.assertIn("node1: its ssh server does not forward ports", str(problem.value))

    def test_a_program_that_does_not_tell(self) -> None:
        opened = self.log_in()
        self.clock.advance(60)
        problem = self.failureResultOf(opened, ClusterError)
        self.assertIn("node1: ssh did not name the port", str(problem.value))


class FurlTests(unittest.SynchronousTestCase):
    def test_where_to_forward_to(self) -> None:
        self.assertEqual(reached_at(parse_furl(FAR)), ("192.0.2.1", 4000))
        self.assertEqual(reached_from_its_host(parse_furl(FAR)), ("127.0.0.1", 4000))
        only = parse_furl(f"pb://{TUB}@tcp:192.0.2.1:4000/secret")
        self.assertEqual(reached_from_its_host(only), ("192.0.2.1", 4000))
        with self.assertRaisesRegex(ClusterError, "no location"):
            reached_at(parse_furl(f"pb://{TUB}@/secret"))
        self.assertEqual(target(("2001:db8::1", 4000)), "[2001:db8::1]:4000")

    def test_hosts_that_share_a_directory_have_their_own_files(self) -> None:
        names = [
            furl_file_name("ipcontroller-x-engine.furl", host)
            for host in ("me@a.org", "a.org", "a-org", "ssh://a.org:22")
        ]
        self.assertEqual(
            names,
            [
                "ipcontroller-x-engine-for-me@a.org.furl",
                "ipcontroller-x-engine-for-a.org.furl",
                "ipcontroller-x-engine-for-a-org.furl",
                "ipcontroller-x-engine-for-ssh%3A%2F%2Fa.org%3A22.furl",
            ],
        )


WAITING = "ipengine: waiting for the controller for up to 45 s: 192.0.2.1:4000 did not answer"


class WaitNotesTests(unittest.SynchronousTestCase):
    def test_the_last_word_counts(self) -> None:
        self.assertEqual(why_it_waits([WAITING]), "192.0.2.1:4000 did not answer")
        self.assertEqual(why_it_waits([WAITING, "... registered as engine 3"]), "")
        self.assertEqual(why_it_waits(["something else"]), "")

    def setUp(self) -> None:
        self.clock = Clock()
        self.logs: dict[int, list[str]] = {3: [], 4: []}
        self.said: list[str] = []

        async def read_log(engine_id: int, lines: int) -> list[str]:
            return self.logs[engine_id][-lines:]

        self.notes = WaitNotes(self.clock, read_log, self.said.append)

    def test_each_host_is_told_once(self) -> None:
        self.notes.started("node1", 3)
        self.notes.started("node1", 4)
        self.clock.advance(10)
        self.assertEqual(self.said, [])
        self.logs[3].append(WAITING)
        for _ in range(60):
            self.clock.advance(1)
        expected = "engine 3 on node1 cannot reach the controller: 192.0.2.1:4000 did not answer"
        self.assertEqual(self.said, [expected])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_hosts_that_are_gone(self) -> None:
        self.notes.started("node1", 3)
        self.notes.started("node2", 4)
        self.notes.forget("node1")
        self.notes.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
