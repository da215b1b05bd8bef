"""The options of tasks: one list, whoever takes them."""

from __future__ import annotations

import inspect
from concurrent.futures import Future
from dataclasses import FrozenInstanceError
from types import SimpleNamespace
from typing import Any

import numpy as np
from twisted.trial import unittest
from zope.interface import implementer

from ipython1.kernel.basics.taskinterfaces import ITask
from ipython1.kernel.calls.pendingresult import PendingResult
from ipython1.kernel.objects.after import After
from ipython1.kernel.objects.taskobjects import (
    BaseTask,
    MapTask,
    StringTask,
    TaskResult,
    TaskValue,
)
from ipython1.kernel.objects.taskoptions import (
    DEFAULTS,
    NAMES,
    OptionAttributes,
    OptionKeywords,
    TaskOptions,
    check_options,
    options_of,
    shows_options,
)
from ipython1.kernel.tasks.lazymap import LazyMap
from ipython1.kernel.wire.tasklinks import FOLLOW, SUCCESS, Links, Tie

OPTIONS = (
    "clear_before=False, clear_after=False, retries=0, recovery_task=None, depend=None, "
    "timeout=None, priority=0, after=(), follow=(), targets=None"
)


def shown(documented: Any) -> str:
    """A signature without its annotations."""
    signature = inspect.signature(documented)
    parameters = [
        each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()
    ]
    bare = signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
    return str(bare)[1:-1]


class ListTests(unittest.SynchronousTestCase):
    def test_an_option_is_a_field_a_keyword_and_an_attribute(self) -> None:
        self.assertEqual(OptionKeywords.__annotations__.keys(), set(NAMES))
        for name in NAMES:
            self.assertEqual(getattr(OptionAttributes, name), getattr(DEFAULTS, name))

    def test_each_is_explained(self) -> None:
        for documented in (TaskOptions, BaseTask, StringTask, MapTask):
            for name in NAMES:
                self.assertIn(f":param {name}: ", documented.__doc__ or "")
            self.assertNotIn("{options}", documented.__doc__ or "")


class SignatureTests(unittest.SynchronousTestCase):
    def test_tasks(self) -> None:
        self.assertEqual(shown(StringTask), f"expression, pull=None, push=None, {OPTIONS}")
        self.assertEqual(shown(MapTask), f"function, args=None, kwargs=None, {OPTIONS}")
        self.assertEqual(shown(BaseTask), OPTIONS)

    def test_options_that_come_after_others(self) -> None:
        @shows_options
        def function(self: Any, retries: int = 5, **options: Any) -> None:
            """Do it.

            {options}
            """

        self.assertEqual(
            shown(function),
            "self, retries=5, *, clear_before=False, clear_after=False, recovery_task=None, "
            "depend=None, timeout=None, priority=0, after=(), follow=(), targets=None",
        )
        self.assertIn(":param priority: ", function.__doc__ or "")


class AttributeTests(unittest.SynchronousTestCase):
    def test_by_position_and_by_name(self) -> None:
        other = MapTask(abs)
        given = (True, True, 2, other, callable, 0.5, 7, (3,), (4, 5), (0,))
        task = StringTask("a", "a", {"b": 1}, *given)
        self.assertEqual((task.pull, task.push), ("a", {"b": 1}))
        values = [getattr(task, name) for name in NAMES]
        self.assertEqual(values, list(given))
        named = MapTask(abs, (1,), **dict(zip(NAMES, values, strict=True)))  # type: ignore[arg-type]
        self.assertEqual(options_of(named), options_of(task))

    def test_they_can_be_set_of_one_task_alone(self) -> None:
        one, two = StringTask("a"), StringTask("a")
        one.retries = 3
        self.assertEqual((one.retries, two.retries, StringTask("a").retries), (3, 0, 0))
        self.assertEqual(options_of(one), TaskOptions(retries=3))
        with self.assertRaises(FrozenInstanceError):
            DEFAULTS.retries = 3  # type: ignore[misc]

    def test_what_is_no_option_is_refused(self) -> None:
        listed = "The options are: " + ", ".join(NAMES)
        self.assertRaisesRegex(
            TypeError, f"^StringTask has no option 'retry'. {listed}.$", StringTask, "a", retry=1
        )
        twice = (MapTask, abs, None, None, True)
        self.assertRaisesRegex(
            TypeError, "^MapTask got the option 'clear_before' twice", *twice, clear_before=True
        )
        many = "^Own got 11 options, but there are only 10"
        own = type("Own", (BaseTask,), {})
        self.assertRaisesRegex(TypeError, many, own, *range(11))

    def test_objects_that_only_provide_the_interface(self) -> None:
        """Those that were written before an option came need not have it."""

        @implementer(ITask)
        class Own:
            retries = 2
            recovery_task = depend = timeout = None

        self.assertEqual(options_of(Own()), TaskOptions(retries=2))
        self.assertRaisesRegex(TypeError, "expected a task", options_of, "a = 1")


