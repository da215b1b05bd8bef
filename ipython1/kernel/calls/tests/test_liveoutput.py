"""Live output: what is kept, what is shown, and that a flood is neither."""

from __future__ import annotations

from itertools import pairwise

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ipython1.core.capture import cut_mark
from ipython1.core.texts import shorten
from ipython1.kernel.calls.liveoutput import (
    BLOCK_STEADY_AFTER,
    LINES_OF_ALL,
    LINES_OF_ONE,
    MAX_LINE,
    PARTIAL_AFTER,
    RESUME_WITH,
    LiveLines,
    Shown,
    StreamedText,
)

OUT, ERR, OTHER = (0, "stdout"), (0, "stderr"), (1, "stdout")


class StreamedTextTests(SynchronousTestCase):
    def test_everything_and_what_is_new(self) -> None:
        text = StreamedText()
        text.add("one\n")
        text.add("two\n")
        self.assertEqual(text.since(0), ("one\ntwo\n", 0))
        self.assertEqual(text.since(4), ("two\n", 0))
        self.assertEqual(text.since(8), ("", 0))
        self.assertEqual(str(text), "one\ntwo\n")

    def test_it_is_bounded(self) -> None:
        """Old pieces go; whoever reads on is told how many characters are missing."""
        text = StreamedText(most=10)
        for number in range(100):
            text.add(f"{number:04}\n")
        kept, dropped = text.since(0)
        self.assertEqual((kept, dropped), ("0098\n0099\n", 490))
        self.assertEqual(text.since(495), ("0099\n", 0))
        self.assertEqual(str(text), "[... 490 characters were cut here ...]\n0098\n0099\n")

    def test_a_single_piece_is_kept_whole(self) -> None:
        text = StreamedText(most=10)
        text.add("x" * 50)
        self.assertEqual(text.since(0), ("x" * 50, 0))


class LiveLinesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.lines = LiveLines(self.clock.seconds)

    def fed(self, key: tuple[int, str], text: str, dropped: int = 0) -> list[str]:
        shown = list(self.lines.feed(key, text, dropped))
        self.assertTrue(all(each == key for each, _ in shown))
        return [line for _, line in shown]

    def test_whole_lines(self) -> None:
        self.assertEqual(self.fed(OUT, "a\n\nb\nc"), ["a", "", "b"])
        self.assertEqual(self.fed(ERR, "x\n"), ["x"])
        self.assertEqual(self.fed(OUT, "d\n"), ["cd"])

    def test_a_line_without_end_is_shown_after_a_while(self) -> None:
        self.assertEqual(self.fed(OUT, "so far"), [])
        self.clock.advance(PARTIAL_AFTER / 2)
        self.assertEqual(self.fed(OUT, "..."), [])
        self.assertEqual(list(self.lines.tick()), [])
        self.clock.advance(PARTIAL_AFTER / 2)
        self.assertEqual(list(self.lines.tick()), [(OUT, "so far...")])
        self.assertEqual(self.fed(OUT, " done\n"), ["so far... done"])

    def test_progress_bars_show_their_last_state(self) -> None:
        self.assertEqual(self.fed(OUT, "10%\r20%\r"), [])
        self.clock.advance(PARTIAL_AFTER)
        self.assertEqual(list(self.lines.tick()), [(OUT, "20%")])
        self.clock.advance(PARTIAL_AFTER)
        self.assertEqual(list(self.lines.tick()), [])
        self.assertEqual(self.fed(OUT, "30%\r99%\n"), [])
        self.clock.advance(BLOCK_STEADY_AFTER)
        self.assertEqual(list(self.lines.tick()), [(OUT, "99%")])
        self.assertEqual(self.fed(OUT, "\r\n"), [""])
        self.assertEqual(self.lines.shown.rest(*OUT, "99%\n\r\nmore"), "more")

    def test_bars_of_several_engines_move(self) -> None:
        """Nested bars, and blocks that are drawn again, are not final before they are at rest."""
        lines = LiveLines(self.clock.seconds, hints=False)
        self.assertEqual(
            list(lines.feed(OUT, "start\n\router 1\n\rinner 5\x1b[A")), [(OUT, "start")]
        )
        self.assertEqual(list(lines.feed(OTHER, "\x1b[?25lone\ntwo")), [])
        self.clock.advance(BLOCK_STEADY_AFTER / 2)
        list(lines.feed(OUT, "\router 2\n\rinner 0\x1b[A"))
        list(lines.feed(OTHER, "\r\x1b[2K\x1b[1A\x1b[2KONE\nTWO"))
        self.clock.advance(BLOCK_STEADY_AFTER / 2)
        self.assertEqual(list(lines.tick()), [])
        self.assertEqual(
            lines.moving(), [(OUT, "outer 2"), (OUT, "inner 0"), (OTHER, "ONE"), (OTHER, "TWO")]
        )
        final = list(lines.feed(OUT, "\n\r       \r\x1b[A\n"))
        final += lines.feed(OTHER, "\n\x1b[?25h")
        self.clock.advance(BLOCK_STEADY_AFTER)
        final += lines.tick()
        self.assertEqual(final, [(OUT, "outer 2"), (OTHER, "ONE"), (OTHER, "TWO")])
        self.assertEqual(lines.moving(), [])
        self.assertEqual(lines.shown.rest(*OUT, "start\nouter 2\nend\n"), "end\n")
        self.assertEqual(lines.shown.rest(*OTHER, "ONE\nTWO\n"), "")

    def test_a_final_line_that_changes_is_shown_again(self) -> None:
        self.assertEqual(self.fed(OUT, "one\ntwo\n"), ["one", "two"])
        self.assertEqual(self.fed(OUT, "\x1b[2A\rONE"), [])
        self.assertEqual(self.lines.shown.rest(*OUT, "ONE\ntwo\n"), "ONE\ntwo\n")
        self.fed(OUT, "\n\n")
        self.clock.advance(BLOCK_STEADY_AFTER)
        self.assertEqual(list(self.lines.tick()), [(OUT, "ONE"), (OUT, "two")])
        self.assertEqual(self.lines.shown.rest(*OUT, "ONE\ntwo\nthree\n"), "three\n")

    def test_what_does_not_fit_what_was_shown_is_shown_whole(self) -> None:
        """A piece of live output that gets lost must not make the end of the output wrong."""
        self.fed(OUT, "a\nc\n")
        self.assertEqual(self.lines.shown.rest(*OUT, "a\nb\nc\nd\n"), "a\nb\nc\nd\n")

    def test_giants_are_shortened(self) -> None:
        (line,) = self.fed(OUT, "x" * 10 * MAX_LINE + "\n")
        self.assertLess(len(line), MAX_LINE + 100)
        self.assertIn(f"[... {9 * MAX_LINE} characters ...]", line)

    def test_a_flood_is_cut_and_marked(self) -> None:
        burst, per_second = LINES_OF_ONE
        self.assertEqual(len(self.fed(OUT, "line\n" * 5000)), burst)
        self.assertEqual(self.fed(OUT, "more\n"), [])
        self.clock.advance(1.0)
        mark = f"[... {5000 - burst + 1} lines not shown here; the result has more ...]"
        self.assertEqual(list(self.lines.tick()), [(OUT, mark)])
        self.assertEqual(self.fed(OUT, "later\n" * 5000), ["later"] * per_second)
        self.assertEqual([key for key, _ in self.lines.end()], [OUT])
        self.assertEqual(list(self.lines.end()), [])

    def test_a_flood_that_goes_on_is_shown_in_pieces(self) -> None:
        seen: list[str] = []
        for _ in range(300):
            self.clock.advance(0.01)
            seen += self.fed(OUT, "line\n" * 50)
        marks = [index for index, line in enumerate(seen) if line.startswith("[...")]
        self.assertGreater(len(marks), 3)
        self.assertEqual({b - a for a, b in pairwise(marks)}, {RESUME_WITH + 1})
        # Where it ends, the mark comes after a moment.
        self.assertEqual(list(self.lines.tick()), [])
        self.clock.advance(RESUME_WITH / LINES_OF_ONE[1])
        [(_, mark)] = self.lines.tick()
        self.assertTrue(mark.startswith("[..."))

    def test_a_flood_leaves_room_for_the_others(self) -> None:
        self.fed(OUT, "line\n" * 5000)
        self.assertEqual(self.fed(OTHER, "heard\n"), ["heard"])

    def test_many_engines_together_are_bounded(self) -> None:
        shown = sum(len(self.fed((engine, "stdout"), "line\n" * 100)) for engine in range(50))
        self.assertEqual(shown, LINES_OF_ALL[0])

    def test_the_rest_at_the_end(self) -> None:
        """The last piece comes with the result; a line that was waiting for its end is not shown twice."""
        self.fed(OUT, "a\nhalf")
        rest = self.lines.shown.rest(*OUT, "a\nhalf a line")
        self.assertEqual(rest, "half a line")
        self.assertEqual(list(self.lines.close(OUT, rest)), [(OUT, "half a line")])
        self.assertEqual(self.lines.shown.rest(*OUT, "a\nhalf a line"), "")
        self.assertEqual(list(self.lines.close(ERR, "")), [])


class ShownTests(SynchronousTestCase):
    """What was shown is known by its length, unless something was left out."""

    def shown_after(self, text: str, dropped: int = 0) -> Shown:
        lines = LiveLines(Clock().seconds)
        list(lines.feed(OUT, text, dropped))
        return lines.shown

    def test_the_rest_follows_what_was_shown(self) -> None:
        shown = self.shown_after("a\nb\nc")
        self.assertEqual(shown.rest(0, "stdout", "a\nb\nc\nd\n"), "c\nd\n")
        self.assertEqual(shown.rest(0, "stderr", "e\n"), "e\n")
        self.assertEqual(shown.rest(1, "stdout", "a\n"), "a\n")

    def test_nothing_follows_a_cut(self) -> None:
        """Characters cannot be counted any more, so nothing is shown instead of something twice."""
        for shown in (
            self.shown_after("line\n" * 5000),
            self.shown_after("a\n", dropped=5),
            self.shown_after("a" + cut_mark(7) + "b\n"),
            self.shown_after(shorten("x\n" * 5000, 100)),
        ):
            self.assertEqual(shown.rest(0, "stdout", "x\n" * 10_000), "")
