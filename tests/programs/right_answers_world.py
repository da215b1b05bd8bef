"""What ``right_answers.py`` and ``right_answers_cases.py`` share: simulated users, modules, and ways of calling."""

from __future__ import annotations

import atexit
import importlib
import shutil
import sys
import tempfile
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
import joblib

from ipython1.kernel import client

LIMIT = 30.0
"""Seconds that one call may take."""

USER = Path(__file__).with_name("right_answers_user.py")
USER_CODE = compile(USER.read_text(), str(USER), "exec")

TOOLS = """
factor = 1

def scaled(x):
    return (lambda y: y * factor)(x), [factor for _ in range(1)], _helped(x)

def _helped(x):
    return x + factor

class Scale:
    start = factor
    def of(self, x):
        return x * factor
"""
RECIPES = """
STEP = {value}

def value(x):
    return "version {value}", x + STEP
"""

FOLDER = Path(tempfile.mkdtemp(prefix="ipython1-right-answers-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
sys.dont_write_bytecode = True
sys.path.insert(0, str(FOLDER))
(FOLDER / "right_tools.py").write_text(TOOLS)
(FOLDER / "right_recipes.py").write_text(RECIPES.format(value=0))
tools = importlib.import_module("right_tools")
recipes = importlib.import_module("right_recipes")
cloudpickle.register_pickle_by_value(tools)


def write_recipes(value: int) -> None:
    """Change the module that engines are sent, and load it again here."""
    (FOLDER / "right_recipes.py").write_text(RECIPES.format(value=value))
    importlib.reload(recipes)


def a_copy(module: types.ModuleType, source: str) -> types.ModuleType:
    """A module of its own with the same source, for what is expected."""
    copy = types.ModuleType(module.__name__)
    exec(source, vars(copy))
    return copy


def run_program(tools: types.ModuleType, recipes: types.ModuleType) -> dict[str, Any]:
    """The namespace of a user's program."""
    namespace: dict[str, Any] = {"__name__": "__main__", "tools": tools, "recipes": recipes}
    exec(USER_CODE, namespace)
    return namespace


class Clients:
    """One user's clients, which many examples share."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.mec = client.MultiEngineClient()
        self.later = client.MultiEngineClient()
        self.later.block = False
        self.tc = client.TaskClient()
        self.tc.progress = False
        self.mec_executor = self.mec.executor()
        self.tc_executor = self.tc.executor()
        for kind in ("mec", "tc"):
            client.register_joblib_backend(getattr(self, kind), f"{kind} {number}")


Read = Callable[[], Any]

WAYS: dict[str, Any] = {}


def way(name: str) -> Callable[[Callable[[Clients, Any, list[int]], Any]], Any]:
    """Register a way of calling a function with each of some values; it returns what reads the list of results."""

    def register(begin: Callable[[Clients, Any, list[int]], Any]) -> Any:
        WAYS[name] = begin
        return begin

    return register


def now(values: Any) -> Read:
    """The results of a call that has waited for them."""
    return lambda: values


def then(pending: Any) -> Read:
    """The results of a call that has not."""
    return lambda: pending.get_result(timeout=LIMIT)


def same(values: Sequence[Any]) -> Any:
    """What all engines gave."""
    assert len(values) == 2 and values[0] == values[1], f"the engines differ: {values}"
    return values[0]


def give(c: Clients, name: str, function: Any) -> None:
    """Leave something that can be called on the engines."""
    plain = isinstance(function, types.FunctionType)
    (c.mec.push_function if plain else c.mec.push)({name: function})


@way("mec.apply")
def _(c: Clients, function: Any, xs: list[int]) -> Read:
    return now([same(c.mec.apply(function, x)) for x in xs])


@way("mec.apply, block=False")
def _(c: Clients, function: Any, xs: list[int]) -> Read:
    waiting = [c.later.apply(function, x) for x in xs]
    return lambda: [same(pending.get_result(timeout=LIMIT)) for pending in waiting]


@way("mec.push_function, mec.execute")
def _(c: Clients, function: Any, xs: list[int]) -> Read:
    give(c, f"pushed_{c.number}", function)
    c.mec.execute(f"pushed_answer = [pushed_{c.number}(x) for x in {list(xs)}]")
    return now(same(c.mec.pull("pushed_answer")))


@way("mec.push, mec.execute")
def _(c: Clients, function: Any, xs: list[int]) -> Read:
    c.mec.push({f"pushed_{c.number}": {"function": function}, "pushed_xs": xs})
    c.mec.execute(
        f"pushed_answer = list(map(pushed_{c.number}['function'], pushed_xs))", targets=[0, 1]
    )
    return now(same(c.mec.pull("pushed_answer")))


@way("mec.map")
def _(c: Clients, function: Any, xs: list[int]) -> Read:
    return now(c.mec.map(function, xs))


@way("mec.mapper(dist='r')")
def _(c: Clients, function: Any, xs: list[int]) -> Read:
    return now(c.mec.mapper(dist="r").map(function, xs))


@way("mec.mapper(block=False)")
def _(c: Clients, function: Any, xs: list[int]) -> Read:
    return then(c.mec.mapper(block=False).map(function, xs))


@way("mec.raw_map")
def _(c: Clients, function: Any, xs: list[int]) -> Read:
    return now(c.mec.raw_map(function, [xs]))


@way("mec.raw_map(block=False)")
def _(c: Clients, function: Any, xs: list[int]) -> Read:
    return then(c.mec.raw_map(function, [xs], block=False))


@way("@mec.parallel()")
def _(c: Clients, function: Any, xs: list[int]) -> Read:
    return now(c.mec.parallel()(function)(xs))


@way("@mec.parallel(block=False)")
def _(c: Clients, function: Any, xs: list[int]) -> Read:
    return then(c.mec.parallel(block=False)(function)(xs))


@way("tc.map")
def _(c: Clients, function: Any, xs: list[int]) -> Read:
    return now(c.tc.map(function, xs))


@way("tc.mapper(retries=1)")
def _(c: Clients, function: Any, xs: list[int]) -> Read:
    return now(c.tc.mapper(retries=1).map(function, xs))


@way("tc.mapper(block=False)")
def _(c: Clients, function: Any, xs: list[int]) -> Read:
    return then(c.tc.mapper(block=False).map(function, xs))


@way("tc.mapper(retries=1, block=False)")
def _(c: Clients, function: Any, xs: list[int]) -> Read:
    return then(c.tc.mapper(retries=1, block=False).map(function, xs))


@way("@tc.parallel()")
def _(c: Clients, function: Any, xs: list[int]) -> Read:
    return now(c.tc.parallel()(function)(xs))


@way("@tc.parallel(block=False)")
def _(c: Clients, function: Any, xs: list[int]) -> Read:
    return then(c.tc.parallel(block=False)(function)(xs))


@way("tc.run(Task(push=, pull=))")
def _(c: Clients, function: Any, xs: list[int]) -> Read:
    source = f"task_answer = task_function_{c.number}(task_x)"
    ids = [
        c.tc.run(
            client.Task(
                source,
                push={f"task_function_{c.number}": function, "task_x": x},
                pull=["task_answer"],
            )
        )
        for x in xs
    ]
    return lambda: [c.tc.get_task_result(each, block=True)["task_answer"] for each in ids]


@way("tc.run(MapTask)")
def _(c: Clients, function: Any, xs: list[int]) -> Read:
    ids = [c.tc.run(client.MapTask(function, [x])) for x in xs]
    return lambda: [c.tc.get_task_result(each, block=True)["result"] for each in ids]


@way("tc.run_many([MapTask])")
def _(c: Clients, function: Any, xs: list[int]) -> Read:
    ids = c.tc.run_many([client.MapTask(function, [x]) for x in xs])
    return lambda: [c.tc.get_task_result(each, block=True)["result"] for each in ids]


def _submit(kind: str) -> None:
    @way(f"{kind}.executor().submit")
    def _(c: Clients, function: Any, xs: list[int]) -> Read:
        executor = getattr(c, f"{kind}_executor")
        futures = [executor.submit(function, x) for x in xs]
        return lambda: [future.result(LIMIT) for future in futures]

    for chunk in (1, 2):

        @way(f"{kind}.executor().map(chunksize={chunk})")
        def _(c: Clients, function: Any, xs: list[int], chunk: int = chunk) -> Read:
            results = getattr(c, f"{kind}_executor").map(
                function, xs, chunksize=chunk, timeout=LIMIT
            )
            return lambda: list(results)

    @way(f"joblib on {kind}")
    def _(c: Clients, function: Any, xs: list[int]) -> Read:
        with joblib.parallel_config(f"{kind} {c.number}"):
            return now(joblib.Parallel(n_jobs=2)(joblib.delayed(function)(x) for x in xs))


_submit("mec")
_submit("tc")
