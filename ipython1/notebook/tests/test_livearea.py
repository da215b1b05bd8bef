"""Lines that change have the width of the terminal, whatever is in them."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios

from twisted.trial import unittest

from ipython1.notebook.livearea import DumbArea, TerminalArea, clipped, columns_of


class ClippedTests(unittest.SynchronousTestCase):
    def test_wide_characters_take_two_columns_and_marks_none(self) -> None:
        self.assertEqual(columns_of("a\u65e5e\u0301"), 4)
        self.assertEqual(clipped("\u65e5\u672c\u8a9e", 6), "\u65e5\u672c\u8a9e")
        self.assertEqual(clipped("\u65e5\u672c\u8a9e", 5), "\u65e5\u672c\u2026")
        self.assertEqual(clipped("\u65e5\u672c\u8a9e", 4), "\u65e5\u2026")
        self.assertEqual(clipped("abcdef", 6), "abcdef")
        self.assertEqual(clipped("abcdefg", 6), "abcde\u2026")

    def test_control_characters_are_left_out(self) -> None:
        self.assertEqual(clipped("a\x07\x08\rb\tc\x9bd\x1b[31me", 20), "ab cde")


class NarrowTerminalTests(unittest.SynchronousTestCase):
    """A line that is as wide as the terminal would take two rows, of which the next one overwrites only one."""

    def drawn(self, kind: type[DumbArea] | type[TerminalArea]) -> str:
        leader, follower = pty.openpty()
        self.addCleanup(os.close, leader)
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 30, 0, 0))
        with open(follower, "w", encoding="utf-8") as file:
            area = kind(file)
            area.show(["\u65e5" * 40])
            self.assertEqual(area.width, 29)
            return os.read(leader, 1000).decode("utf-8").replace("\x1b[K", "").strip("\r")

    def test_dumb(self) -> None:
        self.assertEqual(columns_of(self.drawn(DumbArea)), 29)

    def test_with_cursor(self) -> None:
        self.assertEqual(columns_of(self.drawn(TerminalArea)), 29)
