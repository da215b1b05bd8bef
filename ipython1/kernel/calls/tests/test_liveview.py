"""What somebody who waits sees: when, where, and what is left of it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.core.terminaltext import rendered
from ipython1.kernel.calls import liveview
from ipython1.kernel.calls.liveoutput import Displayed, Key, Shown, StreamedText
from ipython1.kernel.calls.livesteps import TextSteps, read_steps
from ipython1.kernel.calls.liveview import LiveView, Progress, keep_watching, progress_view
from ipython1.kernel.calls.resultlist import ResultList
from ipython1.notebook.livearea import DumbArea, TerminalArea


class Call:
    """A call whose output comes while it runs."""

    prints = False

    def __init__(self) -> None:
        self.texts: dict[Key, StreamedText] = {}
        self.steps: list[tuple[int, Any]] = []
        self.whole: dict[int, dict[str, str]] = {}

    def write(self, engine_id: int, text: str, stream: str = "stdout") -> None:
        self.texts.setdefault((engine_id, stream), StreamedText()).add(text)

    def streams(self) -> list[Key]:
        return sorted(self.texts)

    def output_since(self, key: Key, position: int) -> tuple[str, int]:
        return self.texts[key].since(position)

    def whole_outputs(self, ids: Iterable[int]) -> Mapping[int, Mapping[str, str]]:
        return {each: self.whole[each] for each in ids if each in self.whole}

    def take_steps(self) -> Sequence[tuple[int, Any]]:
        steps, self.steps = self.steps, []
        return steps


class LiveViewTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.screen = io.StringIO()
        self.patch(liveview.sys, "stdout", self.screen)
        self.patch(liveview.sys, "stderr", self.screen)
        self.call = Call()

    def seen(self) -> list[str]:
        return rendered(self.screen.getvalue()).rstrip("\n").split("\n")

    def test_bars_are_below_what_is_printed(self) -> None:
        counts = iter([(1, 4, 0, "item"), (2, 4, 1, "item")])
        progress = Progress("map", lambda: next(counts))
        view = LiveView(self.call, TerminalArea(self.screen), progress)
        self.call.write(0, "\r10%", "stderr")
        self.call.write(1, "\r20%", "stderr")
        view.update()
        first, *rest = self.seen()
        self.assertIn("1/4 items", first)
        self.assertEqual(rest, ["[0] 10%", "[1] 20%"])
        self.call.write(1, "printed\n")
        self.call.write(0, "\r30%", "stderr")
        view.update()
        first, second, *rest = self.seen()
        self.assertEqual(first, "[1] printed")
        self.assertIn("1 failed", second)
        self.assertEqual(rest, ["[0] 30%", "[1] 20%"])
        results = ResultList(
            {"id": n, "input": {"raw": ""}, "number": 1, "stdout": out, "stderr": err}
            for n, out, err in ((0, "", "100%\n"), (1, "printed\n", "100%\n"))
        )
        view.rest()
        view.finish(results)
        self.assertEqual(self.seen(), ["[1] printed", "[0] 100%", "[1] 100%"])
        self.assertEqual([each["stdout"] for each in results.unseen()], ["", ""])

    def test_the_bar_of_an_engine_that_is_done_is_complete(self) -> None:
        """Although what it drew last was not sent, and others still run."""
        view = LiveView(self.call, TerminalArea(self.screen))
        self.call.write(0, "before\n")
        for engine_id in range(2):
            self.call.write(engine_id, "\r95%", "stderr")
        view.update()
        self.call.whole[0] = {"stdout": "before\n", "stderr": "100%\n"}
        for _ in range(2):
            view.update()
            self.assertEqual(self.seen(), ["[0] before", "[0] 100%", "[1] 95%"])
        self.call.whole[1] = {"stdout": "", "stderr": "100%\n"}
        view.close(self.call.whole)
        self.assertEqual(self.seen(), ["[0] before", "[0] 100%", "[1] 100%"])

    def test_why_it_waits(self) -> None:
        notes = ["no engine is registered; 12 tasks wait"]
        view = LiveView(None, TerminalArea(self.screen), None, lambda: list(notes))
        view.update()
        self.assertEqual(self.seen(), notes)
        notes.clear()
        view.update()
        self.assertEqual(self.seen(), [""])

    def test_without_a_terminal_it_is_said_once(self) -> None:
        notes = ["no engine is registered; 12 tasks wait"]
        view = LiveView(None, None, None, lambda: list(notes))
        view.update()
        view.update()
        self.assertEqual(self.seen(), notes)

    def test_it_is_shown_only_when_it_takes_long_and_is_wanted(self) -> None:
        for wanted, looks, shown in (
            (None, 3, False),  # what is written to is no terminal
            (True, 3, True),
            (True, 0, False),
            (False, 3, False),
        ):
            answers = iter([False] * looks + [True] * 5)
            out = io.StringIO()
            self.patch(liveview.sys, "stderr", out)
            view = progress_view(wanted, "tasks", lambda: (1, 2, 0, "task"))
            over = keep_watching(
                lambda timeout, answers=answers: True if timeout is None else next(answers),
                view,
                None,
            )
            self.assertTrue(over)
            self.assertEqual("1/2 tasks" in out.getvalue(), shown, (wanted, looks))
            self.assertEqual(rendered(out.getvalue()).strip(), "", "nothing is left of it")

    def test_a_time_out(self) -> None:
        view = LiveView(None, DumbArea(self.screen))
        self.assertFalse(keep_watching(lambda timeout: False, view, 0.01))
        self.assertFalse(keep_watching(lambda timeout: False, None, 0.01))


class TextStepsTests(SynchronousTestCase):
    """Displays and widgets of engines, in a terminal."""

    def setUp(self) -> None:
        self.steps = TextSteps()

    def show(self, text: str, name: str | None, do: str = "show", **data: Any) -> None:
        self.steps.do(3, {"do": do, "data": {"text/plain": text, **data}, "id": name})

    def test_the_last_state_of_what_is_updated(self) -> None:
        self.show("not updated, comes with the result", None)
        self.show("epoch 1", "a")
        self.show("epoch 2", "a", do="update")
        self.assertEqual(self.steps.lines(), [(3, "epoch 2")])
        self.steps.do(3, {"do": "clear", "wait": True})
        self.assertEqual(self.steps.lines(), [(3, "epoch 2")])
        self.show("two\nlines", "b")
        self.assertEqual(self.steps.lines(), [(3, "two"), (3, "lines")])
        self.steps.do(3, {"do": "clear", "wait": False})
        self.assertEqual(self.steps.lines(), [])

    def test_widgets(self) -> None:
        def open_widget(name: str, **state: Any) -> None:
            self.steps.do(3, {"do": "open", "comm": name, "data": {"state": state}})

        open_widget("label", _model_name="HTMLModel", value="<b>at&nbsp;50%</b>")
        open_widget("bar", _model_name="FloatProgressModel", value=5.0, max=10, description="load")
        children = ["IPY_MODEL_label", "IPY_MODEL_bar", "IPY_MODEL_unknown"]
        open_widget("box", _model_name="HBoxModel", children=children)
        view = {"application/vnd.jupyter.widget-view+json": {"model_id": "box"}}
        self.show("HBox(...)", None, **view)
        half, whole = "█" * 10 + " " * 10, "█" * 20
        self.assertEqual(self.steps.lines(), [(3, f"at 50% load |{half}| 5/10")])
        message = {"method": "update", "state": {"value": 10}}
        self.steps.do(3, {"do": "message", "comm": "bar", "data": message})
        self.assertEqual(self.steps.lines(), [(3, f"at 50% load |{whole}| 10/10")])

    def test_what_is_malformed_is_left_out(self) -> None:
        self.assertEqual(list(read_steps("no json")), [])
        self.assertEqual(list(read_steps('{"do": "show"}')), [])
        self.assertEqual(list(read_steps('[1, {"do": 2}, {"do": "clear"}]')), [{"do": "clear"}])


class ShownTests(SynchronousTestCase):
    def test_displayed_objects_are_not_repeated(self) -> None:
        shown = Shown(displayed={0: Displayed(2, {0, 1}), 2: Displayed(2, {1})})
        self.assertEqual(shown.undisplayed(0, ["a", "b"]), [])
        self.assertEqual(shown.undisplayed(2, ["a", "b"]), ["a"])
        self.assertEqual(shown.undisplayed(0, ["a", "b", "c"]), ["a", "b", "c"])
        self.assertEqual(shown.undisplayed(1, ["a"]), ["a"])
