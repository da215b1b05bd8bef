"""What a terminal shows of a text: bars that rewrite their lines, and everything else as it was."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from ipython1.core import terminaltext
from ipython1.core.condenser import Condenser
from ipython1.core.terminaltext import HEIGHT, TerminalText, rendered, without_styles


def bar(*states: str) -> str:
    return "".join(f"\r{state}" for state in states)


class RenderedTests(SynchronousTestCase):
    def test_text_without_moves_is_kept_byte_for_byte(self) -> None:
        for text in (
            "",
            "a\n\nb  \n",
            "no end",
            "dos\r\nlines\r\n\r\r\n",
            "\x1b[31mred\x1b[0m \t tab\x0b\x0c\x00\n",
            "trailing   \n",
            "\x1b]8;;http://a.b\x1b\\link\x1b]8;;\x1b\\\n",
            "unfinished \x1b[",
        ):
            self.assertIs(rendered(text), text)

    def test_lines_around_a_bar_are_kept_byte_for_byte(self) -> None:
        before = "dos\r\n\x1b[31mred\x1b[0m  \n\tx \n"
        after = "\n  end \r\n\x1b[1mbold"
        text = before + bar("10%", "20%", "100%") + after
        self.assertEqual(rendered(text), before + "100%" + after)

    def test_a_bar_leaves_its_last_state(self) -> None:
        self.assertEqual(rendered(bar("10%", "20%", "done") + "\n"), "done\n")
        self.assertEqual(rendered("10%\r20%\r"), "20%")
        self.assertEqual(rendered("long text\rxy"), "xyng text")
        self.assertEqual(rendered("long text\r\x1b[Kxy"), "xy")
        self.assertEqual(rendered("12\x08\x08345"), "345")
        self.assertEqual(rendered(bar("10%") + "\r    \r" + "next\n"), "next\n")

    def test_bars_below_each_other(self) -> None:
        """As ``tqdm`` writes nested bars."""
        text = "\router 0\n\rinner 0\x1b[A\n\rinner 9\x1b[A\router 1\n\rinner 5\x1b[A\n\r       \r\x1b[A\n"
        self.assertEqual(rendered(text), "outer 1\n")

    def test_blocks_that_are_written_again(self) -> None:
        """As ``rich`` does it: up and erase, line by line, with the cursor hidden."""
        first = "\x1b[?25lone 0\ntwo 0"
        again = "\r\x1b[2K\x1b[1A\x1b[2Kone {0}\ntwo {0}"
        text = (
            "before\n"
            + first
            + "".join(again.format(each) for each in range(5))
            + "\n\x1b[?25hafter\n"
        )
        self.assertEqual(rendered(text), "before\none 4\ntwo 4\nafter\n")

    def test_colours_stay_with_their_characters(self) -> None:
        text = "\x1b[31mabc\x1b[0m\rX"
        self.assertEqual(rendered(text), "X\x1b[31mbc\x1b[0m")
        self.assertEqual(without_styles(rendered(text)), "Xbc")

    def test_what_has_scrolled_away_is_final(self) -> None:
        lines = "".join(f"line {number}\n" for number in range(HEIGHT * 2))
        seen = rendered(lines + "\x1b[500A\rX")
        self.assertEqual(seen.replace("X", "l"), lines)
        self.assertEqual(seen.index("X"), lines.index(f"line {HEIGHT + 1}"))

    def test_clearing_the_screen_loses_nothing(self) -> None:
        self.assertEqual(rendered("kept\n\x1b[H\x1b[2J\x1b[3Jmore\rM\n"), "kept\nMore\n")

    def test_short_cuts_change_nothing(self) -> None:
        """Parts that are left alone, and states that are left out, give what carrying everything out gives."""
        atoms = [
            "word", "\n", "\r", "\r\n", "\rxx", "\rlonger text ", "\x1b[2A", "\x1b[K", "\x1b[2K", "\x1b[31m", "\x1b[0m",
            "\x1b[J", "l\n" * 80, "\x1b[31mr\x1b[0m\r\n" * 70,
        ]  # fmt: skip
        self.patch(terminaltext, "LONG_GAP", 100)
        choice = random.Random(12)
        for _ in range(120):
            text = "".join(choice.choice(atoms) for _ in range(choice.randrange(40)))
            found = rendered(text)
            if not terminaltext.is_plain(text):
                terminal = TerminalText()
                for character in text:
                    terminal.feed(character)
                terminal.finish()
                self.assertEqual(found, str(terminal), repr(text))


class CondenserTests(SynchronousTestCase):
    def condensed(self, pieces: list[str]) -> tuple[str, int]:
        """What a reader sees who gets the condensed pieces, and how much was sent."""
        condenser, reader = Condenser(), TerminalText()
        size = 0
        for piece in pieces:
            text = condenser.condense(piece)
            size += len(text)
            reader.feed(text)
        reader.finish()
        return str(reader), size

    def test_plain_pieces_pass(self) -> None:
        condenser = Condenser()
        for piece in ("a", "b\n", "\x1b[31mc\r\n", "d\n" * 500, "e"):
            self.assertIs(condenser.condense(piece), piece)

    def test_only_the_last_state_is_sent(self) -> None:
        pieces = [
            "start\n",
            bar(*(f"{n:5} of 10000" for n in range(5000))),
            bar("10000 of 10000"),
            "\nend\n",
        ]
        seen, size = self.condensed(pieces)
        self.assertEqual(seen, "start\n10000 of 10000\nend\n")
        self.assertLess(size, 200)

    def test_line_ends_and_colours_survive(self) -> None:
        pieces = ["a", "\r\nb\x1b[31m", "red\rX", "Y\nnext \x1b[0m\r\n", "last"]
        self.assertEqual(self.condensed(pieces)[0], rendered("".join(pieces)))

    def test_any_text_in_any_pieces(self) -> None:
        """A reader of condensed pieces sees what a reader of everything sees."""
        atoms = [
            "a", "bc ", "word", "\n", "\n", "\r", "\r\n", "\x08", "\x1b[A", "\x1b[2A", "\x1b[K", "\x1b[2K",
            "\x1b[1K", "\x1b[31m", "\x1b[0m", "\x1b[3C", "\x1b[2D", "\x1b[J", "\x1b[5G", "\x1b[B", "\x1b[?25l",
            "x" * 30, "\n" * 25,
        ]  # fmt: skip
        choice = random.Random(12)
        for _ in range(600):
            text = "".join(choice.choice(atoms) for _ in range(choice.randrange(60)))
            pieces, position = [], 0
            while position < len(text):
                step = choice.randrange(1, 20)
                pieces.append(text[position : position + step])
                position += step
            pieces.append("Z")  # so that none ends within a sequence
            text += "Z"
            seen, _ = self.condensed(pieces)
            terminal = TerminalText()
            terminal.feed(text)
            terminal.finish()
            if "m" in text:
                # Where a colour begins may be said in another way.
                seen = without_styles(seen).replace("\r", "")
                expected = without_styles(str(terminal)).replace("\r", "")
            else:
                expected = str(terminal)
            self.assertEqual(seen, expected, f"{pieces!r}")
