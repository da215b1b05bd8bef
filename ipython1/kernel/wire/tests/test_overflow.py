"""Bytes that wait in temporary files."""

from __future__ import annotations

import os
import tempfile

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.wire.overflow import Overflow, is_in_file

SEGMENT = 1000


class OverflowTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.overflow = Overflow(SEGMENT)

    def files(self) -> int:
        return len(os.listdir("/proc/self/fd"))

    def test_what_is_put_there_is_read_as_it_was(self) -> None:
        given = [[os.urandom(n), b"", os.urandom(3 * n)] for n in (1, 100, 200, 400, 5)]
        kept = [self.overflow.put(each) for each in given]
        self.assertEqual([[bytes(one) for one in each] for each in kept], given)
        self.assertEqual([len(one) for one in kept[0]], [1, 0, 3])
        self.assertNotIsInstance(kept[0][0], bytes)

    def test_it_can_be_told_from_memory(self) -> None:
        given = (b"abc", memoryview(bytearray(5)))
        self.assertFalse(any(map(is_in_file, given)))
        self.assertTrue(all(map(is_in_file, Overflow().put(given))))

    def test_a_file_goes_with_the_last_of_what_it_has(self) -> None:
        if not os.path.isdir("/proc/self/fd"):
            self.skipTest("open files cannot be counted here")
        kept = [self.overflow.put([bytes(SEGMENT)]) for _ in range(2)]
        before = self.files()
        kept += [self.overflow.put([bytes(SEGMENT)]) for _ in range(10)]
        self.assertGreater(self.files(), before)
        del kept[2:]
        self.assertLessEqual(self.files(), before + 1)

    def test_without_a_place_for_files_it_stays_in_memory(self) -> None:
        self.patch(tempfile, "tempdir", "/nowhere")
        self.assertEqual(self.overflow.put([b"abc"]), [b"abc"])
