"""What task clients refuse when they create a mapper."""

from __future__ import annotations

from typing import Any

from twisted.trial import unittest

from ipython1.kernel.tasks.mapper import MapMethods


class OptionTests(unittest.SynchronousTestCase):
    def test_a_mistyped_option_is_named_with_the_method_that_was_called(self) -> None:
        methods = MapMethods()
        mistyped: dict[str, Any] = {"retires": 2}
        for called, create in (("mapper", methods.mapper), ("parallel", methods.parallel)):
            with self.assertRaisesRegex(TypeError, rf"^{called}\(\) has no option 'retires'"):
                create(**mistyped)
