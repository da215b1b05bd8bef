"""Checks of numbers: errors name the wrong value and what is allowed."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from twisted.trial import unittest

from ipython1.checks import check_int, check_seconds, is_int, is_number


class NumberTests(unittest.SynchronousTestCase):
    def test_true_is_no_number(self) -> None:
        self.assertEqual(
            [is_int(each) for each in (1, True, 1.0, "1")], [True, False, False, False]
        )
        numbers = [is_number(each) for each in (1, 1.5, Fraction(1, 2), True, "1", 1j)]
        self.assertEqual(numbers, [True, True, True, False, False, False])

    def test_errors_name_the_argument_and_what_was_given(self) -> None:
        for wrong in (True, "3", 3.0, None):
            self.said(TypeError, f"n must be an int, not {wrong!r}", wrong, 0)
        self.said(ValueError, "n must be 0 or more, not -1", -1, 0)
        self.said(ValueError, "n must be 9 or less, not 10", 10, None, 9)
        self.said(ValueError, "n must be from 1 to 9, not 10", 10, 1, 9)

    def said(self, kind: type[Exception], message: str, *args: Any) -> None:
        problem = self.assertRaises(kind, check_int, "n", *args)
        self.assertEqual(str(problem), message)

    def test_seconds(self) -> None:
        """Endless ones are none, as not all that waits can wait for ever."""
        self.assertEqual(
            [check_seconds("t", each) for each in (0, 1.5, Fraction(1, 2))], [0, 1.5, 0.5]
        )
        for options, wrong, allowed in (
            ({}, (-1, float("inf"), float("nan")), "of 0 or more"),
            ({"above_zero": True}, (0, -1), "above 0"),
            ({"most": 1e6}, (-1, 1e6 + 1), "from 0 to 1e+06"),
        ):
            for kind, values in ((ValueError, wrong), (TypeError, ("1", None, True))):
                for value in values:
                    problem = self.assertRaises(kind, check_seconds, "t", value, **options)
                    self.assertEqual(
                        str(problem), f"t must be a number of seconds {allowed}, not {value!r}"
                    )

    def test_what_is_allowed_is_given_back(self) -> None:
        self.assertEqual([check_int("n", each, 1, 9) for each in (1, 9)], [1, 9])
        self.assertEqual(check_int("n", -(2**70)), -(2**70))
