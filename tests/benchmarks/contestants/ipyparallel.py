"""ipyparallel: the younger brother, on ZeroMQ."""

from __future__ import annotations

import os
from typing import Any

from tests.benchmarks import meters, work
from tests.benchmarks.workload import Contestant


class IPyParallel(Contestant):
    name = "ipyparallel"
    packages = ("ipyparallel", "numpy", "pandas")
    note = "signed, not encrypted; all goes through its controller"
    task_count = 400

    def version(self) -> str:
        from importlib.metadata import version

        return version("ipyparallel")

    def load(self) -> None:
        import ipyparallel

        self.ipyparallel = ipyparallel

    def start(self, engines: int) -> None:
        """``Cluster(n=4).start_and_connect_sync()``"""
        self.cluster = self.ipyparallel.Cluster(n=engines, log_level=40)
        self.client = self.cluster.start_and_connect_sync()
        self.one, self.every = self.client[0], self.client[:]
        self.every.apply_sync(work.nothing)
        self.balanced = self.client.load_balanced_view()

    def stop(self) -> None:
        self.client.close()
        self.cluster.stop_cluster_sync()

    def roles(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {"client": [os.getpid()], "controller": [], "engines": []}
        for pid in meters.descendants(os.getpid()):
            engine = "ipyparallel.engine" in meters.command_line(pid)
            found["engines" if engine else "controller"].append(pid)
        return found

    def call_one(self) -> None:
        """``execute('a=1', block=True)``"""
        self.one.execute("a=1", block=True)

    def call_all(self) -> None:
        """``execute('a=1', block=True)``"""
        self.every.execute("a=1", block=True)

    def no_ops(self, count: int) -> None:
        """``load_balanced_view().apply_async`` in a loop, each ``get``"""
        for each in [self.balanced.apply_async(work.nothing) for _ in range(count)]:
            each.get()
        self.client.purge_local_results("all")

    def sleeps(self, length: float, count: int) -> None:
        """``load_balanced_view().apply_async`` in a loop, each ``get``"""
        for each in [self.balanced.apply_async(work.sleep_some, length) for _ in range(count)]:
            each.get()
        self.client.purge_local_results("all")

    def task_one(self) -> None:
        """``load_balanced_view().apply_sync``"""
        self.balanced.apply_sync(work.nothing)

    def push_one(self, value: Any) -> None:
        """``push(..., block=True)``"""
        self.one.push({"a": value}, block=True)

    def pull_one(self) -> Any:
        """``pull(..., block=True)``"""
        value = self.one.pull("a", block=True)
        self.client.purge_local_results("all")
        return value

    def push_all(self, value: Any) -> None:
        """``push(..., block=True)``"""
        self.every.push({"a": value}, block=True)

    def scatter(self, array: Any) -> None:
        """``scatter(..., block=True)``"""
        self.every.scatter("a", array, block=True)

    def gather(self) -> Any:
        """``gather(..., block=True)``"""
        value = self.every.gather("a", block=True)
        self.client.purge_local_results("all")
        return value

    # All of its transfers take two hops, by TCP.
    network_push_one = push_one
    network_pull_one = pull_one
    network_push_all = push_all
    network_scatter = scatter
    network_gather = gather


CONTESTANT = IPyParallel
