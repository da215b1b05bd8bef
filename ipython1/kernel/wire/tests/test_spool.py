"""What slow receivers have not taken: some in memory, the rest in a file, and what happens when both are full."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.tests.wiresupport import quick
from ipython1.kernel.wire import spool
from ipython1.kernel.wire.spool import Spool, SpoolFull
from ipython1.testing.folders import temporary_path

PIECE = 8


def piece(number: int) -> bytes:
    return number.to_bytes(PIECE, "little")


class SpoolTest(SynchronousTestCase):
    def setUp(self):
        self.patch(spool, "PIECE_SIZE", PIECE)
        self.patch(spool, "RESERVE", 4 * PIECE)
        self.changes = []

    def make(self, memory=2, places=4, folder=None):
        made = Spool(memory * PIECE, places * PIECE, folder)
        made.watch(self.changes.append)
        return made

    def test_what_is_put_comes_back_from_memory_and_file(self):
        kept = self.make()
        slots = [kept.put(piece(n)) for n in range(6)]
        self.assertEqual([kept.get(slot) for slot in slots], [piece(n) for n in range(6)])
        self.assertEqual((kept.in_memory, kept.in_file), (2 * PIECE, 4))

    def test_short_pieces_come_back_as_short(self):
        kept = self.make(memory=0)
        slots = [kept.put(data) for data in (b"abc", b"", piece(1), b"z")]
        self.assertEqual([kept.get(slot) for slot in slots], [b"abc", b"", piece(1), b"z"])

    def test_there_is_one_open_file_and_none_when_nothing_is_in_it(self):
        before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
        kept = self.make()
        slots = [kept.put(piece(n)) for n in range(6)]
        if before is not None:
            self.assertEqual(len(os.listdir("/proc/self/fd")), before + 1)
        for slot in slots:
            kept.free(slot)
        if before is not None:
            self.assertEqual(len(os.listdir("/proc/self/fd")), before)
        self.assertEqual((kept.in_memory, kept.in_file), (0, 0))

    def test_places_are_used_again(self):
        kept = self.make(memory=0)
        slots = [kept.put(piece(n)) for n in range(4)]
        kept.free(slots[1])
        again = kept.put(piece(9))
        self.assertEqual(kept.get(again), piece(9))
        self.assertEqual(os.fstat(kept._file.fileno()).st_size, 4 * PIECE)

    def test_it_is_full_before_something_does_not_fit_and_open_again_when_much_is_free(self):
        kept = self.make()
        slots = []
        while not kept.full:
            slots.append(kept.put(piece(len(slots))))
        self.assertEqual(len(slots), 6)
        self.assertEqual(self.changes, [True])
        slots += [kept.put(piece(0)) for _ in range(4)]  # what was on its way
        with self.assertRaises(SpoolFull):
            kept.put(piece(0))
        for slot in slots[2:]:
            kept.free(slot)
        self.assertEqual(self.changes, [True, False])
        self.assertEqual(kept.get(slots[1]), piece(1))

    def test_a_file_that_cannot_be_made_only_means_less_room(self):
        kept = self.make(folder=temporary_path(self))  # there is no such directory
        slots = [kept.put(piece(n)) for n in range(3)]
        self.assertTrue(kept.full)
        self.assertIn("No such file", kept.problem)
        self.assertEqual([kept.get(slot) for slot in slots], [piece(n) for n in range(3)])
        for slot in slots:
            kept.free(slot)
        self.assertEqual(self.changes, [True, False])

    def test_a_file_that_was_cut_short_is_noticed(self):
        kept = self.make(memory=0)
        slot = kept.put(piece(1))
        os.ftruncate(kept._file.fileno(), 3)
        with self.assertRaises(OSError):
            kept.get(slot)

    @quick
    @given(st.lists(st.integers(0, 9), max_size=80), st.booleans())
    def test_whatever_happens(self, events, broken):
        """Each number frees the slot with that index, or puts a piece; sizes and contents are always right."""
        kept = Spool(2 * PIECE, 4 * PIECE, temporary_path(self) if broken else None)
        slots = []
        for number, event in enumerate(events):
            if event < len(slots):
                slot, data = slots.pop(event)
                self.assertEqual(kept.get(slot), data)
                kept.free(slot)
            else:
                data = piece(number)[: 1 + event]
                try:
                    slots.append((kept.put(data), data))
                except SpoolFull:
                    self.assertTrue(kept.full)
            self.assertLessEqual(kept.in_memory, 6 * PIECE)
            self.assertLessEqual(kept.in_file, 4)
            self.assertEqual([kept.get(slot) for slot, _ in slots], [data for _, data in slots])
        for slot, _ in slots:
            kept.free(slot)
        self.assertEqual((kept.in_memory, kept.in_file, kept.full), (0, 0, False))
        self.assertIsNone(kept._file)
