"""Random calls of several users with changing programs give what the same calls give here.

Run on a cluster of two engines.  See ``--help`` for how to run more, or less.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from right_answers_world import (
    RECIPES,
    TOOLS,
    WAYS,
    Clients,
    a_copy,
    give,
    recipes,
    run_program,
    same,
    tools,
    write_recipes,
)

options = argparse.ArgumentParser(description=__doc__)
options.add_argument("--examples", type=int, default=60, help="how many random sessions to try")
options.add_argument(
    "--shrink", type=float, default=20.0, help="seconds to look for a shorter one that fails"
)
options.add_argument("--shapes", default="", help="only functions with these names (a,b,c)")
options.add_argument(
    "--ways",
    default="",
    help="only these ways of calling, or all that contain one of these (a;b;c)",
)
options.add_argument("--calls-only", action="store_true", help="define nothing on the engines")
chosen = options.parse_args()

USERS: Final = 3

clients = [Clients(number) for number in range(USERS)]
mec = clients[0].mec
PROGRAM: Final = run_program(tools, recipes)
"""For the names of its shapes and changes."""


# -- what a user expects


class World:
    """The users' programs, and what the user has defined on the engines.

    :ivar users: the namespace of each user's program.
    :ivar defined: names and values that were defined on the engines.
    :ivar waiting: calls whose results have not been read.
    :ivar pushed: for each user, the shape pushed as a function, and the program as it was then.
    :ivar kept: for each slot, the program as it was when a function was left on the engine, and the names then.
    """

    def __init__(self) -> None:
        tools.factor = 1  # type: ignore[attr-defined]
        self.users = [run_program(tools, recipes) for _ in range(USERS)]
        self.changes: list[dict[str, int]] = [{} for _ in range(USERS)]
        self.tools: int = 1
        self.recipes = 0
        self.defined: dict[str, Any] = {}
        self.waiting: list[tuple[Any, Callable[[], Any], Any]] = []
        self.pushed: dict[int, tuple[str, dict[str, int], int]] = {}
        self.kept: dict[int, tuple[dict[str, int], int, dict[str, Any]]] = {}

    def rebuilt(
        self, changes: dict[str, int], factor: int, defined: dict[str, Any]
    ) -> dict[str, Any]:
        """A program with these changes, under names that are defined on the engines."""
        own_tools = a_copy(tools, TOOLS)
        own_tools.factor = factor  # type: ignore[attr-defined]
        namespace = run_program(own_tools, a_copy(recipes, RECIPES.format(value=self.recipes)))
        for what, value in changes.items():
            namespace["change"](what, value, False)
        namespace.update(copy.deepcopy(defined))
        return namespace

    def of_now(self, user: int) -> dict[str, Any]:
        """A user's program as it is now, under names that are defined on the engines."""
        return self.rebuilt(self.changes[user], self.tools, self.defined)

    def settle(self) -> None:
        """Read the results of all calls that nobody has waited for."""
        waiting, self.waiting = self.waiting, []
        for step, read, expected in waiting:
            compare(step, read, expected)


class WrongAnswer(AssertionError):
    """Engines gave something else."""


def compare(step: Any, read: Callable[[], Any], *expected: Any) -> None:
    """Check what a call gives."""
    try:
        got = read()
    except Exception as problem:
        got = problem
    if got not in expected:
        told = f"{type(got).__name__}: {got}" if isinstance(got, Exception) else repr(got)
        alike = " or ".join(repr(each) for each in expected)
        raise WrongAnswer(f"{step}\n    on engines: {told}\n    here: {alike}")


# -- steps


@dataclass(frozen=True)
class Change:
    """A user changes something in a program."""

    user: int
    what: str
    value: int
    in_place: bool

    def run(self, world: World) -> None:
        if self.what == "tools":
            world.tools = self.value
        else:
            world.changes[self.user][self.what] = self.value
        world.users[self.user]["change"](self.what, self.value, self.in_place)


