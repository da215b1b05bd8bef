"""What ``ps`` shows of our processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial import unittest

from ipython1.daemon import osprocess
from ipython1.daemon.titles import process_title

PROGRAM = """
import os, sys, threading
from ipython1.daemon.titles import set_title
before = open("/proc/self/environ").read()
thread = threading.Thread(target=set_title, args=(sys.argv[1],))
thread.start()
thread.join()
shown = open("/proc/self/cmdline").read().rstrip("\\0 ")
print(repr((shown, open("/proc/self/comm").read(), sys.argv[1], "SPT_NOENV" in os.environ)))
print(before == open("/proc/self/environ").read())
"""


class TitleTests(unittest.SynchronousTestCase):
    def test_titles(self) -> None:
        for arguments, title in (
            (("ipcontroller", ""), "ipcontroller"),
            (("ipengine", "mine", 3), "ipengine 3 [mine]"),
            (("ipengine", "", 0, "rank 1"), "ipengine 0 rank 1"),
        ):
            self.assertEqual(process_title(*arguments), title)  # type: ignore[arg-type]

    def test_the_process_keeps_its_arguments_and_its_environment(self) -> None:
        if not osprocess.is_linux():
            raise unittest.SkipTest("needs /proc")
        root = str(Path(osprocess.__file__).parents[2])
        environ = {**os.environ, "PYTHONPATH": root, "LAST": "x" * 50}
        title = "ipengine 31 [mine]"
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, title],
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        # From another thread, too; the short name has no spaces, which parsers of /proc/PID/stat do not expect.
        wanted = repr((title, "ipengine-31\n", title, False))
        self.assertEqual(done.stdout, f"{wanted}\nTrue\n")
