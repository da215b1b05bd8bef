"""Monarch: actors in Rust, steered from one Python program."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.workload import Contestant


class Monarch(Contestant):
    name = "monarch"
    packages = ("torchmonarch", "numpy", "pandas")
    note = "not encrypted on one host; without PyTorch, which these rows do not use"
    task_count = 4000

    def version(self) -> str:
        from importlib.metadata import version

        return version("torchmonarch")

    def load(self) -> None:
        from monarch.actor import this_host

        from tests.benchmarks.contestants.monarch_actor import Holder

        self.this_host, self.holder = this_host, Holder

    def start(self, engines: int) -> None:
        """``this_host().spawn_procs(...)`` and an actor in each, until they have answered"""
        self.procs = self.this_host().spawn_procs(per_host={"procs": engines})
        self.every = self.procs.spawn("holder", self.holder)
        self.ones = [self.every.slice(procs=n) for n in range(engines)]
        self.every.nothing.call().get()

    def stop(self) -> None:
        self.procs.stop().get()

    def call_one(self) -> None:
        """``actor.endpoint.call_one().get()``"""
        self.ones[0].nothing.call_one().get()

    def call_all(self) -> None:
        """``actors.endpoint.call().get()``"""
        self.every.nothing.call().get()

    def no_ops(self, count: int) -> None:
        """``call_one()`` of the four in turn, each ``get``"""
        ones = self.ones
        for each in [ones[n % len(ones)].nothing.call_one() for n in range(count)]:
            each.get()

    def sleeps(self, length: float, count: int) -> None:
        """``call_one()`` of the four in turn, each ``get``"""
        ones = self.ones
        for each in [ones[n % len(ones)].sleep_some.call_one(length) for n in range(count)]:
            each.get()

    def task_one(self) -> None:
        """``actor.endpoint.call_one().get()``"""
        self.ones[0].nothing.call_one().get()

    def push_one(self, value: Any) -> None:
        """argument of ``call_one``"""
        self.ones[0].keep.call_one(value).get()

    def pull_one(self) -> Any:
        """result of ``call_one``"""
        return self.ones[0].give.call_one().get()

    def push_all(self, value: Any) -> None:
        """argument of ``call``"""
        self.every.keep.call(value).get()

    def scatter(self, array: Any) -> None:
        """``call_one`` with each part"""
        import numpy

        parts = numpy.array_split(array, len(self.ones))
        sent = [one.keep.call_one(part) for one, part in zip(self.ones, parts, strict=True)]
        for each in sent:
            each.get()

    def gather(self) -> Any:
        """results of ``call_one`` of each, joined"""
        import numpy

        return numpy.concatenate(
            [each.get() for each in [one.give.call_one() for one in self.ones]]
        )


CONTESTANT = Monarch
