"""The proxy itself does to connections what it says."""

from __future__ import annotations

import socket
import threading
import time

from twisted.trial import unittest

from tests.proxy import Proxy


class ProxyTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        self.proxy = Proxy(listener.getsockname()[1])
        self.addCleanup(self.proxy.close)
        self.near = socket.create_connection(("127.0.0.1", self.proxy.port))
        self.addCleanup(self.near.close)
        self.far, _ = listener.accept()
        self.addCleanup(self.far.close)
        for each in (self.near, self.far):
            each.settimeout(10)
        self.near.sendall(b"?")  # the proxy knows the connection when something has passed
        self.assertEqual(self.far.recv(1), b"?")

    def test_silence_in_one_direction(self) -> None:
        self.proxy.up.silence()
        self.near.sendall(b"held")
        self.far.sendall(b"passes")
        self.assertEqual(self.near.recv(100), b"passes")
        self.far.settimeout(0.05)
        self.assertRaises(TimeoutError, self.far.recv, 100)
        self.far.settimeout(10)
        self.proxy.up.speak()
        self.assertEqual(self.far.recv(100), b"held")

    def test_delay_and_rate(self) -> None:
        self.proxy.up.delay = 0.1
        begin = time.monotonic()
        self.near.sendall(b"a")
        self.assertEqual(self.far.recv(1), b"a")
        self.assertGreaterEqual(time.monotonic() - begin, 0.1)
        self.proxy.up.delay = 0
        self.proxy.up.rate = 10_000_000
        size = 2_000_000
        begin = time.monotonic()
        threading.Thread(target=self.near.sendall, args=(bytes(size),)).start()
        received = 0
        while received < size:
            received += len(self.far.recv(1 << 16))
        self.assertGreaterEqual(time.monotonic() - begin, 0.19)

    def test_reset_loses_what_is_held(self) -> None:
        self.proxy.up.silence()
        self.near.sendall(b"lost")
        self.proxy.reset()
        self.assertRaises(ConnectionResetError, self.near.recv, 100)
        self.proxy.speak()
        try:
            self.assertEqual(self.far.recv(100), b"")
        except ConnectionResetError:
            pass

    def test_reset_again_and_again(self) -> None:
        self.proxy.reset_every(0.02)
        self.assertRaises(ConnectionResetError, self.near.recv, 100)

    def test_half_close(self) -> None:
        self.proxy.half_close()
        self.assertEqual(self.near.recv(100), b"")
        self.assertEqual(self.far.recv(100), b"")
        self.near.sendall(b"a")
