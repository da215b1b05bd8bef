"""How Ray does the work that is measured."""

from __future__ import annotations

import os
from typing import Any

from tests.benchmarks import meters, work
from tests.benchmarks.workload import Contestant


class Ray(Contestant):
    name = "ray"
    packages = ("ray", "numpy", "pandas")
    note = "not encrypted; objects in shared memory, which workers can only read and do not copy"
    task_count = 2000

    def version(self) -> str:
        from importlib.metadata import version

        return version("ray")

    def load(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        self.ray = ray

    def start(self, engines: int) -> None:
        """``ray.init(num_cpus=4)`` and four actors that have answered"""
        ray = self.ray
        ray.init(
            num_cpus=2 * engines,  # four for actors, four for tasks
            logging_level="ERROR",
            include_dashboard=False,
            log_to_driver=False,
        )

        class Holder:
            def call(self) -> None:
                pass

            def keep(self, value: Any) -> None:
                self.value = value

            def give(self) -> Any:
                return self.value

        made = ray.remote(num_cpus=1)(Holder)
        self.actors = [made.remote() for _ in range(engines)]
        self.nothing = ray.remote(work.nothing)
        self.sleep_some = ray.remote(work.sleep_some)
        ray.get([actor.call.remote() for actor in self.actors])

    def stop(self) -> None:
        self.ray.shutdown()

    def roles(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {"client": [os.getpid()], "services": [], "workers": []}
        for pid in meters.descendants(os.getpid()):
            worker = "ray::" in meters.command_line(pid)
            found["workers" if worker else "services"].append(pid)
        return found

    def call_one(self) -> None:
        """``get(actor.call.remote())``"""
        self.ray.get(self.actors[0].call.remote())

    def call_all(self) -> None:
        """``get`` of a call of each actor"""
        self.ray.get([actor.call.remote() for actor in self.actors])

    def no_ops(self, count: int) -> None:
        """``f.remote()`` in a loop, each ``get``"""
        for each in [self.nothing.remote() for _ in range(count)]:
            self.ray.get(each)

    def sleeps(self, length: float, count: int) -> None:
        """``f.remote()`` in a loop, each ``get``"""
        for each in [self.sleep_some.remote(length) for _ in range(count)]:
            self.ray.get(each)

    def task_one(self) -> None:
        """``get(f.remote())``"""
        self.ray.get(self.nothing.remote())

    def push_one(self, value: Any) -> None:
        """``put``, and a call of an actor with the reference"""
        self.ray.get(self.actors[0].keep.remote(self.ray.put(value)))

    def pull_one(self) -> Any:
        """``get`` of the result of an actor's call"""
        return self.ray.get(self.actors[0].give.remote())

    def push_all(self, value: Any) -> None:
        """``put``, and a call of each actor with the reference"""
        reference = self.ray.put(value)
        self.ray.get([actor.keep.remote(reference) for actor in self.actors])

    def scatter(self, array: Any) -> None:
        """``put`` of each part, and a call of each actor"""
        import numpy

        parts = numpy.array_split(array, len(self.actors))
        self.ray.get(
            [
                actor.keep.remote(self.ray.put(part))
                for actor, part in zip(self.actors, parts, strict=True)
            ]
        )

    def gather(self) -> Any:
        """``get`` of each actor's result, joined"""
        import numpy

        return numpy.concatenate(self.ray.get([actor.give.remote() for actor in self.actors]))


CONTESTANT = Ray
