"""``concurrent.futures``: processes of one host, with pipes."""

from __future__ import annotations

import functools
import platform
from typing import Any

from tests.benchmarks import work
from tests.benchmarks.workload import Contestant


class Futures(Contestant):
    name = "concurrent.futures"
    packages = ("numpy", "pandas")
    note = "forked processes of one host; any free one takes a call"
    task_count = 10_000

    def version(self) -> str:
        return platform.python_version()

    def start(self, engines: int) -> None:
        """``ProcessPoolExecutor(4)``, until each process has answered."""
        from concurrent.futures import ProcessPoolExecutor

        self.pool = ProcessPoolExecutor(engines)
        for each in [self.pool.submit(work.sleep_some, 0.01) for _ in range(engines)]:
            each.result()

    @functools.cached_property
    def one(self) -> Any:
        """An executor does not say which process takes an object, so one process takes all of them."""
        from concurrent.futures import ProcessPoolExecutor

        return ProcessPoolExecutor(1)

    def stop(self) -> None:
        self.pool.shutdown()
        self.one.shutdown()

    def call_one(self) -> None:
        """``submit(...).result()``"""
        self.one.submit(work.nothing).result()

    def no_ops(self, count: int) -> None:
        """``submit`` in a loop, each ``result``"""
        for each in [self.pool.submit(work.nothing) for _ in range(count)]:
            each.result()

    def sleeps(self, length: float, count: int) -> None:
        """``submit`` in a loop, each ``result``"""
        for each in [self.pool.submit(work.sleep_some, length) for _ in range(count)]:
            each.result()

    def task_one(self) -> None:
        """``submit(...).result()``"""
        self.pool.submit(work.nothing).result()

    def push_one(self, value: Any) -> None:
        """argument of ``submit``"""
        self.one.submit(work.keep, value).result()

    def pull_one(self) -> Any:
        """result of ``submit``"""
        return self.one.submit(work.give).result()


CONTESTANT = Futures
