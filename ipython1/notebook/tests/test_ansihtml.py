"""What programs write for terminals, as HTML."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ipython1.notebook.ansihtml import text_html


class TextTests(SynchronousTestCase):
    def test_colours_become_the_classes_of_the_theme(self) -> None:
        for text, html in (
            ("a<b", "a&lt;b"),
            ("\x1b[31mred\x1b[0m not", '<span class="ansi-red-fg">red</span> not'),
            (
                "\x1b[1;92;44mx",
                '<span class="ansi-green-intense-fg ansi-blue-bg ansi-bold">x</span>',
            ),
            ("\x1b[1mx\x1b[22my", '<span class="ansi-bold">x</span>y'),
            ("\x1b[38;5;9mx\x1b[39my\x1b[48;2;1;2;3mz", "xyz"),
            ("\x1b[31m\x1b[mx", "x"),
            ("\x1b[31m<i>\x1b[39m", '<span class="ansi-red-fg">&lt;i&gt;</span>'),
            ('\x1b]8;;http://x"\x07link\x1b]8;;\x07', "link"),
            ("\x1b[2K\x1b[1Ax\x1b7", "x"),
            ("a\x00\x07b", "ab"),
        ):
            self.assertEqual(text_html(text), html, repr(text))

    def test_what_was_written_over_is_gone(self) -> None:
        for text, shown in (
            ("10%\r20%\r100%\ndone\n", "100%\ndone\n"),
            ("long line\rshort", "shortline"),
            ("dos\r\nline\r\n", "dos\nline\n"),
            ("abc\b\bX", "aXc"),
            ("\b\bx", "x"),
            ("plain", "plain"),
        ):
            self.assertEqual(text_html(text), shown, repr(text))