@dataclass(frozen=True)
class Call:
    """A user calls a function."""

    user: int
    shape: str
    way: str
    xs: Sequence[int]
    later: bool

    def run(self, world: World) -> None:
        live = world.users[self.user]
        function = live["get"](self.shape)
        expected_here = [function(x) for x in self.xs]
        alike = world.rebuilt(world.changes[self.user], world.tools, {})["get"](self.shape)
        assert expected_here == [alike(x) for x in self.xs], f"this test is wrong: {self}"
        there = world.of_now(self.user)["get"](self.shape)
        expected = [there(x) for x in self.xs]
        given_xs = list(self.xs)
        try:
            read = WAYS[self.way](clients[self.user], function, given_xs)
        except Exception as problem:
            read = partial(_fail, problem)
        # What was given may be changed as soon as the call has returned.
        given_xs.clear()
        if self.later:
            world.waiting.append((self, read, expected))
        else:
            compare(self, read, expected)


def _fail(problem: Exception) -> None:
    raise problem


@dataclass(frozen=True)
class Define:
    """Somebody defines a name on the engines."""

    name: str
    value: int
    how: str

    def run(self, world: World) -> None:
        world.settle()
        value = {"a": self.value} if self.name == "table" else self.value
        if self.how == "push":
            mec.push({self.name: value})
        elif self.how == "execute":
            mec.execute(f"{self.name} = {value!r}")
        elif self.name == "rate":
            mec.apply(world.users[0]["define_rate"], value)
        else:
            return
        world.defined[self.name] = value


@dataclass(frozen=True)
class Delete:
    """Somebody deletes a name on the engines."""

    name: str

    def run(self, world: World) -> None:
        world.settle()
        if self.name in world.defined:
            mec.execute(f"del {self.name}")
            del world.defined[self.name]


@dataclass(frozen=True)
class Reset:
    """Somebody clears the engines' namespaces."""

    def run(self, world: World) -> None:
        world.settle()
        mec.reset()
        world.defined.clear()
        world.pushed.clear()
        world.kept.clear()


@dataclass(frozen=True)
class PushModule:
    """Somebody changes a module, and sends it to the engines."""

    value: int

    def run(self, world: World) -> None:
        world.settle()
        write_recipes(self.value)
        world.recipes = self.value
        mec.push_module(recipes)


@dataclass(frozen=True)
class PushFunction:
    """A user gives a function to the engines, for later."""

    user: int
    shape: str

    def run(self, world: World) -> None:
        function = world.users[self.user]["get"](self.shape)
        give(clients[self.user], f"given_{self.user}", function)
        world.pushed[self.user] = self.shape, dict(world.changes[self.user]), world.tools


@dataclass(frozen=True)
class CallPushed:
    """The engines call a function that they were given earlier."""

    user: int
    x: int

    def run(self, world: World) -> None:
        if self.user not in world.pushed:
            return
        shape, changes, factor = world.pushed[self.user]
        expected = world.rebuilt(changes, factor, world.defined)["get"](shape)(self.x)

        def answer() -> Any:
            mec.execute(f"given_answer = given_{self.user}({self.x})")
            return same(mec.pull("given_answer"))

        compare(self, answer, expected)


@dataclass(frozen=True)
class Keep:
    """A user's function makes another one on the engines, which they keep."""

    user: int
    slot: int

    def run(self, world: World) -> None:
        clients[self.user].mec.apply(world.users[self.user][f"keep_{self.slot}"])
        world.kept[self.slot] = (
            dict(world.changes[self.user]),
            world.tools,
            dict(world.defined),
        )


@dataclass(frozen=True)
class CallKept:
    """The engines call a function that they made and kept."""

    slot: int
    x: int

    def run(self, world: World) -> None:
        if self.slot not in world.kept:
            return
        changes, factor, defined = world.kept[self.slot]
        # The names on the engines may be those of now, or those of the call that made the function.
        expected = [
            world.rebuilt(changes, factor, names)["_late"]()(self.x)
            for names in (world.defined, defined)
        ]

        def answer() -> Any:
            mec.execute(f"kept_answer = kept_{self.slot}({self.x})")
            return same(mec.pull("kept_answer"))

        compare(self, answer, *expected)


# -- any order of them

all_shapes = [shape for shape in PROGRAM["SHAPES"] if shape in (chosen.shapes or shape).split(",")]
kept_as_they_are = [
    shape
    for shape in PROGRAM["SHAPES"]
    if shape not in PROGRAM["OF_THE_ENGINE"] and shape not in PROGRAM["OF_CLASSES"]
]
all_ways = [
    way
    for way in WAYS
    for part in chosen.ways.split(";")
    if way == part or (part not in WAYS and part in way)
]
xs = st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple)
values = st.integers(1, 3)


