"""Copies of the engines' FURL follow the controller's."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial import unittest

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers.furlcopies import INTERVAL, FurlCopies


class FurlCopiesTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.furl = "first"
        self.hosts: dict[str, str] = {}
        self.unable: set[str] = set()
        self.copies = FurlCopies(self.clock, self.read, self.copy)

    def read(self) -> str:
        if not self.furl:
            raise FileNotFoundError
        return self.furl

    async def copy(self, host: str, furl: str) -> None:
        if host in self.unable:
            raise ClusterError("the disk is full")
        if host == "stuck":
            await Deferred()
        self.hosts[host] = furl

    def look(self) -> None:
        self.clock.advance(INTERVAL)

    def test_each_host_gets_each_new_furl_once(self) -> None:
        for host in ("stuck", "node1", "node2"):
            self.copies.made(host, "first")
        self.look()
        self.assertEqual(self.hosts, {})
        self.furl = "second"
        self.look()
        self.assertEqual(self.hosts, {"node1": "second", "node2": "second"})
        self.hosts.clear()
        self.look()
        self.assertEqual(self.hosts, {})

    def test_it_is_tried_again(self) -> None:
        self.copies.made("node1", "first")
        self.furl = ""
        self.look()
        self.furl, self.unable = "second", {"node1"}
        self.look()
        self.assertEqual(self.hosts, {})
        self.unable = set()
        self.look()
        self.assertEqual(self.hosts, {"node1": "second"})

    def test_hosts_that_are_gone_are_left_alone(self) -> None:
        self.copies.made("node1", "first")
        self.copies.made("node2", "first")
        self.copies.host_gone("node1")
        self.copies.host_gone("never")
        self.furl = "second"
        self.look()
        self.assertEqual(self.hosts, {"node2": "second"})
        self.copies.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
