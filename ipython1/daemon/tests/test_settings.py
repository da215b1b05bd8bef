"""What a nanny is told once."""

from __future__ import annotations

import os
import socket
import tempfile

from twisted.trial import unittest

from ipython1 import system
from ipython1.daemon import osprocess
from ipython1.daemon.settings import Settings, receive_settings, send_settings
from ipython1.daemon.starting import NewNanny


class SettingsTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.addCleanup(self.theirs.close)
        self.addCleanup(self.ours.close)

    def test_they_come_as_they_were_sent_and_nothing_else_is_taken(self) -> None:
        send_settings(self.ours, watch=2.5, log="/tmp/é log", keep=())
        self.ours.sendall(b"the first request")
        self.assertEqual(receive_settings(self.theirs), Settings(watch=2.5, log="/tmp/é log"))
        self.assertEqual(self.theirs.recv(100), b"the first request")

    def test_descriptors_to_keep_are_those_of_the_same_files(self) -> None:
        if system.PORTABLE:
            raise unittest.SkipTest("descriptors cannot be passed on")
        with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as other:
            send_settings(self.ours, watch=0.0, log="", keep=[file.fileno(), other.fileno()])
            self.ours.sendall(b"the first request")
            settings = receive_settings(self.theirs)
            assert settings is not None
            for descriptor in settings.keep:
                self.addCleanup(os.close, descriptor)
            self.assertEqual(
                [os.fstat(each).st_ino for each in settings.keep],
                [os.fstat(each.fileno()).st_ino for each in (file, other)],
            )
        self.assertEqual(self.theirs.recv(100), b"the first request")

    def test_who_is_gone_sends_none(self) -> None:
        for sent in (b"", b"\0\0", b"\0\0\0\x09", b"\0\0\0\x09[1.5"):
            ours, theirs = socket.socketpair()
            with theirs:
                with ours:
                    ours.sendall(sent)
                self.assertIsNone(receive_settings(theirs), sent)


class NewNannyTests(unittest.SynchronousTestCase):
    def test_one_that_is_not_needed_leaves_nothing(self) -> None:
        nanny = NewNanny("ipython1.daemon.tests.sample_program")
        nanny.give_up()
        self.assertIsNotNone(nanny.process.returncode)
        self.assertNotIn(nanny.process.pid, osprocess.descendants(os.getpid()))

    def test_it_ends_with_those_who_would_have_set_it_up(self) -> None:
        nanny = NewNanny("ipython1.daemon.tests.sample_program")
        nanny.connection.close()
        self.assertEqual(nanny.process.wait(20), 0)

    def test_one_that_was_killed_meanwhile_is_left_to_its_supervisor(self) -> None:
        nanny = NewNanny()
        nanny.process.kill()
        nanny.process.wait(20)
        with nanny.connection, tempfile.TemporaryFile() as file:
            nanny.set_up(keep=[file.fileno()], watch=1.0, log="a log")
            self.assertEqual(nanny.connection.recv(1), b"")
