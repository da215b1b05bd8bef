"""Values and displayed objects as MIME bundles."""

from __future__ import annotations

from importlib.util import find_spec

from ipython1.core import display as display_module
from ipython1.core.tests.support import SessionCase


class DisplayTests(SessionCase):
    def test_rich_value(self) -> None:
        result = self.run_ok("from IPython.display import HTML\nHTML('<b>x</b>')")
        self.assertEqual(result.result["text/html"], "<b>x</b>")
        self.assertIn("text/plain", result.result)
        self.assertEqual(result.stdout, "")

    def test_values_look_as_in_ipython(self) -> None:
        formatter = self.session._shell.display_formatter
        for source in (
            "1",
            "True",
            "2.5",
            "1j",
            "'a\\nb'",
            "b'x'",
            "10**30",
            "float('nan')",
            "[1, [2]]",
            "list(range(100))",
        ):
            value = eval(source)
            self.assertEqual(self.run_ok(source).result, formatter.format(value)[0], source)

    def test_formatters_of_the_user(self) -> None:
        self.run_ok("%precision 2")
        self.assertEqual(self.shown("3.14159"), "3.14")
        self.run_ok(
            "get_ipython().display_formatter.formatters['text/html'].for_type(int, lambda n: f'<i>{n}</i>')"
        )
        self.assertEqual(self.run_ok("5").result, {"text/plain": "5", "text/html": "<i>5</i>"})

    def test_metadata(self) -> None:
        result = self.run_ok(
            "class M:\n    def _repr_mimebundle_(self, **k): return {'text/x': 'x'}, {'text/x': {'w': 1}}\nM()"
        )
        self.assertEqual(result.result["text/x"], "x")
        self.assertEqual(result.result_metadata, {"text/x": {"w": 1}})

    def test_displayed_objects_in_order(self) -> None:
        result = self.run_ok(
            "display(1, 'two')\nfrom IPython.display import display as d\nd([3])\n4"
        )
        self.assertEqual([data["text/plain"] for data, _ in result.display], ["1", "'two'", "[3]"])
        self.assertEqual(result.result, {"text/plain": "4"})
        self.assertEqual(self.run_ok("pass").display, ())

    def test_updates_and_clearing(self) -> None:
        result = self.run_ok(
            "h = display('old', display_id=True)\ndisplay('other')\nh.update('new')"
        )
        self.assertEqual([data["text/plain"] for data, _ in result.display], ["'new'", "'other'"])
        result = self.run_ok("h.update('newer')")
        self.assertEqual([data["text/plain"] for data, _ in result.display], ["'newer'"])
        result = self.run_ok(
            "from IPython.display import clear_output\n"
            "for n in range(3):\n    clear_output(wait=True)\n    display(n)"
        )
        self.assertEqual([data["text/plain"] for data, _ in result.display], ["2"])
        self.assertEqual(self.run_ok("display(1)\nclear_output()").display, ())

    def test_a_flood_of_objects(self) -> None:
        self.patch(display_module, "MAX_DISPLAYED", 10)
        result = self.run_ok("for n in range(25): display(n)")
        shown = [data["text/plain"] for data, _ in result.display]
        self.assertEqual(shown[:10], [str(n) for n in range(10)])
        self.assertEqual(shown[10:], ["[... 15 more displayed objects were dropped ...]"])
        self.assertEqual(len(self.run_ok("display(1)").display), 1)

    def test_objects_that_cannot_be_shown(self) -> None:
        self.run_ok(
            "class Bad:\n    def __repr__(self): return 1/0\nclass Half:\n    def _repr_html_(self): return 1/0"
        )
        self.run_bad("Bad()", "ZeroDivisionError")
        result = self.run_ok("Half()")
        self.assertIn("Half at", result.result["text/plain"])
        self.assertIn("ZeroDivisionError", result.stderr)
        result = self.run_ok("display(Bad()); 'went on'")
        self.assertIn("ZeroDivisionError", result.stderr)
        self.assertEqual(result.result, {"text/plain": "'went on'"})

    def test_what_was_displayed_before_a_failure(self) -> None:
        result = self.run_bad("display(1)\n1/0", "ZeroDivisionError")
        self.assertEqual(result.display, (({"text/plain": "1"}, {}),))

    def test_all_expressions_if_asked_for(self) -> None:
        self.run_ok("%config InteractiveShell.ast_node_interactivity = 'all'")
        result = self.run_ok("1\n2\n3")
        self.assertEqual([data["text/plain"] for data, _ in result.display], ["1", "2"])
        self.assertEqual(result.result, {"text/plain": "3"})


class FigureTests(SessionCase):
    if find_spec("matplotlib") is None:
        skip = "matplotlib is not installed"

    def test_inline_figures(self) -> None:
        self.run_ok("%matplotlib inline\nimport matplotlib.pyplot as plt")
        result = self.run_ok("plt.plot([1, 2])\nprint('drawn')")
        self.assertEqual(result.stdout, "drawn\n")
        ((data, _),) = result.display
        self.assertIn("image/png", data)
        self.assertEqual(self.run_ok("1").display, ())
        outcome = self.run_source("plt.plot([3])")
        self.assertIn("image/png", outcome.display[0][0])
        outcome = self.session.call(lambda: self.session.user_ns["plt"].plot([3]) and None)
        self.assertIn("image/png", outcome.display[0][0])

    def test_figures_without_asking(self) -> None:
        """The variable MPLBACKEND of the session makes figures inline ones."""
        program = "import os; print(os.environ['MPLBACKEND'])"
        self.assertEqual(self.run_ok(program).stdout, "module://matplotlib_inline.backend_inline\n")
