"""What ``%%px`` shows of the engines' results."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.calls.liveoutput import Shown
from ipython1.kernel.calls.resultlist import ResultList
from ipython1.kernel.clients.pxresults import PxResults
from ipython1.notebook.bounds import MAX_ROWS, MAX_TOTAL
from ipython1.notebook.grouped import native_bundles


def result(engine_id: int, number: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": engine_id, "number": number, "input": {"raw": "secret code\n"}, **more}


def figure(name: str) -> Any:
    return ({"image/png": name, "text/plain": f"<Figure {name}>"}, {})


def full(engine_id: int) -> dict[str, Any]:
    return result(
        engine_id,
        stdout=f"out {engine_id}\n",
        stderr=f"err {engine_id}\n",
        result={"text/plain": f"value {engine_id}"},
        display=[figure(f"{engine_id}a"), figure(f"{engine_id}b")],
    )


def order_of(text: str, parts: list[str]) -> list[str]:
    return sorted(parts, key=text.index)


class GroupingTests(SynchronousTestCase):
    def test_the_code_is_not_repeated(self) -> None:
        results = PxResults.of([result(0, stdout="1\n"), result(1, result="2")], "")
        for text in (repr(results), results._repr_html_() or ""):
            self.assertNotIn("secret", text)
            self.assertIn("[0] Out[1]:", text)
        self.assertEqual(repr(results), "[0] Out[1]: 1\n[1] Out[1]: 2")

    def test_groupings(self) -> None:
        kinds = ("out {}", "<Figure {}a>", "<Figure {}b>", "value {}", "err {}")
        by_engine = [kind.format(each) for each in (0, 1) for kind in kinds]
        by_type = [
            *("out 0", "out 1", "err 0", "err 1"),
            *("<Figure 0a>", "<Figure 0b>", "<Figure 1a>", "<Figure 1b>", "value 0", "value 1"),
        ]
        by_order = [
            *("out 0", "out 1", "err 0", "err 1"),
            *("<Figure 0a>", "<Figure 1a>", "<Figure 0b>", "<Figure 1b>", "value 0", "value 1"),
        ]
        for group, parts in (("", by_engine), ("type", by_type), ("order", by_order)):
            results = PxResults.of([full(0), full(1)], group)
            self.assertEqual(order_of(repr(results), parts), parts)
            html = results._repr_html_() or ""
            seen = [part.replace("<Figure ", "base64,").strip(">") for part in parts]
            self.assertEqual(order_of(html, seen), seen)

    def test_engines_without_output_share_a_line(self) -> None:
        results = PxResults.of([result(0), result(1, stdout="x"), result(2), result(3)], "")
        self.assertEqual(repr(results), "[1] Out[1]: x\n[0,2-3] done")
        self.assertIn("<b>[0,2-3]</b>", results._repr_html_() or "")

    def test_many_engines_that_wrote_the_same_share_a_heading(self) -> None:
        same = [result(each, number=1, stdout="x\n") for each in range(20)]
        self.assertEqual(repr(PxResults.of(same, "")), "[0-19] Out[1]: x")
        same[3] = result(3, number=2, stdout="x\n")
        same[4] = result(4, number=1, stdout="y\n")
        self.assertEqual(repr(PxResults.of(same, "type")), "[0-3,5-19] Out: x\n[4] Out[1]: y")
        few = PxResults.of([result(each, stdout="x\n") for each in range(8)], "")
        self.assertEqual(repr(few).count("Out[1]: x"), 8)

    def test_what_was_shown_while_it_ran_is_not_shown_again(self) -> None:
        given = ResultList([result(0, stdout="early\nlate\n")])
        given.shown = Shown({(0, "stdout"): len("early\n")})
        self.assertEqual(repr(PxResults.of(given, "")), "[0] Out[1]: late")
        given.shown = Shown({(0, "stdout"): len("early\nlate\n")})
        self.assertEqual(repr(PxResults.of(given, "")), "[0] done")

    def test_one_engine_alone(self) -> None:
        """The view of one engine gives a dict."""
        self.assertEqual(repr(PxResults.of(result(3, stdout="x"), "")), "[3] Out[1]: x")

    def test_bounds(self) -> None:
        long = [result(each, stdout=f"{each}" + "z" * 50_000) for each in range(1000)]
        results = PxResults.of(long, "")
        for text in (repr(results), results._repr_html_() or ""):
            self.assertLess(len(text), 3 * MAX_TOTAL)
            self.assertIn(f"[... output of engines {MAX_ROWS}-999 is not shown", text)
        self.assertIn("result[0]['stdout'] has the full text", repr(results))


class NativeTests(SynchronousTestCase):
    def bundles(self, *results: dict[str, Any]) -> list[dict[str, Any]]:
        shown = PxResults.of(list(results), "")
        return [data for data, _ in native_bundles(shown._html_parts(True), "all")]

    def test_what_html_cannot_contain_is_displayed_by_the_front_end(self) -> None:
        data = {"application/x-plot": {"a": 1}, "text/plain": "<plot>"}
        heading, plot, rest = self.bundles(
            result(0, display=[(data, {"m": 1})]), result(1, stdout="1")
        )
        self.assertIn("[0] Out[1]:", heading["text/html"])
        self.assertEqual(plot, data)
        self.assertIn("[1] Out[1]:", rest["text/html"])
        self.assertEqual([heading["text/plain"], rest["text/plain"]], ["all", ""])

    def test_texts_and_figures_are_one_thing(self) -> None:
        [shown] = self.bundles(full(0), full(1))
        self.assertEqual(shown["text/html"].count("<img"), 4)
        self.assertEqual(shown["text/plain"], "all")

    def test_hostile_output(self) -> None:
        attack = "<script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m<b>\x1b[0m"
        html = str(
            self.bundles(
                result(0, stdout=attack, stderr=attack, result={"text/plain": attack}),
                result(1, display=[({"image/png": '"><script>'}, {})]),
            )
        )
        self.assertNotIn("<script", html)
        self.assertNotIn("<img src=x", html)
        self.assertNotIn("<b>\x1b", html)
