"""What processes use, as the system tells it and as its portable stand-in does."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from ipython1 import system
from ipython1.kernel.host.processstate import ProcessName, name_process
from ipython1.kernel.host.processusage import own_usage, usage_of


class UsageTests(SynchronousTestCase):
    def check(self) -> None:
        own = own_usage()
        assert own.memory is not None
        self.assertGreater(own.memory, 2**20)
        self.assertGreater(own.cpu, 0.0)
        program = "import sys; print('ready', flush=True); sys.stdin.read()"
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            name = name_process(child.pid)
            assert name is not None
            found = usage_of(name)
            assert found is not None and found.memory is not None
            self.assertGreater(found.memory, 0)
            self.assertLess(found.cpu, 60.0)
            other = ProcessName(child.pid, name.started + 1)
            self.assertIsNone(usage_of(other), "its pid has passed to another process")
        self.assertIsNone(usage_of(name))

    def test_here(self) -> None:
        self.check()

    def test_elsewhere(self) -> None:
        self.patch(system, "LINUX", False)
        self.check()