def few(choices: Sequence[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(choices), min_size=1, max_size=3, unique=True)


@st.composite
def plans(draw: Any) -> list[Any]:
    """A session with few functions, ways and changes, so that they meet."""
    users = st.integers(0, draw(st.integers(0, USERS - 1)))
    shapes = draw(few(all_shapes))
    ways = st.sampled_from(draw(few(all_ways)))
    # Nearly all functions read these two.
    what = st.sampled_from(["rate", "helper", *draw(few(PROGRAM["CHANGES"]))])
    changes = st.builds(Change, users, what, values, st.booleans())
    calls = st.builds(Call, users, st.sampled_from(shapes), ways, xs, st.booleans())
    steps = [calls, calls, calls, changes, changes]
    if not chosen.calls_only and draw(st.booleans()):
        names = st.sampled_from(["rate", "table"])
        how = st.sampled_from(["push", "execute", "global"])
        steps += [
            st.builds(Define, names, values, how),
            st.builds(Delete, names),
            st.just(Reset()),
        ]
    if not chosen.calls_only and draw(st.booleans()):
        own = st.sampled_from(
            [shape for shape in shapes if shape in kept_as_they_are] or kept_as_they_are
        )
        slots, x = st.integers(0, 1), st.integers(0, 3)
        steps += [
            st.builds(PushFunction, users, own),
            st.builds(CallPushed, users, x),
            st.builds(Keep, users, slots),
            st.builds(CallKept, slots, x),
        ]
    if not chosen.calls_only and not set(shapes) <= set(kept_as_they_are):
        steps.append(st.builds(PushModule, values))
    size = draw(st.integers(1, 30))
    plan: list[Any] = draw(st.lists(st.one_of(steps), min_size=size, max_size=size))
    return plan


class Finder:
    """Runs lists of steps, and remembers the shortest that failed."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.runs = 0
        self.shortest: tuple[list[Any], str] | None = None
        self.found = 0.0

    def run(self, plan: list[Any]) -> None:
        if self.found and time.monotonic() - self.found > chosen.shrink:
            return
        # What happens in threads may go wrong only now and then.
        for _ in range(3 if self.found else 1):
            self._once(plan)

    def _once(self, plan: list[Any]) -> None:
        self.runs += 1
        mec.reset()
        if recipes.value(0)[0] != "version 0":
            write_recipes(0)
        mec.push_module(recipes)
        world = World()
        try:
            for step in plan:
                step.run(world)
            world.settle()
        except Exception as problem:
            self._failed(plan, problem)
            raise
        finally:
            for _, read, _ in world.waiting:
                with contextlib.suppress(Exception):
                    read()

    def thin(self) -> None:
        """Leave out of the shortest list each step that it does not need."""
        assert self.shortest is not None
        self.found = time.monotonic()
        for position in reversed(range(len(self.shortest[0]))):
            plan = self.shortest[0]
            with contextlib.suppress(Exception):
                self.run([*plan[:position], *plan[position + 1 :]])

    def _failed(self, plan: list[Any], problem: Exception) -> None:
        self.found = self.found or time.monotonic()
        size = (len(plan), len(repr(plan)))
        if self.shortest is None or size < (len(self.shortest[0]), len(repr(self.shortest[0]))):
            text = str(problem)
            if not isinstance(problem, WrongAnswer):
                text = "".join(traceback.format_exception(problem))[-3000:]
            self.shortest = plan, text


def main() -> int:
    """Try random sessions; print the shortest that fails."""
    finder = Finder()

    @settings(
        max_examples=chosen.examples,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(plans())
    def any_order(plan: list[Any]) -> None:
        finder.run(plan)

    try:
        any_order()
    except BaseException:
        if finder.shortest is None:
            raise
        took = finder.found - finder.began
        finder.thin()
        plan, problem = finder.shortest
        print(
            f"these steps give a wrong answer (found after {took:.1f} s, {finder.runs} runs in all):"
        )
        for step in plan:
            print(f"    {step}")
        print(f"wrong: {problem}")
        return 1
    print(f"{finder.runs} random sessions in {time.monotonic() - finder.began:.1f} s")
    print("every answer is right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
