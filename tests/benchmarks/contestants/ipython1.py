"""How this kernel does the work that is measured."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.benchmarks import meters, work
from tests.benchmarks.workload import Clock, Contestant, check, seconds


class Kernel(Contestant):
    name = "ipython1"
    note = "TLS 1.3 between all processes; the journal is on"
    task_count = 50_000

    environ: dict[str, str] = {}
    """Of the cluster and its client, besides what all have."""

    def version(self) -> str:
        from ipython1.version import __version__

        return __version__

    def load(self) -> None:
        os.environ.update(self.environ)
        from ipython1.kernel import client
        from ipython1.testing import RealCluster

        assert client.MultiEngineClient  # which loads the names of the module
        self.client = client
        self.make_cluster = RealCluster

    def start(self, engines: int) -> None:
        """``ipcluster -n 4``"""
        self.cluster = self.make_cluster(engines)
        self.cluster.start()
        os.environ["IPYTHONDIR"] = str(self.cluster.ipython_dir)
        client = self.client
        self.mec = client.MultiEngineClient()
        self.tc = client.TaskClient()
        told = self.mec.execute("import os; print(os.getpid())")
        self._engines = [int(each["stdout"]) for each in told]
        self._idle_engines = [meters.own_megabytes(pid) for pid in self._engines]
        self._idle_controller = meters.resident_megabytes(self._controller())

    def stop(self) -> None:
        self.mec.close()
        self.tc.close()
        self.cluster.stop()

    def roles(self) -> dict[str, list[int]]:
        return {
            "client": [os.getpid()],
            "controller": [self._controller()],
            "engines": self._engines,
        }

    def _controller(self) -> int:
        path = self.cluster.ipython_dir / "security" / "ipcontroller.lock"
        return int(path.read_text())

    def call_one(self) -> None:
        """``execute('a=1')``"""
        self.mec.execute("a=1", targets=0)

    def call_all(self) -> None:
        """``execute('a=1')``"""
        self.mec.execute("a=1")

    def no_ops(self, count: int) -> None:
        """``run(Task('pass'))`` in a loop, ``barrier``, each ``get_task_result``"""
        self._run_all([self.client.Task("pass")] * count)

    def sleeps(self, length: float, count: int) -> None:
        """``run(MapTask(...))`` in a loop, ``barrier``, each ``get_task_result``"""
        self._run_all([self.client.MapTask(work.sleep_some, (length,))] * count)

    def _run_all(self, made: list[Any]) -> list[Any]:
        tc = self.tc
        ids = [tc.run(task) for task in made]
        tc.barrier(ids)
        found = [tc.get_task_result(each) for each in ids]
        tc.clear()
        return found

    def task_one(self) -> None:
        """``run(Task('pass'), block=True)``"""
        self.tc.run(self.client.Task("pass"), block=True)

    def push_one(self, value: Any) -> None:
        """``push``"""
        self.mec.push({"a": value}, targets=0)

    def pull_one(self) -> Any:
        """``pull``"""
        (value,) = self.mec.pull("a", targets=0)
        return value

    def push_all(self, value: Any) -> None:
        """``push``"""
        self.mec.push({"a": value})

    def scatter(self, array: Any) -> None:
        """``scatter``"""
        self.mec.scatter("a", array)

    def gather(self) -> Any:
        """``gather``"""
        return self.mec.gather("a")

    def more(self, clock: Clock) -> None:
        parts = self.plan.parts
        if "startup" in parts:
            clock.write("memory_engine", self._idle_engines)
            clock.write("memory_controller", [self._idle_controller])
        if "calls" in parts:
            self._more_calls(clock)
        if "data" in parts:
            self._during_push(clock, "call_during_push")
            self._large_tasks(clock)
        if "tasks" in parts:
            self._more_tasks(clock)

    def _more_calls(self, clock: Clock) -> None:
        mec = self.mec
        clock.measure("get_ids", mec.get_ids, 300, warm=20)
        waits = []
        for _ in range(self.plan.times(5)):
            busy = mec.execute("while True: pass", targets=0, block=False)
            waits.append(seconds(lambda: (mec.interrupt(targets=0), busy.exception())) * 1e3)
        clock.write("interrupt", waits)
        busy = mec.execute("while True: pass", targets=0, block=False)
        clock.measure("status_busy", mec.queue_status, 100)
        mec.interrupt(targets=0)
        busy.exception()

    def _during_push(self, clock: Clock, row: str) -> None:
        """Calls of one thread while another pushes an array to all engines."""
        array = work.make("array", self.plan.size)

        def push() -> None:
            for _ in range(self.plan.times(5)):
                self.mec.push({"a": array})

        during: list[float] = []
        with ThreadPoolExecutor(1) as pushing:
            pushed = pushing.submit(push)
            while not pushed.done():
                during.append(seconds(self.mec.get_ids) * 1e3)
            pushed.result()
        clock.write(row, [sorted(during)[int(len(during) * 0.9)]])

    def _large_tasks(self, clock: Clock) -> None:
        """Large objects as results and as arguments of tasks."""
        client, tc, size = self.client, self.tc, self.plan.size
        for kind, ending in (("array", ""), ("bytes", "_bytes")):
            value = work.make(kind, size)
            self.mec.push({"kept": value})
            fetch = client.Task("result = kept", pull="result")
            give = client.MapTask(len, (value,))

            def there() -> None:
                assert tc.run(give, block=True).result == len(value)
                tc.clear()

            def back() -> None:
                assert len(tc.run(fetch, block=True).ns.result) == len(value)
                tc.clear()

            check(tc.run(fetch, block=True).ns.result, value)
            for row, action in (("task_result", back), ("task_argument", there)):
                clock.measure(row + ending, action, 5, amount=size / 2**20, warm=2)

    def _more_tasks(self, clock: Clock) -> None:
        client, tc, plan = self.client, self.tc, self.plan
        count = plan.times(self.task_count)
        function = client.MapTask(work.nothing)
        clock.measure("tasks_function", lambda: self._run_all([function] * count), 2, amount=count)
        different = [client.Task(f"a = {n}", pull="a") for n in range(plan.times(20_000))]

        def all_different() -> None:
            values = [each.ns.a for each in self._run_all(different)]
            assert values == list(range(len(different)))

        clock.measure("tasks_different", all_different, 2, amount=len(different))
        self._ragged(clock)
        items = range(plan.times(200_000))
        clock.measure("tasks_map", lambda: tc.map(abs, items), 2, amount=len(items))

    def _ragged(self, clock: Clock) -> None:
        rng = random.Random(2008)
        plan = self.plan
        durations = [rng.uniform(0, 0.05) for _ in range(plan.times(2000))]
        made = [self.client.MapTask(work.sleep_some, (each,)) for each in durations]
        ideal = sum(durations) / plan.engines
        clock.measure("tasks_ragged", lambda: self._run_all(made), 1, amount=ideal, warm=0)

    def apart(self, clock: Clock) -> None:
        if "import" in self.plan.parts:
            clock.write("import", [import_time() for _ in range(self.plan.times(3))])
        if "startup" in self.plan.parts:
            for engines in self.plan.starts:
                clock.write("start_engines", [start_time(engines)], x=engines)
        for name in self.plan.parts:
            if name in OWN_PARTS:
                OWN_PARTS[name](clock)


def import_time() -> float:
    """What an import of the client adds to the start of Python, in ms."""
    from ipython1 import kernel

    assert kernel
    command = [sys.executable, "-P", "-c"]
    whole = [*command, "from ipython1.kernel import client"]
    bare = [*command, "pass"]
    runs = [
        seconds(lambda: subprocess.run(each, check=True))
        for each in (bare, whole, bare, whole)  # the first of each fills caches
    ]
    return (runs[3] - runs[2]) * 1e3


def start_time(engines: int) -> float:
    """Seconds until a cluster is usable."""
    from ipython1.testing import RealCluster

    cluster = RealCluster(engines)
    begun = time.perf_counter()
    try:
        cluster.start()
        return time.perf_counter() - begun
    finally:
        cluster.stop()


def _scale(clock: Clock) -> None:
    from tests.benchmarks import scale

    scale.measure(clock)


def _million(clock: Clock) -> None:
    from tests.benchmarks import million

    million.measure(clock)


def _watched(clock: Clock) -> None:
    from tests.benchmarks import watched

    watched.measure(clock)


def _costs(clock: Clock) -> None:
    from tests.benchmarks import costs

    costs.measure(clock)


def _journal(clock: Clock) -> None:
    from tests.benchmarks import journal

    journal.measure(clock)


def _codec(clock: Clock) -> None:
    from tests.benchmarks import codec

    codec.measure(clock)


OWN_PARTS: dict[str, Callable[[Clock], None]] = {
    "scale": _scale,
    "million": _million,
    "costs": _costs,
    "watched": _watched,
    "journal": _journal,
    "codec": _codec,
}
"""Parts that load much of the kernel, when they are measured."""

CONTESTANT = Kernel
