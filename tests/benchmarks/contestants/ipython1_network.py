"""This kernel without shared memory, as between hosts; its rows stand beside those of the kernel."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.contestants.ipython1 import Kernel
from tests.benchmarks.workload import Clock, Contestant


class NetworkKernel(Kernel):
    environ = {"IPYTHON1_SHARED_MEMORY": "0"}

    # The rows of one host are measured with shared memory.
    push_one = Contestant.push_one
    pull_one = Contestant.pull_one
    push_all = Contestant.push_all
    scatter = Contestant.scatter
    gather = Contestant.gather

    def network_push_one(self, value: Any) -> None:
        """``push`` without shared memory, encrypted"""
        super().push_one(value)

    def network_pull_one(self) -> Any:
        """``pull`` without shared memory, encrypted"""
        return super().pull_one()

    def network_push_all(self, value: Any) -> None:
        """``push`` without shared memory, encrypted"""
        super().push_all(value)

    def network_scatter(self, array: Any) -> None:
        """``scatter`` without shared memory, encrypted"""
        super().scatter(array)

    def network_gather(self) -> Any:
        """``gather`` without shared memory, encrypted"""
        return super().gather()

    def more(self, clock: Clock) -> None:
        self._during_push(clock, "network_call_during_push")

    def apart(self, clock: Clock) -> None:
        pass


CONTESTANT = NetworkKernel
