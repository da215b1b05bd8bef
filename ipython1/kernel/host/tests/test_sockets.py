"""Options of sockets, on real ones."""

from __future__ import annotations

import select
import socket
import sys
import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.host import sockets


def connected_pair(case: SynchronousTestCase) -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    case.addCleanup(near.close)
    case.addCleanup(far.close)
    return near, far


def limit_of(sock: socket.socket) -> int:
    """Return its ``TCP_USER_TIMEOUT`` in milliseconds."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


class TuneTests(SynchronousTestCase):
    def test_a_dead_host_is_noticed_within_the_bound(self) -> None:
        sock, _ = connected_pair(self)
        sockets.tune(sock, 30)
        self.assertTrue(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        self.assertTrue(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        if sys.platform != "linux":
            return
        idle = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        step = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
        count = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
        self.assertLessEqual(idle + step * count, 30)
        self.assertTrue(20_000 <= limit_of(sock) <= 30_000)

    def test_it_does_without_what_the_platform_lacks(self) -> None:
        for name in ("_TCP_USER_TIMEOUT", "_KEEP_IDLE", "_TCP_INFO"):
            self.patch(sockets, name, None)
        sock, _ = connected_pair(self)
        sockets.tune(sock)
        self.assertTrue(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        self.assertTrue(sockets.PeerWatch(sock).look(0.0))

    def test_another_kind_of_socket_does_no_harm(self) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sockets.tune(sock)
            self.assertTrue(sockets.PeerWatch(sock).look(0.0))


class PeerWatchTests(SynchronousTestCase):
    if sys.platform != "linux":
        skip = "the option that needs it is Linux's"

    def fill(self) -> tuple[socket.socket, socket.socket]:
        """Return a connection whose far end reads nothing."""
        near, far = connected_pair(self)
        sockets.tune(near, 30)
        near.setblocking(False)
        with self.assertRaises(BlockingIOError):
            while True:
                near.send(bytes(65536))
        return near, far

    def look(self, watch: sockets.PeerWatch, busy: bool) -> None:
        """Look until the peer is ``busy``; the kernel probes a closed window after some tenths of a second."""
        until = time.monotonic() + 10
        while True:
            self.assertTrue(watch.look(time.monotonic()))
            if watch.busy is busy:
                return
            self.assertLess(time.monotonic(), until)
            select.select([], [], [], 0.02)

    def test_a_peer_that_reads_nothing_for_long_is_kept(self) -> None:
        near, far = self.fill()
        limit = limit_of(near)
        watch = sockets.PeerWatch(near, 30)
        self.look(watch, True)
        self.assertEqual(limit_of(near), 0)
        far.settimeout(0.2)
        with self.assertRaises(TimeoutError):
            while True:
                far.recv(1 << 20)
        self.look(watch, False)
        self.assertEqual(limit_of(near), limit)

    def test_a_quiet_connection_keeps_its_limit(self) -> None:
        near, _ = connected_pair(self)
        sockets.tune(near, 30)
        watch = sockets.PeerWatch(near, 30)
        for now in (0.0, 1000.0):
            self.assertTrue(watch.look(now))
        self.assertFalse(watch.busy)
        self.assertGreater(limit_of(near), 0)

    def test_a_busy_peer_whose_host_is_gone_is_noticed(self) -> None:
        """Played: what the system says when probes of a closed window are not answered, and when they are."""

        class Played:
            def __init__(self) -> None:
                self.unanswered = 0
                self.segments = 7

            def getsockopt(self, level: int, option: int, size: int = 0) -> bytes:
                info = sockets._INFO.pack(1, 0, 0, self.unanswered, 5, 0, 0, 0, 0, 0, 0, 0, 0)
                return info.ljust(140, b"\0") + self.segments.to_bytes(4, sys.byteorder)

            def setsockopt(self, level: int, option: int, value: int) -> None:
                pass

        played: Any = Played()
        watch = sockets.PeerWatch(played, 30)
        self.assertTrue(watch.look(0.0))
        self.assertTrue(watch.look(1000.0))
        # A probe is under way, as it is at any moment; something comes each time.
        played.unanswered = 1
        for now in range(1000, 1100, 5):
            played.segments += 1
            self.assertTrue(watch.look(now))
        self.assertTrue(watch.look(1110.0))
        self.assertFalse(watch.look(1116.0))
        played.unanswered = 0
        self.assertTrue(watch.look(1120.0))
