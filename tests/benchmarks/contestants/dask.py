"""How dask.distributed does the work that is measured."""

from __future__ import annotations

import os
from typing import Any

from tests.benchmarks import work
from tests.benchmarks.workload import Contestant


class Dask(Contestant):
    name = "dask"
    packages = ("distributed", "numpy", "pandas")
    note = (
        "not encrypted; the scheduler runs in the client's process; direct=True to workers, and by the scheduler "
        "(direct=False) for the rows of the network"
    )
    task_count = 600

    def version(self) -> str:
        from importlib.metadata import version

        return version("distributed")

    def load(self) -> None:
        from distributed import Client, LocalCluster

        self.make_client, self.make_cluster = Client, LocalCluster

    def start(self, engines: int) -> None:
        """``LocalCluster(n_workers=4, threads_per_worker=1)`` and ``Client``"""
        self.cluster = self.make_cluster(
            n_workers=engines, threads_per_worker=1, dashboard_address=None, memory_limit=0
        )
        self.client = self.make_client(self.cluster)
        self.client.wait_for_workers(engines)
        self.client.run(os.getpid)
        self.workers = list(self.client.scheduler_info(n_workers=-1)["workers"])
        self.held: Any = None

    def stop(self) -> None:
        self.held = None
        self.client.close()
        self.cluster.close()

    def call_one(self) -> None:
        """``submit(..., workers=[one]).result()``"""
        self.client.submit(work.nothing, workers=self.workers[:1], pure=False).result()

    def call_all(self) -> None:
        """``Client.run``"""
        self.client.run(work.nothing)

    def no_ops(self, count: int) -> None:
        """``submit`` in a loop, each ``result``"""
        for each in [self.client.submit(work.nothing, pure=False) for _ in range(count)]:
            each.result()

    def sleeps(self, length: float, count: int) -> None:
        """``submit`` in a loop, each ``result``"""
        submit = self.client.submit
        for each in [submit(work.sleep_some, length, pure=False) for _ in range(count)]:
            each.result()

    def task_one(self) -> None:
        """``submit(...).result()``"""
        self.client.submit(work.nothing, pure=False).result()

    def _send(self, value: Any, direct: bool) -> None:
        self.held = self.client.scatter(
            value if not isinstance(value, list) else [value],
            workers=self.workers[:1],
            direct=direct,
            hash=False,
        )

    def _send_all(self, value: Any, direct: bool) -> None:
        self.held = self.client.scatter(value, broadcast=True, direct=direct, hash=False)

    def _send_parts(self, array: Any, direct: bool) -> None:
        import numpy

        parts = numpy.array_split(array, len(self.workers))
        self.held = [
            self.client.scatter(part, workers=[worker], direct=direct, hash=False)
            for part, worker in zip(parts, self.workers, strict=True)
        ]

    def _fetch(self, direct: bool) -> Any:
        value = self.client.gather(self.held, direct=direct)
        return value[0] if isinstance(value, list) else value

    def _fetch_parts(self, direct: bool) -> Any:
        import numpy

        return numpy.concatenate(self.client.gather(self.held, direct=direct))

    def push_one(self, value: Any) -> None:
        """``scatter(..., workers=[one], direct=True)``"""
        self._send(value, True)

    def pull_one(self) -> Any:
        """``gather(..., direct=True)``"""
        return self._fetch(True)

    def push_all(self, value: Any) -> None:
        """``scatter(..., broadcast=True)``"""
        self._send_all(value, True)

    def scatter(self, array: Any) -> None:
        """``scatter`` of each part, ``direct=True``"""
        self._send_parts(array, True)

    def gather(self) -> Any:
        """``gather(..., direct=True)``, joined"""
        return self._fetch_parts(True)

    def network_push_one(self, value: Any) -> None:
        """``scatter(..., direct=False)``"""
        self._send(value, False)

    def network_pull_one(self) -> Any:
        """``gather(..., direct=False)``"""
        return self._fetch(False)

    def network_push_all(self, value: Any) -> None:
        """``scatter(..., broadcast=True, direct=False)``"""
        self._send_all(value, False)

    def network_scatter(self, array: Any) -> None:
        """``scatter`` of each part, ``direct=False``"""
        self._send_parts(array, False)

    def network_gather(self) -> Any:
        """``gather(..., direct=False)``, joined"""
        return self._fetch_parts(False)


CONTESTANT = Dask
