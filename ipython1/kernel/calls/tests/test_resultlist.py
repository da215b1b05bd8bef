"""Results as a prompt and a notebook show them."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.calls import resultlist
from ipython1.kernel.calls.liveoutput import Shown
from ipython1.kernel.calls.resultlist import QueueStatusList, ResultList, Styles, render
from ipython1.notebook.bounds import MAX_CHARACTERS, MAX_LINES


def result(engine_id: int, **more: Any) -> dict[str, Any]:
    return {"id": engine_id, "number": 3, "input": {"raw": "f()", "translated": "f()"}, **more}


class Printer:
    def __init__(self) -> None:
        self.shown = ""

    def text(self, text: str) -> None:
        self.shown += text


class RenderTests(SynchronousTestCase):
    def test_silent_commands_stand_close_together(self) -> None:
        self.assertEqual(
            repr(ResultList([result(0), result(1)])),
            "<Results List>\n[0] In [3]: f()\n[1] In [3]: f()",
        )

    def test_everything(self) -> None:
        whole = result(
            0,
            stdout="printed\n",
            stderr="warned\n",
            result={"text/plain": "42", "text/html": "<b>42</b>"},
            display=[({"text/plain": "<Figure>"}, {}), {"text/plain": "older form"}],
        )
        self.assertEqual(
            repr(ResultList([whole, result(1)])),
            "<Results List>\n"
            "[0] In [3]: f()\n"
            "[0] Out[3]: printed\n"
            "42\n"
            "<Figure>\n"
            "older form\n"
            "[0] Err[3]: warned\n"
            "\n"
            "[1] In [3]: f()",
        )

    def test_colours(self) -> None:
        text = render(
            [result(0, result={"text/plain": "1"}, stderr="e")], Styles("<i>", "<o>", "<e>", "</>")
        )
        self.assertEqual(
            text, "<Results List>\n<i>[0] In [3]:</> f()\n<o>[0] Out[3]:</> 1\n<e>[0] Err[3]:</> e"
        )

    def test_long_output_is_shortened(self) -> None:
        text = repr(ResultList([result(0), result(1, stdout="line\n" * 5000)]))
        self.assertEqual(text.count("line\n"), MAX_LINES - 1)
        self.assertIn(
            f"[... {5000 - MAX_LINES} lines not shown; result[1]['stdout'] has the full text ...]",
            text,
        )
        text = repr(ResultList([result(0, stderr="x" * 3 * MAX_CHARACTERS)]))
        self.assertIn(
            f"[... {2 * MAX_CHARACTERS} characters not shown; result[0]['stderr'] has", text
        )
        self.assertLess(len(text), MAX_CHARACTERS + 200)

    def test_other_lists(self) -> None:
        self.assertEqual(repr(ResultList()), "[]")
        self.assertEqual(repr(ResultList([None, 1])), "[None, 1]")
        printer = Printer()
        ResultList([1])._repr_pretty_(printer, False)
        self.assertEqual(printer.shown, "[1]")
        self.assertIsNone(ResultList([1])._repr_html_())

    def test_queue_status(self) -> None:
        rows = QueueStatusList(
            [
                (0, {"pending": "execute('<a>')", "queue": ["push(b)"]}),
                (1, {"pending": None, "queue": []}),
            ]
        )
        self.assertEqual(
            repr(rows),
            "<Queue Status>\n[0] pending: execute('<a>')\n[0] queued:  push(b)\n[1] pending: None",
        )
        self.assertIn("<code>execute(&#x27;&lt;a&gt;&#x27;)</code>", rows._repr_html_())


class ShownBeforeTests(SynchronousTestCase):
    """What was shown while a command ran is left out when its result is displayed at once, and never later."""

    def setUp(self) -> None:
        self.moment: object = 5
        self.patch(resultlist, "present_moment", lambda: self.moment)
        self.results = ResultList([result(0, stdout="early\nlate\n"), result(1, stderr="warned\n")])
        self.results.shown = Shown({(0, "stdout"): 6}, {(1, "stderr")}, moment=5)

    def test_at_once(self) -> None:
        text = repr(self.results)
        self.assertEqual(
            text, "<Results List>\n[0] In [3]: f()\n[0] Out[3]: late\n\n[1] In [3]: f()"
        )
        self.assertEqual(repr(self.results), text)
        printer = Printer()
        self.results._repr_pretty_(printer, False)
        self.assertEqual(printer.shown, text)
        self.assertNotIn("early", self.results._repr_html_() or "")

    def test_later(self) -> None:
        self.moment = 6
        self.assertIn("[0] Out[3]: early\nlate", repr(self.results))
        self.assertIn("[1] Err[3]: warned", repr(self.results))

    def test_without_ipython(self) -> None:
        """There the first display is the one at once."""
        self.moment = None
        assert self.results.shown is not None
        self.results.shown.moment = None
        self.assertNotIn("early", repr(self.results))
        self.assertIn("early", repr(self.results))

    def test_the_data_is_complete(self) -> None:
        repr(self.results)
        self.assertEqual(self.results[0]["stdout"], "early\nlate\n")
