"""States of real processes, with the system's own means and with the portable ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from twisted.trial import unittest

from ipython1 import system
from ipython1.daemon import osprocess
from ipython1.kernel.host.processstate import (
    ProcessName,
    ProcessState,
    name_process,
    process_state,
    this_process,
)


def until(condition: Callable[[], bool]) -> bool:
    """Look again and again whether a condition holds; give up after 10 s."""
    end = time.monotonic() + 10
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


class ProcessStateTests(unittest.SynchronousTestCase):
    def start(self) -> tuple[subprocess.Popen[bytes], ProcessName]:
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", "print(flush=True); input()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None and process.stdout is not None
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        process.stdout.readline()
        name = name_process(process.pid)
        assert name is not None
        return process, name

    def test_a_process_runs_is_stopped_dies_and_is_gone(self) -> None:
        process, name = self.start()
        self.assertIs(name.state, ProcessState.RUNNING)
        process.send_signal(signal.SIGSTOP)
        self.assertTrue(until(lambda: name.state is ProcessState.STOPPED))
        self.assertTrue(name.state.alive)
        process.send_signal(signal.SIGCONT)
        self.assertTrue(until(lambda: name.state is ProcessState.RUNNING))
        process.kill()
        self.assertTrue(until(lambda: name.state is ProcessState.ZOMBIE))
        self.assertFalse(name.state.alive)
        process.wait()
        self.assertIs(name.state, ProcessState.GONE)
        self.assertIsNone(name_process(process.pid))

    def test_another_process_with_the_pid_is_not_the_one_that_was_named(self) -> None:
        _, name = self.start()
        self.assertIs(process_state(name.pid, name.started - 100), ProcessState.GONE)
        self.assertIs(process_state(name.pid), ProcessState.RUNNING)

    def test_this_process_has_a_name(self) -> None:
        self.assertEqual(this_process(), name_process(os.getpid()))
        self.assertIs(this_process().state, ProcessState.RUNNING)


class PortableProcessStateTests(ProcessStateTests):
    """The same without what only Linux has."""

    def setUp(self) -> None:
        self.patch(system, "LINUX", False)
        self.assertFalse(osprocess.is_linux())
