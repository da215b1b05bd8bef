"""Tasks refuse what they cannot be made of, as soon as they are made or changed."""

from __future__ import annotations

import copy
import functools
import pickle
import weakref
from collections import UserDict, deque
from typing import Any

import numpy
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel import asyncclient, asynclient, client, task, taskobjects
from ipython1.kernel.objects.taskobjects import BaseTask, MapTask, StringTask


class MapTaskTests(SynchronousTestCase):
    def test_the_argument_is_named_and_what_is_wanted(self) -> None:
        for arguments, said in (
            (("text",), "function must be a function, not 'text'; use StringTask for code"),
            ((None,), "function must be a function, not None"),
            ((abs, 10), "args must be a sequence of arguments, not 10; write (10,) for one"),
            ((abs, "ab"), "args must be a sequence of arguments, not 'ab'; write ('ab',) for one"),
            ((abs, {1}), "args must be a sequence of arguments, not {1}"),
            ((abs, {"x": 1}), "args must be a sequence of arguments, not {'x': 1}"),
            ((abs, None, 3), "kwargs must be a dict of keyword arguments, not 3"),
            ((abs, (), [("a", 1)]), "kwargs must be a dict of keyword arguments, not [('a', 1)]"),
        ):
            problem = self.assertRaises(TypeError, MapTask, *arguments)
            self.assertIn(said, str(problem))

    def test_whatever_can_be_called_with_whatever_is_ordered(self) -> None:
        for function in (abs, int, functools.partial(max, 1), lambda: None, [].append):
            for args in (None, (1,), [1], deque([1]), range(1), numpy.arange(1), iter([1])):
                MapTask(function, args, None)  # type: ignore[arg-type]
        self.assertEqual(MapTask(dict, (), UserDict(a=1)).kwargs, {"a": 1})
        self.assertEqual((MapTask(abs).args, MapTask(abs).kwargs), ((), {}))


class StringTaskTests(SynchronousTestCase):
    def test_what_is_no_code_is_refused(self) -> None:
        wrong: Any
        for wrong, said in (
            (abs, "expression must be code (a str), not <built-in function abs>; use MapTask for"),
            (5, "expression must be code (a str), not 5"),
        ):
            self.assertIn(said, str(self.assertRaises(TypeError, StringTask, wrong)))
        StringTask(type("Code", (str,), {})("a = 1"))

    def test_what_can_be_no_names_is_refused_at_once(self) -> None:
        wrong: dict[str, Any]
        for wrong, said in (
            ({"pull": 5}, "pull must be a name or a list of names, not 5"),
            ({"pull": ["a", 5]}, "a name to pull must be a str, not 5"),
            ({"push": [1]}, "push must be a dict of names and objects, not list"),
            ({"push": "ab"}, "push must be a dict of names and objects, not str"),
            ({"recovery_task": 5}, "recovery_task must be a task (Task, MapTask, or an object"),
            ({"recovery_task": StringTask}, "recovery_task must be a task"),
        ):
            problem = self.assertRaises(TypeError, StringTask, "a = 1", **wrong)
            self.assertIn(said, str(problem))
        self.assertRaises(ValueError, StringTask, "a = 1", ["a b"])
        self.assertEqual(StringTask("a", push=[("b", 1)]).push, {"b": 1})  # type: ignore[arg-type]
        self.assertEqual(StringTask("a", push=UserDict(b=1)).push, {"b": 1})
        recovery = MapTask(abs, (1,))
        self.assertIs(StringTask("a", recovery_task=recovery).recovery_task, recovery)


class AttributeTests(SynchronousTestCase):
    def test_misspelt_ones_are_refused(self) -> None:
        for made in (StringTask("a = 1"), MapTask(abs)):
            for name in ("retrys", "expresion", "func"):
                with self.assertRaisesRegex(AttributeError, name):
                    setattr(made, name, 1)
            made.retries = 3
            self.assertEqual(made.retries, 3)

    def test_types_of_ones_own_have_their_own(self) -> None:
        class Own(StringTask):
            pass

        class Other(BaseTask):
            def __init__(self) -> None:
                self.mine = 5

        own, other = Own("a = 1"), Other()
        own.whatever = other.whatever = 1  # type: ignore[attr-defined]
        other.retries = 2
        self.assertEqual((own.retries, other.retries, other.mine), (0, 2, 5))

    def test_tasks_are_copied_and_pickled(self) -> None:
        for made in (StringTask("a = 1", "a", {"b": 1}, retries=2), MapTask(abs, (1,), retries=2)):
            for again in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
                self.assertEqual((type(again), again.retries), (type(made), 2))
                self.assertEqual(repr(again), repr(made))
            self.assertIs(weakref.ref(made)(), made)


class OptionTests(SynchronousTestCase):
    def test_wrong_options_are_refused_when_they_are_given(self) -> None:
        wrong: dict[str, Any]
        for wrong, kind in (
            ({"retries": -1}, ValueError),
            ({"retries": "2"}, TypeError),
            ({"timeout": 0}, ValueError),
            ({"depend": 5}, TypeError),
            ({"clear_before": "no"}, TypeError),
            ({"clear_after": 2.5}, TypeError),
        ):
            [(name, value)] = wrong.items()
            self.assertRaisesRegex(kind, f"^{name} must be ", MapTask, abs, **wrong)
            made = StringTask("a = 1")
            self.assertRaisesRegex(kind, f"^{name} must be ", setattr, made, name, value)
            self.assertEqual(getattr(made, name), getattr(StringTask("a"), name))


class NamesOf2008Tests(SynchronousTestCase):
    def test_tasks_are_where_programs_of_2008_import_them_from(self) -> None:
        for module in (client, task, asyncclient, asynclient, taskobjects):
            for name in ("MapTask", "StringTask", "Task", "TaskResult"):
                self.assertIs(getattr(module, name), getattr(taskobjects, name), module.__name__)
        self.assertIs(asyncclient.CompositeError, client.CompositeError)
        self.assertIs(asyncclient.ResultList, client.ResultList)
