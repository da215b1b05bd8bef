"""Notes about failures on their way from engines."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.wire import frames, taskwire
from ipython1.kernel.wire.failurenotes import (
    MOST_ERROR,
    MOST_TEXTS,
    MOST_TRACEBACK,
    Note,
    pack_note,
    pack_notes,
    unpack_note,
    unpack_notes,
)


class NoteTests(SynchronousTestCase):
    def test_what_is_told_arrives(self) -> None:
        note = Note("ValueError: ä", "Traceback\n  line\nValueError: ä", 3)
        self.assertEqual(unpack_note(pack_note(note)), note._replace(items=0))
        age, notes = unpack_notes(pack_notes(1.5, {2: note, 7: Note("E", "")}))
        self.assertEqual((age, list(notes)), (1.5, [(2, note), (7, Note("E", ""))]))
        self.assertEqual(unpack_notes(b""), (0.0, ()))

    def test_long_texts_are_cut_where_it_hurts_least(self) -> None:
        lines = "".join(f"line {number} ü\n" for number in range(2000))
        for data in (pack_note(Note("x" * 10**6, lines)), pack_notes(0.0, {0: Note("", lines)})):
            self.assertLess(len(data), MOST_ERROR + MOST_TRACEBACK + 30)
        cut = unpack_note(pack_note(Note("ä" * 1000, lines)))
        self.assertTrue(cut.traceback.startswith("[...]\nline 1"), cut.traceback[:20])
        self.assertTrue(cut.traceback.endswith("line 1999 ü\n"))
        self.assertLessEqual(len(cut.error.encode()), MOST_ERROR + 2)

    def test_one_long_line_is_cut_too(self) -> None:
        cut = unpack_note(pack_note(Note("", "y" * 10**5)))
        self.assertTrue(cut.traceback.startswith("[...]\nyyy"))

    def test_only_some_have_texts_but_all_count(self) -> None:
        notes = {place: Note("E: m", "T", 2) for place in range(300)}
        data = pack_notes(0.0, notes)
        self.assertLess(len(data), frames.MAX_META)
        _, told = unpack_notes(data)
        self.assertEqual([note.items for _, note in told], [2] * 300)
        self.assertEqual(sum(note.error != "" for _, note in told), MOST_TEXTS)

    def test_damage_is_noticed(self) -> None:
        data = pack_notes(0.5, {0: Note("E", "T" * 10)})
        for end in (*range(1, 8), *range(9, len(data))):
            self.assertRaises(ProtocolError, unpack_notes, data[:end])
        for bad in (b"\0", pack_note(Note("E", "T"))[:-1], pack_note(Note("E", "T")) + b"x"):
            self.assertRaises(ProtocolError, unpack_note, bad)
        for age in (float("nan"), float("inf")):
            self.assertRaises(ProtocolError, unpack_notes, pack_notes(0.0)[:0] + taskwire_age(age))

    def test_each_frame_of_results_has_the_notes_of_its_own(self) -> None:
        results = [(n, 1, 1, 0.5, bytes(40_000)) for n in range(5)]
        notes = {n: Note(f"E: {n}", "") for n in range(5)}
        told: list[tuple[int, list[tuple[int, str]]]] = []
        ages: list[float] = []

        def received(kind: int, flags: int, ident: int, meta: object, payload: object) -> None:
            age, found = unpack_notes(meta)  # type: ignore[arg-type]
            ages.append(age)
            told.append((ident, [(place, note.error) for place, note in found]))

        for parts, size in taskwire.pack_results(results, 7, 2.0, notes):
            self.assertEqual(len(b"".join(parts)), size)
            frames.dispatch(b"".join(parts), received)
        self.assertEqual(
            told,
            [
                (7, [(0, "E: 0"), (1, "E: 1")]),
                (9, [(0, "E: 2"), (1, "E: 3")]),
                (11, [(0, "E: 4")]),
            ],
        )
        self.assertEqual(ages, [2.0 + 3 * 0.5, 2.0 + 0.5, 2.0], "since the last of each frame")


def taskwire_age(age: float) -> bytes:
    import struct

    return struct.pack("<d", age)
