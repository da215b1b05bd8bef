"""File locks: one holder at a time, and none after the holder has ended in any way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import ClientError
from ipython1.kernel.host.hosts import host_identity
from ipython1.kernel.host.lockfile import LockFile
from ipython1.kernel.tests.wiresupport import run_program
from ipython1.testing.folders import temporary_path

HOLDER = """
import sys
from pathlib import Path
from ipython1.kernel.host.lockfile import LockFile
lock = LockFile(Path(sys.argv[1]))
print(lock.acquire(), flush=True)
sys.stdin.read()
"""


class LockFileTest(SynchronousTestCase):
    def setUp(self):
        self.path = Path(temporary_path(self))

    def holder(self) -> subprocess.Popen[str]:
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(self.path.absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environ,
            text=True,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.readline(), "True\n")
        return process

    def test_one_holder_at_a_time(self):
        first, second = LockFile(self.path), LockFile(self.path)
        self.assertIsNone(first.holder())
        self.assertTrue(first.acquire())
        self.assertFalse(second.acquire())
        self.assertEqual(second.holder(), os.getpid())
        second.release()
        self.assertFalse(second.acquire())
        first.release()
        first.release()
        self.assertTrue(second.acquire())
        second.release()

    def test_it_is_private(self):
        lock = LockFile(self.path)
        lock.acquire()
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        lock.release()

    def test_another_process_has_it_until_it_is_killed(self):
        process = self.holder()
        lock = LockFile(self.path)
        self.assertFalse(lock.acquire())
        self.assertEqual(lock.holder(), process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        self.assertTrue(lock.acquire())
        self.assertEqual(lock.holder(), os.getpid())
        lock.release()

    def test_the_file_of_the_last_holder_is_written_over(self):
        """It keeps its place on the disk, and is never empty."""
        self.path.write_text("1234567890\n")
        inode = self.path.stat().st_ino
        lock = LockFile(self.path)
        self.assertTrue(lock.acquire())
        self.assertEqual(self.path.stat().st_ino, inode)
        self.assertEqual(self.path.read_text(), f"{os.getpid()}\n")
        lock.release()

    def test_a_link_to_another_file_is_not_followed(self):
        target = Path(temporary_path(self))
        target.write_text("precious")
        self.path.symlink_to(target.absolute())
        self.assertRaises(ClientError, LockFile(self.path).acquire)
        self.assertEqual(target.read_text(), "precious")

    def test_a_file_that_cannot_be_written_is_named(self):
        self.path.mkdir()
        error = self.assertRaises(ClientError, LockFile(self.path).acquire)
        self.assertIn(str(self.path), str(error))


class HostIdentityTest(SynchronousTestCase):
    def test_processes_of_one_host_agree(self):
        there = run_program(
            "from ipython1.kernel.host.hosts import host_identity; print(host_identity())"
        )
        self.assertEqual(there.strip(), host_identity())
