"""``joblib.Parallel`` returns the same on engines as on threads.

Run as ``joblib_session.py mec``, ``tc`` or ``none`` (no client is named).
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from joblib import Parallel, delayed

from ipython1.kernel import client

ENGINES = 4
KIND = sys.argv[1]
BACKENDS = ("threading", "ipython1")


def square(x: int) -> int:
    return x * x


def picky(x: int) -> int:
    if x == 7:
        raise LookupError("seven")
    return x


def process_id(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def give_once_there_is(file: str, value: int) -> int:
    while not os.path.exists(file):
        time.sleep(0.01)
    return value


def inner(n: int) -> list[int]:
    return Parallel(n_jobs=2)(delayed(square)(i) for i in range(n))


def innermost(n: int) -> list[list[int]]:
    return Parallel(n_jobs=2)(delayed(inner)(i) for i in range(n))


def both(call: Callable[..., Any], *args: Any) -> Any:
    """The result of a call on the engines, after checking that threads give the same."""
    results = []
    for backend in BACKENDS:
        with joblib.parallel_config(backend):
            try:
                results.append((None, call(*args)))
            except Exception as problem:
                results.append((type(problem), str(problem)))
    assert results[0] == results[1], results
    return results[1][1]


@contextlib.contextmanager
def raises(kind: type[BaseException], text: str = "") -> Iterator[None]:
    try:
        yield
    except kind as problem:
        assert text in str(problem), problem
    else:
        raise AssertionError(f"no {kind.__name__} was raised")


def test_results_in_order() -> None:
    for n_jobs, batch_size, pre_dispatch in itertools.product(
        (1, 2, 4, 9, -1, -2), (1, 7, "auto"), ("all", "2*n_jobs", 5)
    ):

        def run(**options: Any) -> list[int]:
            return Parallel(**options)(delayed(square)(i) for i in range(25))

        def call() -> list[int]:
            return run(n_jobs=n_jobs, batch_size=batch_size, pre_dispatch=pre_dispatch)

        assert both(call) == [i * i for i in range(25)]
    assert both(lambda: Parallel(n_jobs=4)([])) == []
    assert both(lambda: Parallel(n_jobs=2)(delayed(pow)(x, y=0) for x in (1,))) is not None
    assert both(
        lambda: Parallel(n_jobs=3)(delayed(lambda a, b=2: (a, b))(i) for i in range(3))
    ) == [(0, 2), (1, 2), (2, 2)]


def test_numbers_of_jobs() -> None:
    with joblib.parallel_config("ipython1"):
        assert joblib.effective_n_jobs(-1) == ENGINES
        assert joblib.effective_n_jobs(-2) == ENGINES - 1
        assert joblib.effective_n_jobs(-100) == 1
        assert joblib.effective_n_jobs(3) == 3
        with raises(ValueError, "n_jobs == 0"):
            Parallel(n_jobs=0)(delayed(square)(i) for i in range(3))
        used = set(Parallel(batch_size=1)(delayed(process_id)(0.05) for _ in range(24)))
        assert len(used) == ENGINES and os.getpid() not in used
        began = time.monotonic()
        Parallel(n_jobs=2, batch_size=1)(delayed(time.sleep)(0.1) for _ in range(6))
        assert time.monotonic() - began > 0.29, "more than two jobs ran at the same time"
        assert Parallel(n_jobs=1)(delayed(os.getpid)() for _ in range(2)) == [os.getpid()] * 2
    if KIND != "tc":
        with joblib.parallel_config("ipython1", targets=[0, 2]):
            assert joblib.effective_n_jobs(-1) == 2
            assert len(set(Parallel()(delayed(process_id)(0.02) for _ in range(12)))) == 2


def test_short_jobs_are_batched() -> None:
    with joblib.parallel_config("ipython1"):
        began = time.monotonic()
        assert sum(Parallel()(delayed(square)(i) for i in range(5000))) == sum(
            i * i for i in range(5000)
        )
        assert time.monotonic() - began < 15


def test_exceptions() -> None:
    def call(**options: Any) -> Any:
        return Parallel(n_jobs=4, **options)(delayed(picky)(i) for i in range(40))

    assert both(call) == "seven"
    with joblib.parallel_config("ipython1"):
        with raises(LookupError, "seven"):
            list(call(return_as="generator"))
        with raises(client.SerializationError, "lock"):
            Parallel(n_jobs=2)(delayed(square)(threading.Lock()) for _ in range(4))
        with raises(client.SerializationError, "lock"):
            Parallel(n_jobs=2)(delayed(threading.Lock)() for _ in range(4))

        def bad_tasks() -> Iterator[Any]:
            yield delayed(square)(1)
            raise ZeroDivisionError("in the iterator")

        with raises(ZeroDivisionError, "in the iterator"):
            Parallel(n_jobs=2)(bad_tasks())
        # A Parallel that is used again starts afresh.
        with Parallel(n_jobs=4) as parallel:
            for _ in range(2):
                with raises(LookupError):
                    parallel(delayed(picky)(i) for i in range(100))
                assert parallel(delayed(square)(i) for i in range(5)) == [0, 1, 4, 9, 16]


def test_nested() -> None:
    assert both(lambda: Parallel(n_jobs=2)(delayed(inner)(i) for i in range(4))) == [
        [i * i for i in range(n)] for n in range(4)
    ]
    both(lambda: Parallel(n_jobs=2)(delayed(innermost)(i) for i in range(4)))


def named_inside(how: str, level: int = 0) -> tuple[int, list[Any]]:
    """Name the cluster's backend on an engine, also in calls of such calls."""
    deeper = () if level == 2 else [delayed(named_inside)(how, level + 1) for _ in range(2)]
    if how == "Parallel":
        results = Parallel(n_jobs=2, backend="ipython1")(deeper)
    else:
        with joblib.parallel_config("ipython1", n_jobs=2, inner_max_num_threads=1):
            results = Parallel()(deeper)
    return os.getpid(), results


