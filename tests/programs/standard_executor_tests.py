"""CPython's own tests of executors, for the executors on engines; needs ``test.test_concurrent_futures``.

Run as ``standard_executor_tests.py mec`` or ``tc``.  The last line says how many tests there were.
"""

from __future__ import annotations

import functools
import gc
import importlib
import itertools
import sys
import unittest
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from types import ModuleType
from typing import Any

from ipython1.kernel import client
from ipython1.kernel.executors import EngineFuture

KIND = sys.argv[1]

PACKAGE = "test.test_concurrent_futures"
PARTS = ("executor", "test_as_completed", "test_future", "test_init", "test_shutdown", "test_wait")
"""The modules of the package, from Python 3.12 on; before, it is one module."""

ON_EXECUTORS = (
    "AsCompletedTests",
    "ExecutorShutdownTest",
    "ExecutorTest",
    "FailingInitializerMixin",
    "InitializerMixin",
    "WaitTests",
)
"""The classes with tests of any executor.

The others test threads and processes of the standard executors: ``ThreadPool...``, ``ProcessPool...``,
``ExecutorDeadlockTest`` (worker processes that crash, which ``executors_faults.py`` tests for engines), and
``FailingInitializerResourcesTest`` (the resource tracker of ``multiprocessing``).
"""

ON_FUTURES = "FutureTests"

DO_NOT_APPLY = {
    "test_interpreter_shutdown": "its program imports the executor from concurrent.futures",
    "test_submit_after_interpreter_shutdown": "its program imports the executor from concurrent.futures",
    "test_hang_gh83386": "its program imports the executor from concurrent.futures",
    "test_repr": "a future on engines shows neither the names of internal states nor the value",
    "test_multiple_set_exception": "as for test_repr",
    "test_multiple_set_result": "as for test_repr",
    "test_cancel_futures": "expects that a call has begun as soon as it is submitted",
    "test_map_timeout": "takes 6 s; executors_session.py tests the same in less",
}


class Owner:
    """Stands for the executor of futures that are on no engine."""

    def cancel_items(self, items: Any) -> bool:
        return False

    def has_begun(self, item: Any) -> bool:
        return False

    def abort_items(self, items: Any) -> None:
        pass

    def call_back(self, callback: Any, future: Any) -> None:
        callback(future)


class OnEngines:
    """Runs the tests of a class with executors on engines."""

    worker_count = 2
    executor_kwargs: dict[str, Any] = {}
    executor: Any = None
    executor_type: Any = None

    def setUp(self) -> None:
        self.executor = self.executor_type(max_workers=self.worker_count, **self.executor_kwargs)

    def tearDown(self) -> None:
        self.executor.shutdown(wait=True)
        self.executor = None


def modules() -> list[ModuleType]:
    root = importlib.import_module(PACKAGE)
    if not hasattr(root, "__path__"):
        return [root]
    found = []
    for part in PARTS:
        try:
            found.append(importlib.import_module(f"{PACKAGE}.{part}"))
        except ImportError as problem:  # another version may have other parts
            print(f"{part}: {problem}")
    return found


def classes(names: tuple[str, ...]) -> Iterator[tuple[ModuleType, type]]:
    for module, name in itertools.product(modules(), names):
        kind = vars(module).get(name)
        if kind is not None and kind.__module__ == module.__name__:
            yield module, kind


def use_engine_futures(module: ModuleType) -> None:
    """Have tests of futures test those of engines."""
    make = functools.partial(EngineFuture, Owner())
    for names in (vars(module), module.create_future.__globals__):
        names["Future"] = make
    for name, future in vars(module).items():
        if isinstance(future, Future):
            state, exception, result = future._state, future._exception, future._result
            setattr(module, name, module.create_future(state, exception, result))


def suite(make: Any) -> unittest.TestSuite:
    tests = unittest.TestSuite()
    kinds: list[type] = []
    for _, mixin in classes(ON_EXECUTORS):
        bases = [mixin, unittest.TestCase]
        if not hasattr(mixin, "setUp"):
            bases.insert(1, OnEngines)
        kinds.append(type(mixin.__name__, tuple(bases), {"executor_type": staticmethod(make)}))
    # Futures are the same for both.
    for module, kind in classes((ON_FUTURES,) if KIND == "mec" else ()):
        use_engine_futures(module)
        kinds.append(kind)
    for kind in kinds:
        for name in unittest.defaultTestLoader.getTestCaseNames(kind):
            if name in DO_NOT_APPLY:
                print(f"{kind.__name__}.{name} does not apply: {DO_NOT_APPLY[name]}")
            else:
                tests.addTest(kind(name))
    return tests


def main() -> int:
    user: Any = client.MultiEngineClient() if KIND == "mec" else client.TaskClient()

    def make(**options: Any) -> Executor:
        executor: Executor = user.executor(**options)
        return executor

    tests = suite(make)
    gc.freeze()  # they collect garbage very often
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(tests)
    print(f"{result.testsRun} of CPython's tests ran with the {KIND} executor")
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
