"""One of several users of a cluster; does what standard input says, one line for each call.

Run as ``right_answers_one_user.py RATE``.
"""

# ruff: noqa: C400 (functions as users write them)

from __future__ import annotations

import dataclasses
import sys
from concurrent.futures import Executor
from typing import Any

import joblib

from ipython1.kernel import client

mec, tc = client.MultiEngineClient(), client.TaskClient()
tc.progress = False
client.register_joblib_backend(tc, "tasks")

rate = int(sys.argv[1])
table = {"rate": rate}


@dataclasses.dataclass
class Settings:
    rate: int

    def times(self, x: int) -> int:
        return x * self.rate * rate


settings = Settings(rate)


def helper(x: int) -> Any:
    return (lambda y: y * rate)(x)


def plain(x: int) -> Any:
    return x * rate


def nested(x: int) -> Any:
    class Local:
        own = rate

    return helper(x), Local.own, [y * rate for y in range(x)], list(helper(y) for y in range(x))


def data(x: int) -> Any:
    return x * table["rate"], settings.times(x)


def on_executor(executor: Executor, function: Any, xs: list[int]) -> list[Any]:
    with executor:
        return [future.result(30) for future in [executor.submit(function, x) for x in xs]]


def on_joblib(function: Any, xs: list[int]) -> list[Any]:
    with joblib.parallel_config("tasks"):
        return list(joblib.Parallel(n_jobs=2)(joblib.delayed(function)(x) for x in xs))


def pushed(function: Any, xs: list[int]) -> list[Any]:
    mec.push_function({"pushed": function})
    mec.execute(f"pushed_answer = [pushed(x) for x in {xs}]")
    return list(mec.pull("pushed_answer")[1])


WAYS: dict[str, Any] = {
    "mec.map": lambda function, xs: mec.map(function, xs),
    "mec.apply": lambda function, xs: [mec.apply(function, x)[0] for x in xs],
    "mec.push_function": pushed,
    "mec.executor": lambda function, xs: on_executor(mec.executor(), function, xs),
    "tc.map": lambda function, xs: tc.map(function, xs),
    "tc.executor": lambda function, xs: on_executor(tc.executor(), function, xs),
    "MapTask": lambda function, xs: [
        tc.run(client.MapTask(function, [x]), block=True)["result"] for x in xs
    ],
    "joblib": on_joblib,
}
FUNCTIONS = {"plain": plain, "nested": nested, "data": data}

if __name__ == "__main__":
    print(*WAYS, sep=";", flush=True)
    for line in sys.stdin:
        way, name = line.strip().split(";")
        function, xs = FUNCTIONS[name], [1, 2, 3]
        try:
            got: Any = WAYS[way](function, xs)
        except Exception as problem:
            got = f"{type(problem).__name__}: {problem}".splitlines()[0]
        expected = [function(x) for x in xs]
        print("right" if got == expected else f"{got} instead of {expected}", flush=True)
