"""The HTML of results, errors and tables."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import CompositeError
from ipython1.notebook.html import (
    bundle_html,
    error_html,
    lines_block_html,
    lines_html,
    results_html,
    table_html,
)


class BundleTests(SynchronousTestCase):
    def test_the_best_form(self) -> None:
        for bundle, html in (
            (
                {"text/plain": "<x>", "text/html": "<b>1</b>", "image/png": "aa"},
                "<div><b>1</b></div>",
            ),
            (
                {"text/plain": "x", "image/svg+xml": "<svg/>", "image/png": "aa"},
                "<div><svg/></div>",
            ),
            (
                {"text/plain": "x", "image/png": "aa\nbb\n"},
                '<div><img src="data:image/png;base64,aabb"></div>',
            ),
            ({"image/jpeg": b"\x00\x01"}, '<div><img src="data:image/jpeg;base64,AAE="></div>'),
            ({"text/plain": "x", "text/latex": "$a<b$"}, "<div>$a&lt;b$</div>"),
            ({}, ""),
        ):
            self.assertEqual(bundle_html(bundle), html)

    def test_text(self) -> None:
        for bundle, text in (
            ({"text/plain": "<x> & 'y'"}, "&lt;x&gt; &amp; &#x27;y&#x27;</pre>"),
            ({"text/plain": "x", "text/markdown": "# y"}, "># y</pre>"),
            ({"application/json": {"a": [1]}}, "&quot;a&quot;: ["),
            ({"application/x-unknown": "?"}, "&lt;object of type application/x-unknown&gt;"),
        ):
            self.assertIn(text, bundle_html(bundle))

    def test_sizes_of_images(self) -> None:
        html = bundle_html({"image/png": "aa"}, {"image/png": {"width": 10, "height": '"5"'}})
        self.assertIn('width="10" height="&quot;5&quot;"', html)
        self.assertNotIn("width", bundle_html({"image/png": "aa"}, {"image/png": None}))


def result(engine_id: int, number: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": engine_id, "number": number, "input": {"raw": "f(<a>)\n"}, **more}


class ResultTests(SynchronousTestCase):
    def test_engines_without_output_share_a_line(self) -> None:
        html = results_html([result(0), result(1), result(2, 7), result(3)])
        for label in ("[0-1] In [1]:", "[2] In [7]:", "[3] In [1]:"):
            self.assertEqual(html.count(label), 1)
        self.assertEqual(html.count("f(&lt;a&gt;)"), 3)

    def test_everything_under_its_engine(self) -> None:
        figure = ({"image/png": "aa", "text/plain": "<Figure>"}, {"image/png": {"width": 3}})
        html = results_html(
            [
                result(0, stdout="<p>\n", display=[figure]),
                result(1, result={"text/html": "<b>v</b>"}, stderr="e"),
            ]
        )
        order = [
            "[0] In [1]:",
            "[0] Out[1]:",
            "&lt;p&gt;</pre>",
            "data:image/png;base64,aa",
            "[1] In [1]:",
            "[1] Out[1]:",
        ]
        order += ["<b>v</b>", "[1] Err[1]:", ">e</pre>"]
        places = [html.index(part) for part in order]
        self.assertEqual(places, sorted(places))
        self.assertNotIn("<Figure>", html)

    def test_long_output(self) -> None:
        html = results_html([result(0, stdout="line\n" * 9000)])
        self.assertIn(
            "lines not shown; the result&#x27;s [&#x27;stdout&#x27;] has the full text", html
        )
        self.assertLess(len(html), 20_000)


class OtherTests(SynchronousTestCase):
    def test_error(self) -> None:
        elist: list[Any] = [
            (ValueError, ValueError("<bad>"), "Traceback <1>\nValueError: <bad>\n")
        ] * 2
        html = error_html(CompositeError("execute", elist, [0, 3]))
        self.assertIn("[3:execute]: ValueError: &lt;bad&gt;</pre>", html)
        self.assertIn("<details><summary><code>[3:execute]</code></summary>", html)
        self.assertIn("Traceback &lt;1&gt;", html)
        self.assertEqual(CompositeError("execute", elist, [0, 3])._repr_html_(), html)

    def test_tables(self) -> None:
        self.assertIn(">a&lt;b</th>", table_html(["a<b"], []))
        html = lines_html([(0, ["idle"]), (1, ["running", "  <stack>", "more"])])
        self.assertIn(">idle</td>", html)
        self.assertIn("  &lt;stack&gt;\nmore</pre>", html)

    def test_lines_that_change(self) -> None:
        self.assertIn(
            'a &lt;b&gt;\n <span class="ansi-red-fg">c</span></pre>',
            lines_block_html("a <b>\n \x1b[31mc\x1b[0m"),
        )
