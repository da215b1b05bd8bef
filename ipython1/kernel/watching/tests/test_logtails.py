"""Tests of reading the ends of log files."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial import unittest

from ipython1.kernel.host.security import ClusterFiles, IPythonDirs
from ipython1.kernel.watching.logtails import TAIL, LogTails


class LogTailTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.dirs = IPythonDirs(Path(self.mktemp()).absolute())
        self.dirs.log.mkdir(parents=True)
        self.logs = LogTails(ClusterFiles(self.dirs))

    def write(self, name: str, text: str) -> Path:
        path = self.dirs.log / name
        with path.open("a") as file:
            file.write(text)
        return path

    def test_the_logs_of_one_cluster_are_listed_in_order(self) -> None:
        for name in (
            *("ipengine-10.log", "ipengine-9.log", "ipcluster.log", "ipcontroller.log"),
            *("ipcontroller-lab.log", "ipengine-lab-0.log", "ipengine-lab-1.log", "notes.txt"),
        ):
            self.write(name, "x\n")
        self.assertEqual(
            self.logs.names(),
            ["ipcontroller.log", "ipcluster.log", "ipengine-9.log", "ipengine-10.log"],
        )
        self.assertEqual(
            LogTails(ClusterFiles(self.dirs, "lab")).names(),
            ["ipcontroller-lab.log", "ipengine-lab-0.log", "ipengine-lab-1.log"],
        )

    def test_lines_are_read_once_they_are_whole(self) -> None:
        self.write("ipcontroller.log", "one\ntwo\nthr")
        first = self.logs.read("ipcontroller.log")
        self.assertEqual((first.text, first.fresh), ("one\ntwo\n", True))
        self.write("ipcontroller.log", "ee\nfour\n")
        second = self.logs.read("ipcontroller.log", first.next)
        self.assertEqual((second.text, second.fresh), ("three\nfour\n", False))
        self.assertEqual(self.logs.read("ipcontroller.log", second.next).text, "")

    def test_a_place_that_is_none_is_the_beginning(self) -> None:
        inode = self.write("ipcontroller.log", "one\n").stat().st_ino
        for place in ("", "x", "0.3", f"{inode}.-1", f"{inode}.99", f"{inode}.{'0' * 5000}"):
            self.assertEqual(self.logs.read("ipcontroller.log", place).text, "one\n", place[:20])

    def test_only_the_end_of_a_long_file_is_read(self) -> None:
        self.write("ipcontroller.log", "".join(f"line {i}\n" for i in range(50_000)))
        tail = self.logs.read("ipcontroller.log")
        self.assertLessEqual(len(tail.text), TAIL)
        self.assertTrue(tail.text.startswith("line "))
        self.assertTrue(tail.text.endswith("line 49999\n"))

    def test_a_file_that_was_replaced_is_read_anew(self) -> None:
        path = self.write("ipcontroller.log", "old\n")
        place = self.logs.read("ipcontroller.log").next
        path.rename(path.with_name("ipcontroller.log.1"))
        self.write("ipcontroller.log", "new\n")
        tail = self.logs.read("ipcontroller.log", place)
        self.assertEqual((tail.text, tail.fresh), ("new\n", True))

    def test_other_files_are_not_read(self) -> None:
        secret = self.write("secret.txt", "secret\n")
        for name in ("secret.txt", "../log/ipcontroller.log", str(secret), ""):
            self.assertRaises(FileNotFoundError, self.logs.read, name)

    def test_links_and_pipes_are_refused(self) -> None:
        secret = self.write("secret.txt", "secret\n")
        (self.dirs.log / "ipengine-0.log").symlink_to(secret)
        os.mkfifo(self.dirs.log / "ipengine-1.log")
        for name in ("ipengine-0.log", "ipengine-1.log"):
            self.assertRaises(OSError, self.logs.read, name)