def processes_of(result: tuple[int, list[Any]]) -> set[int]:
    return {result[0]}.union(*map(processes_of, result[1]))


def test_named_on_engines() -> None:
    for how in ("Parallel", "config"):
        with joblib.parallel_config("ipython1"):
            results = Parallel(n_jobs=2, batch_size=1)(delayed(named_inside)(how) for _ in range(4))
        # Also where joblib has not sent the call.
        results += Clients.mec.apply(named_inside, how)
        for result in results:
            assert processes_of(result) == {result[0]} and result[0] != os.getpid(), result


def limits() -> set[int]:
    return {
        each["num_threads"]
        for each in importlib.import_module("threadpoolctl").threadpool_info()
        if each["user_api"] == "blas"
    }


def test_inner_max_num_threads() -> None:
    there = importlib.util.find_spec("threadpoolctl") is not None
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with joblib.parallel_config("ipython1", n_jobs=2, inner_max_num_threads=1):
            assert Parallel()(delayed(square)(n) for n in range(3)) == [0, 1, 4]
            if there:
                np.ones(1)
                assert set.union(*Parallel()(delayed(limits)() for _ in range(4))) <= {1}
    messages = [str(each.message) for each in told]
    assert (not there) == any("has no threadpoolctl" in message for message in messages), messages
    assert len(messages) <= 1, messages


READY = ""


def prepare(word: str) -> None:
    global READY
    READY = word


def is_ready(word: str) -> bool:
    return word == READY


def not_possible() -> None:
    raise LookupError("not possible")


def test_initializer() -> None:
    with joblib.parallel_config("ipython1", initializer=prepare, initargs=("one",)):
        for _ in range(2):
            assert all(Parallel(n_jobs=3)(delayed(is_ready)("one") for _ in range(9)))
    two = Parallel(n_jobs=3, backend="ipython1", initializer=prepare, initargs=("two",))
    assert all(two(delayed(is_ready)("two") for _ in range(9)))
    with joblib.parallel_config("ipython1", initializer=not_possible):
        with raises(client.BrokenEnginePool, "LookupError: not possible"):
            Parallel(n_jobs=3)(delayed(square)(n) for n in range(9))


def test_generators() -> None:
    with joblib.parallel_config("ipython1"):
        for return_as in ("generator", "generator_unordered"):
            values = Parallel(n_jobs=4, return_as=return_as)(delayed(square)(i) for i in range(30))
            got = list(values)
            assert sorted(got) == [i * i for i in range(30)]
            assert return_as != "generator" or got == sorted(got)
        with tempfile.TemporaryDirectory() as directory:
            values = Parallel(n_jobs=4, return_as="generator_unordered", batch_size=1)(
                delayed(give_once_there_is)(f"{directory}/{number}", number) for number in range(3)
            )
            found = []
            Path(directory, "2").touch()
            for number in values:
                found.append(number)
                Path(directory, f"{number - 1}").touch()
        assert found == [2, 1, 0]
        values = Parallel(n_jobs=4, return_as="generator")(
            delayed(time.sleep)(0.05) for _ in range(500)
        )
        next(values)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            values.close()
        assert told, "joblib did not notice the end"
        began = time.monotonic()
        Parallel(n_jobs=4)(delayed(square)(i) for i in range(4))
        assert time.monotonic() - began < 5, "what was left of the generator still runs"


