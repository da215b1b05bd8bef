"""Where values come from, as the source of commands shows it."""

from __future__ import annotations

import math
import warnings

from twisted.trial.unittest import SynchronousTestCase

from ipython1.core.origins import Origins


class OriginsTest(SynchronousTestCase):
    def after(self, *sources: str) -> set[str]:
        """The names that come from ``x``, which was marked before these commands ran."""
        origins: Origins[str] = Origins({"math": math})
        origins.set("x", "X")
        for source in sources:
            origins.ran(source)
        return {name for name in ("x", "y", "z", "f", "math", "print") if origins.of(name)}

    def test_what_is_computed_from_it(self) -> None:
        for source in (
            "y = x",
            "y = [math.sqrt(n) for n in x]",
            "y, w = 1, sum(x)",
            "y: list = x",
            "y += x",
            "y[0] = x",
            "y.a.b = x",
            "y.append(x)",
            "for n in x: y.append(n)",
            "if x: y = 1",
            "with open(x) as y: pass",
            "w = x; y = w",
            "get_ipython().run_line_magic('time', 'y = f(x)')",
            "get_ipython().run_cell_magic('time', '', 'w = x\\ny = w\\n')",
        ):
            self.assertEqual(self.after(source), {"x", "y"}, source)
        self.assertEqual(self.after("def f(): return sum(x)", "y = f()"), {"x", "y", "f"})
        # Python takes these letters for the same name.
        self.assertEqual(self.after("y = \N{MATHEMATICAL ITALIC SMALL X}"), {"x", "y"})
        self.assertEqual(self.after("def f():\n global y\n y = x", "f()"), {"x", "y", "f"})

    def test_what_is_not(self) -> None:
        for source in (
            "print(x)",
            "math.fsum(x)",
            "y = 1",
            "y = x; y = 2",
            "y = x; del y",
            "y = (",
            "",
        ):
            self.assertEqual(self.after(source), {"x"}, source)

    def test_it_goes_on_while_it_has_its_old_value(self) -> None:
        self.assertEqual(self.after("x = x * 2", "x += 1", "y = x"), {"x", "y"})
        self.assertEqual(self.after("y = x", "x = 5", "z = x"), {"y"})
        self.assertEqual(self.after("del x", "y = x"), set())

    def test_nothing_is_warned_of_again(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.assertEqual(self.after("y = [x, '\\d']"), {"x", "y"})

    def test_names_are_set_from_elsewhere(self) -> None:
        origins: Origins[str] = Origins({})
        origins.set("x", "X")
        origins.set("w", "W")
        origins.ran("y = x + w")
        origins.set("x")
        self.assertEqual((origins.of("x"), origins.of("y")), (set(), {"X", "W"}))
        self.assertEqual(origins.all, {"X", "W"})
        origins.clear()
        self.assertEqual(origins.all, set())
