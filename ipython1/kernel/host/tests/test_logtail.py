"""The ends of log files, and what is added to them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import SecurityError
from ipython1.kernel.host import logtail
from ipython1.kernel.host.logs import RotatedFile
from ipython1.kernel.host.logtail import LogTail
from ipython1.kernel.host.oldlogs import DAY, remove_old_logs
from ipython1.testing.folders import temporary_path


class LogCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(temporary_path(self))
        self.directory.mkdir(mode=0o700)
        self.path = self.directory / "ipcontroller.log"

    def tail(self) -> LogTail:
        tail = LogTail(self.path)
        self.addCleanup(tail.close)
        return tail

    def add(self, text: str) -> None:
        with open(self.path, "a") as file:
            file.write(text)


class TailTests(LogCase):
    def test_the_last_lines(self) -> None:
        self.add("".join(f"line {n}\n" for n in range(100)))
        self.assertEqual(list(self.tail().last(2)), ["line 98\n", "line 99\n"])
        self.assertEqual(list(self.tail().last(0)), [])
        self.assertEqual(len(list(self.tail().last(1000))), 100)

    def test_of_a_large_file_only_the_end_is_read(self) -> None:
        self.patch(logtail, "TAIL", 100)
        self.add("".join(f"line {n}\n" for n in range(1000)))
        lines = list(self.tail().last(1000))
        self.assertEqual(lines[-1], "line 999\n")
        self.assertTrue(2 < len(lines) < 15 and all(each.startswith("line ") for each in lines))

    def test_what_is_added_comes_in_whole_lines(self) -> None:
        tail = self.tail()
        self.assertEqual(list(tail.last(5)), [])  # it is not there yet
        self.assertEqual(list(tail.more()), [])
        self.add("one\ntw")
        self.assertEqual(list(tail.more()), ["one\n"])
        self.add("o\n")
        self.assertEqual(list(tail.more()), ["two\n"])
        self.assertEqual(list(tail.more()), [])

    def test_nothing_is_lost_or_doubled_when_the_file_is_rotated(self) -> None:
        file = RotatedFile(self.path, 200)
        self.addCleanup(file.close)
        file.write("line 0\n")
        tail = self.tail()
        found = list(tail.last(5))
        for n in range(1, 100):
            file.write(f"line {n}\n")
            if n % 7 == 0:
                found += tail.more()
        found += tail.more()
        self.assertEqual(found, [f"line {n}\n" for n in range(100)])
        self.assertTrue(Path(f"{self.path}.1").exists())

    def test_a_file_that_is_begun_anew_is_read_from_its_beginning(self) -> None:
        self.add("old line\n" * 5)
        tail = self.tail()
        list(tail.last(1))
        self.path.write_text("new\n")
        self.assertEqual(list(tail.more()), ["new\n"])

    def test_links_are_not_followed_and_nothing_controls_the_terminal(self) -> None:
        self.add("\x1b[2Jx\n\tat y\n")
        self.assertEqual(list(self.tail().last(5)), ["\\x1b[2Jx\n", "\tat y\n"])
        secret = self.directory / "secret"
        self.path.rename(secret)
        self.path.symlink_to(secret)
        self.assertRaises(SecurityError, list, self.tail().last(5))


class OldLogTests(LogCase):
    def old(self, name: str, days: float = 31.0) -> Path:
        path = self.directory / name
        path.touch()
        when = time.time() - days * DAY
        os.utime(path, (when, when))
        return path

    def test_only_old_logs_that_nobody_uses_are_removed(self) -> None:
        gone = [
            self.old(name)
            for name in (
                *("ipcontroller.log", "ipcontroller-mine.log.1", "ipengine-mine-3.log"),
                *("ipcluster.log.3", "ipengine-77-1.out", "ipcontroller-audit.log"),
            )
        ]
        young = self.old("ipengine-0.log", 29.0)
        mine = [
            self.old(name) for name in ("notes.txt", "ipengine.py", "results.log", "ipenginex.log")
        ]
        link = self.directory / "ipengine-5.log"
        link.symlink_to(self.old("target"))
        used = RotatedFile(self.directory / "ipengine-1.log", 0)
        self.addCleanup(used.close)
        self.old("ipengine-1.log")
        self.assertEqual(remove_old_logs(self.directory, 30.0), len(gone))
        self.assertFalse(any(path.exists() for path in gone))
        self.assertTrue(all(path.exists() for path in (young, used.path, link, *mine)))

    def test_all_are_kept_if_that_is_wanted(self) -> None:
        path = self.old("ipcontroller.log", 10000.0)
        self.assertEqual(remove_old_logs(self.directory, 0.0), 0)
        self.assertTrue(path.exists())
        self.assertEqual(remove_old_logs(self.directory / "none", 1.0), 0)