def test_timeout() -> None:
    with joblib.parallel_config("ipython1"):
        began = time.monotonic()
        with raises(Exception):
            Parallel(n_jobs=2, timeout=0.3)(delayed(time.sleep)(60) for _ in range(4))
        assert Parallel(n_jobs=2, timeout=30)(delayed(square)(i) for i in range(4)) == [0, 1, 4, 9]
        assert time.monotonic() - began < 10, "what took too long was not ended"


def test_interrupt() -> None:
    with joblib.parallel_config("ipython1"):
        began = time.monotonic()
        timer = threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with raises(KeyboardInterrupt):
            Parallel(n_jobs=4)(delayed(time.sleep)(60) for _ in range(20))
        assert Parallel(n_jobs=4)(delayed(square)(i) for i in range(4)) == [0, 1, 4, 9]
        assert time.monotonic() - began < 10, "what was interrupted still runs"


def test_shared_memory() -> None:
    changed: list[int] = []
    with joblib.parallel_config("ipython1"):
        Parallel(n_jobs=2, require="sharedmem")(delayed(changed.append)(i) for i in range(4))
        with raises(ValueError, "does not support shared memory"):
            Parallel(backend="ipython1", require="sharedmem")
    assert sorted(changed) == [0, 1, 2, 3]


def test_grid_search() -> None:
    """A typical program: the parameters of a ridge regression, by cross-validation."""
    random = np.random.default_rng(3)
    inputs = random.normal(size=(200, 12))
    target = inputs @ random.normal(size=12) + random.normal(scale=0.3, size=200)

    def score(alpha: float, fold: int) -> float:
        held_out = np.arange(200) % 5 == fold
        train, test = inputs[~held_out], inputs[held_out]
        weights = np.linalg.solve(train.T @ train + alpha * np.eye(12), train.T @ target[~held_out])
        return float(np.mean((test @ weights - target[held_out]) ** 2))

    grid = list(itertools.product((0.01, 0.1, 1.0, 10.0, 100.0), range(5)))
    found = {}
    for backend in BACKENDS:
        with joblib.parallel_config(backend, n_jobs=4):
            scores = Parallel()(delayed(score)(alpha, fold) for alpha, fold in grid)
        means = np.reshape(scores, (5, 5)).mean(axis=1)
        found[backend] = (grid[5 * int(means.argmin())][0], means)
    assert found["threading"][0] == found["ipython1"][0] == 0.1, found
    assert np.allclose(found["threading"][1], found["ipython1"][1])


def test_targets_are_not_for_tasks() -> None:
    if KIND == "tc":
        with raises(TypeError, "targets require a MultiEngineClient"):
            with joblib.parallel_config("ipython1", targets=[0]):
                Parallel(n_jobs=2)(delayed(abs)(n) for n in range(4))


def test_a_client_that_is_lost() -> None:
    if KIND == "none":
        joblib.parallel.BACKENDS["ipython1"].args[0].get().close()
    with joblib.parallel_config("ipython1"):
        assert Parallel(n_jobs=2)(delayed(abs)(-n) for n in range(4)) == [0, 1, 2, 3]


class Clients:
    mec: Any = None


def main() -> None:
    Clients.mec = client.MultiEngineClient()
    kinds: dict[str, Callable[[], Any]] = {
        "mec": client.MultiEngineClient,
        "tc": client.TaskClient,
        "none": lambda: None,
    }
    client.register_joblib_backend(kinds[KIND]())
    with raises(TypeError, "a MultiEngineClient or a TaskClient"):
        client.register_joblib_backend(3)
    names = [name for name in globals() if name.startswith("test_")]
    for name in names if len(sys.argv) < 3 else sys.argv[2:]:
        began = time.monotonic()
        globals()[name]()
        print(f"{name}: {time.monotonic() - began:.2f} s", flush=True)
    print("joblib on engines gives what it gives on threads")


if __name__ == "__main__":
    main()