class OthersTests(unittest.SynchronousTestCase):
    """What tasks say of other tasks, and of engines."""

    def test_ids_results_and_wishes(self) -> None:
        result = TaskResult(7, 0, 0.0, 0.0, 0.0, lambda *given: TaskValue())
        task = StringTask("a", after=3, follow=[result, After([5, 6], failure=True)])
        self.assertEqual(task.after, (3,))
        self.assertEqual(task.follow, (7, After((5, 6), True, True)))
        task.after = (number for number in (4, 5))
        self.assertEqual(task.after, (4, 5))
        task.after = None
        self.assertEqual(task.after, ())
        self.assertEqual(StringTask("a", after=0).after, (0,), "0 is an id as others are")

    def test_what_they_say_is_packed_shortly(self) -> None:
        links = options_of(StringTask("a", after=[9, *range(1000, 5000)], follow=9)).links
        assert links is not None
        self.assertLess(len(links), 12)
        self.assertEqual(Links.unpack(links).ties, links.ties)
        self.assertEqual(links.ties, (Tie(SUCCESS | FOLLOW, ((9, 10),)), Tie(1, ((1000, 5000),))))
        self.assertIsNone(options_of(StringTask("a", after=[])).links)
        far = range(0, 10**7, 300)
        self.assertRaisesRegex(
            ValueError, "cannot run after 33334 tasks", StringTask, "a", after=far
        )

    def test_what_cannot_be_meant(self) -> None:
        for wrong in ("12", 1.5, [True], {"a": 1}, [[1]], object()):
            self.assertRaisesRegex(TypeError, "after must be", StringTask, "a", after=wrong)
            self.assertRaisesRegex(TypeError, "follow must be", MapTask, abs, follow=wrong)
        self.assertRaisesRegex(ValueError, "must be from 0", StringTask, "a", after=-1)
        self.assertRaisesRegex(ValueError, "never come true", After, 1, False, False)
        self.assertRaisesRegex(TypeError, "success must be", After, 1, "yes")
        task = StringTask("a", recovery_task=StringTask("b", after=1))
        self.assertRaisesRegex(
            ValueError, "neither after nor follow", check_options, options_of(task)
        )

    def test_values_are_not_taken_for_ids(self) -> None:
        """A pending map gives values, which may be ints: the task would run after any tasks with such ids."""
        values = PendingResult(lambda found: found, "map")
        values.set_result([1, 2])
        self.addCleanup(values.result)
        for wrong in (values, Future(), [values]):
            self.assertRaisesRegex(TypeError, "after must be", StringTask, "a", after=wrong)
            self.assertRaisesRegex(TypeError, "tasks must be", After, wrong)
        lazy = LazyMap.__new__(LazyMap)
        lazy._run = SimpleNamespace(given=0, held=0, closed=True)  # type: ignore[assignment]
        self.assertRaisesRegex(TypeError, "its items are values", StringTask, "a", after=lazy)

    def test_arrays_of_ids(self) -> None:
        self.assertEqual(StringTask("a", after=np.array([4, 5])).after, (4, 5))
        self.assertEqual(StringTask("a", after=np.array([], int)).after, ())
        self.assertEqual(StringTask("a", after=np.int64(3)).after, (3,))
        self.assertEqual(StringTask("a", targets=np.array([2, 1])).targets, (1, 2))

    def test_properties_that_no_engine_could_have(self) -> None:
        self.assertRaisesRegex(
            TypeError, "property 'a' .*depend=", StringTask, "a", targets={"a": np.arange(3)}
        )
        self.assertRaisesRegex(
            ValueError, "nan, which equals nothing", StringTask, "a", targets={"a": float("nan")}
        )

    def test_targets(self) -> None:
        self.assertEqual(StringTask("a", targets=3).targets, (3,))
        self.assertEqual(StringTask("a", targets=[5, 1, 5]).targets, (1, 5))
        wanted = {"gpu": True}
        task = StringTask("a", targets=wanted)
        wanted["gpu"] = False
        self.assertEqual(task.targets, {"gpu": True}, "it is as it was when it was given")
        self.assertTrue(task.targets({"gpu": True, "name": "x"}))
        self.assertFalse(task.targets({"gpu": False}))
        self.assertFalse(task.targets({}))
        for wrong in ("all", True, [True], 1.5, {1: 2}):
            self.assertRaisesRegex(TypeError, "targets", StringTask, "a", targets=wrong)
        for empty in ([], {}, -1, [2**31]):
            self.assertRaisesRegex(ValueError, "targets", StringTask, "a", targets=empty)


class CheckTests(unittest.SynchronousTestCase):
    def test_types_and_values(self) -> None:
        check_options(TaskOptions())
        check_options(TaskOptions(False, True, 1, StringTask("a"), callable, 0.1, -5))
        wrong: Any
        for name, wrong in (
            *(("retries", each) for each in ("1", 1.0, True, None)),
            *(("priority", each) for each in ("1", 1.5, False)),
            *(("timeout", each) for each in ("1", True, 1j)),
            ("depend", {"a": 1}),
        ):
            problem = self.assertRaises(TypeError, check_options, TaskOptions(**{name: wrong}))
            self.assertIn(f"{name} must be ", str(problem))
            self.assertIn(f"not {wrong!r}", str(problem))
        for name, wrong in (
            *(("retries", each) for each in (-1, 2**32)),
            *(("priority", each) for each in (2**31, -(2**31) - 1)),
            *(("timeout", each) for each in (0, -1.0, float("nan"))),
        ):
            problem = self.assertRaises(ValueError, check_options, TaskOptions(**{name: wrong}))
            self.assertIn(f"{name} must be ", str(problem))
            self.assertIn(f"not {wrong}", str(problem))

    def test_recovery_tasks_are_checked_too(self) -> None:
        last = MapTask(abs).with_options(TaskOptions(retries=-1))
        first = StringTask("a", recovery_task=StringTask("b", recovery_task=last))
        self.assertRaisesRegex(ValueError, "retries", check_options, options_of(first))
        last.retries = 0
        with self.assertRaisesRegex(TypeError, "recovery_task must be a task"):
            last.recovery_task = "c"
        last.recovery_task = first
        message = r"the recovery tasks of StringTask\('a'\) form a loop"
        self.assertRaisesRegex(ValueError, message, check_options, options_of(first), first)
