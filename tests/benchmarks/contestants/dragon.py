"""Dragon: ``multiprocessing`` across nodes."""

from __future__ import annotations

import functools
import os
from typing import Any

from tests.benchmarks import meters, work
from tests.benchmarks.workload import Contestant


class Dragon(Contestant):
    name = "dragon"
    packages = ("dragonhpc", "numpy", "pandas")
    note = "its multiprocessing pool, on one node; the time of start includes that of its services"
    task_count = 200
    launched = True

    def version(self) -> str:
        from importlib.metadata import version

        return version("dragonhpc")

    def start(self, engines: int) -> None:
        """``dragon PROGRAM``, until ``Pool(4)`` has answered"""
        import multiprocessing

        import dragon

        assert dragon
        multiprocessing.set_start_method("dragon")
        self.pool = multiprocessing.Pool(engines)
        for each in [self.pool.apply_async(work.nothing) for _ in range(engines)]:
            each.get()

    @functools.cached_property
    def one(self) -> Any:
        """A pool does not say which process takes an object, so one process takes all of them."""
        import multiprocessing

        return multiprocessing.Pool(1)

    def stop(self) -> None:
        for pool in (self.pool, self.one):
            pool.close()
            pool.join()

    def roles(self) -> dict[str, list[int]]:
        """All processes are its own services' children."""
        others = meters.marked(self.plan.mark)
        return {"client": [os.getpid()], "services and workers": sorted(others)}

    def call_one(self) -> None:
        """``Pool.apply``"""
        self.one.apply(work.nothing)

    def no_ops(self, count: int) -> None:
        """``Pool.apply_async`` in a loop, each ``get``"""
        for each in [self.pool.apply_async(work.nothing) for _ in range(count)]:
            each.get()

    def sleeps(self, length: float, count: int) -> None:
        """``Pool.apply_async`` in a loop, each ``get``"""
        for each in [self.pool.apply_async(work.sleep_some, (length,)) for _ in range(count)]:
            each.get()

    def task_one(self) -> None:
        """``Pool.apply``"""
        self.pool.apply(work.nothing)

    def push_one(self, value: Any) -> None:
        """argument of ``Pool.apply``"""
        self.one.apply(work.keep, (value,))

    def pull_one(self) -> Any:
        """result of ``Pool.apply``"""
        return self.one.apply(work.give)


CONTESTANT = Dragon
