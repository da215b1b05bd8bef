"""Cards and tables of states."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ipython1.notebook.bounds import MAX_ROWS, MAX_TOTAL
from ipython1.notebook.cards import (
    Html,
    card_html,
    client_html,
    dot,
    engines_text,
    entries_html,
    seconds_text,
    task_queue_html,
)
from ipython1.notebook.html import lines_html, queue_status_html, table_html

ATTACK = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


class CardTests(SynchronousTestCase):
    def test_everything_is_escaped(self) -> None:
        reasons = {1: ATTACK}
        for html in (
            card_html(ATTACK, [(ATTACK, ATTACK), ("state", dot("red", ATTACK))]),
            client_html(ATTACK, ATTACK, True, [0], [(ATTACK, ATTACK)]),
            entries_html([ATTACK], [[ATTACK]]),
            task_queue_html({ATTACK: [1]}, 0, reasons, [ATTACK]),
            queue_status_html([(0, {"pending": ATTACK, "queue": [ATTACK] * 9})]),
            lines_html([(0, [ATTACK, ATTACK])]),
            table_html([ATTACK], []),
        ):
            self.assertNotIn("<script", html)
            self.assertNotIn("<img", html)
            self.assertIn("&lt;script&gt;", html)

    def test_everything_is_bounded(self) -> None:
        huge = "x" * 100_000
        for html in (
            card_html("card", [("value", huge)]),
            client_html("client", "here", True, range(0, 200_000, 2)),
            entries_html(["a"], [[huge]] * 1000),
            task_queue_html({"failed": list(range(0, 200_000, 2))}, 0, {}, ()),
            queue_status_html(
                (each, {"pending": huge, "queue": [huge] * 500}) for each in range(9)
            ),
            lines_html((each, [huge, huge]) for each in range(1000)),
        ):
            self.assertLess(len(html), 6 * MAX_TOTAL)
        rows = table_html(["a"], [["x"]] * (MAX_ROWS + 5))
        self.assertIn("... and 5 more", rows)

    def test_rows(self) -> None:
        html = card_html("t", [("empty", ""), ("zero", 0), ("own", Html("<i>x</i>"))], "below")
        self.assertNotIn("empty", html)
        self.assertIn(">0</td>", html)
        self.assertIn("<i>x</i>", html)
        self.assertTrue(html.endswith("below</div>"))

    def test_columns_without_values_are_left_out(self) -> None:
        html = entries_html(["a", "b", "c"], [["1", "", 0], ["2", ""]])
        self.assertNotIn(">b</th>", html)
        self.assertIn(">c</th>", html)
        self.assertIn(">b</th>", entries_html(["a", "b"], []))

    def test_texts(self) -> None:
        self.assertEqual(engines_text([3, 1, 2]), "3: 1-3")
        self.assertEqual(engines_text([]), "none")
        self.assertEqual(seconds_text(12.34), "12.3 s")
        self.assertEqual(seconds_text(0.0123), "12.3 ms")
        self.assertEqual(seconds_text(0.0000123), "12.3 µs")


class QueueTests(SynchronousTestCase):
    def test_a_long_queue_is_folded(self) -> None:
        html = queue_status_html([(0, {"pending": None, "queue": ["a", "b"]})])
        self.assertNotIn("<details", html)
        html = queue_status_html([(0, {"pending": None, "queue": [f"c{n}" for n in range(200)]})])
        self.assertIn("<summary>200 commands</summary>", html)
        self.assertIn("... and 100 more", html)

    def test_tasks(self) -> None:
        html = task_queue_html({"scheduled": 3, "failed": 0}, 2, {}, ["disk full"])
        self.assertIn("no engine may run", html)
        self.assertIn("disk full", html)
        self.assertNotIn(">ids</th>", html)
        html = task_queue_html({"scheduled": [3, 4, 5]}, [], {3: "after 2"}, [])
        self.assertIn("3-5", html)
        self.assertIn("<summary>why 1 wait</summary>", html)
