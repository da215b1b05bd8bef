"""Source lines travel with functions that were typed, and are found where a traceback looks for them."""

from __future__ import annotations

import linecache
import types
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.core.failures import record_exception
from ipython1.kernel.objects.homes import Home
from ipython1.kernel.objects.serialize import dumps, loads
from ipython1.kernel.objects.sourcelines import MOST_OF_ONE, ForeignLines, SourceLines, lines_of

CELL = """\
import math

def invert(x):
    def inner():
        return 1 / x  # the line that fails
    return inner()

def other(x):
    return math.sqrt(x)  # another one
"""


class SourceLinesTests(SynchronousTestCase):
    """This process plays both sides, one after the other."""

    def typed(self, source: str, name: str = "<ipython-input-7-0123456789ab>") -> dict[str, Any]:
        """The names that a cell defines, which IPython has run."""
        self.addCleanup(linecache.cache.pop, name, None)
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        namespace: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(source, name, "exec"), namespace)
        return namespace

    def arrived(self, *functions: types.FunctionType) -> list[Any]:
        """The functions in a process that does not know their text."""
        packed = [dumps(function) for function in functions]
        for function in functions:
            linecache.cache.pop(function.__code__.co_filename, None)
        engine: dict[str, Any] = {"__name__": "__main__"}
        return [loads(each, Home(engine)) for each in packed]

    def traceback_of(self, function: Any, *args: Any) -> str:
        try:
            function(*args)
        except Exception as problem:
            return record_exception(problem).traceback
        raise AssertionError("it does not fail")

    def test_tracebacks_show_them(self) -> None:
        [invert] = self.arrived(self.typed(CELL)["invert"])
        text = self.traceback_of(invert, 0)
        self.assertIn("----> 5         return 1 / x  # the line that fails\n", text)
        self.assertIn("----> 6     return inner()\n", text)
        self.assertNotIn("import math", text)

    def test_functions_of_one_text(self) -> None:
        names = self.typed(CELL)
        other, invert = self.arrived(names["other"], names["invert"])
        # The empty line between them has not come, and nothing is shown for it.
        self.assertIn("----> 6     return inner()\n\n", self.traceback_of(invert, 0))
        text = self.traceback_of(other, -1)
        self.assertIn("      8 def other(x):\n----> 9     return math.sqrt(x)  # another", text)

    def test_a_text_of_this_process_stays(self) -> None:
        names = self.typed(CELL)
        packed = dumps(names["other"])
        before = linecache.cache[names["other"].__code__.co_filename]
        loads(packed, Home({"__name__": "__main__"}))
        self.assertIs(linecache.cache[names["other"].__code__.co_filename], before)

    def test_what_is_in_files_or_long_or_unknown_stays(self) -> None:
        linecache.getlines(__file__)
        self.assertIsNone(lines_of(self.test_functions_of_one_text.__func__.__code__))
        long = "def f():\n" + "    x = 1\n" * MOST_OF_ONE
        self.assertIsNone(lines_of(self.typed(long, "<long>")["f"].__code__))
        unknown: dict[str, Any] = {}
        exec(compile("def f(): pass", "<unknown>", "exec"), unknown)
        self.assertIsNone(lines_of(unknown["f"].__code__))

    def test_the_latest_are_kept(self) -> None:
        kept = ForeignLines(most=100)
        names = [f"<text {number}>" for number in range(50)]
        for name in names:
            self.addCleanup(linecache.cache.pop, name, None)
            kept.add(SourceLines(name, 3, "def f():\n    pass\n"))
        left = [name for name in names if name in linecache.cache]
        self.assertEqual(left, names[-len(left) :])
        self.assertTrue(1 < len(left) <= 5, left)
        self.assertEqual(linecache.getline(names[-1], 4), "    pass\n")
