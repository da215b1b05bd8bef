"""What the journal costs: two clusters, one with it and one with ``--journal=off``, in turn."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from ipython1.kernel import client
from ipython1.testing import RealCluster
from tests.benchmarks.meters import resident_megabytes
from tests.benchmarks.workload import Clock, seconds

CLIENTS = 8
CALLS = 300
"""Of one measurement."""

ROUNDS = 5

SUBMITTER = """
import sys
from ipython1.kernel import client
with client.TaskClient() as tc:
    ids = tc.run_many([client.MapTask(abs, (-n,)) for n in range(int(sys.argv[1]))])
    tc.flush()
    print("submitted", flush=True)
    sys.stdin.readline()
    tc.barrier(ids)
    assert [tc.get_task_result(each).result for each in ids] == list(range(len(ids)))
    print("all right", flush=True)
"""


def measure(clock: Clock) -> None:
    both(clock)
    stopped(clock)
    restarted(clock)


class Side:
    """A cluster with its clients."""

    def __init__(self, cluster: RealCluster) -> None:
        os.environ["IPYTHONDIR"] = str(cluster.ipython_dir)
        self.mec = client.MultiEngineClient()
        self.tc = client.TaskClient()

    def tasks(self, number: int) -> float:
        """No-op tasks per second, when they are submitted one by one and every result is fetched."""
        task = client.Task("pass")

        def all_of_it() -> None:
            ids = [self.tc.run(task) for _ in range(number)]
            self.tc.barrier(ids)
            for task_id in ids:
                self.tc.get_task_result(task_id)

        took = seconds(all_of_it)
        self.tc.clear()
        return number / took

    def acknowledged(self, times: int) -> float:
        """Milliseconds until a call that does not block is acknowledged, when nothing else goes on."""
        found = []
        for _ in range(times):
            pending: list[Any] = []
            found.append(
                seconds(lambda: pending.append(self.mec.execute("a = 1", targets=0, block=False)))
            )
            pending[0].get_result()
        return statistics.median(found) * 1e3

    def blocking(self, times: int) -> float:
        """Milliseconds of a blocking call on one engine."""
        return _median(lambda: self.mec.execute("a = 1", targets=0), times)

    def round_trip(self, times: int) -> float:
        """Milliseconds until the result of a task is there, when nothing else goes on."""
        task = client.Task("pass")
        return _median(lambda: self.tc.run(task, block=True), times)

    def close(self) -> None:
        self.mec.close()
        self.tc.close()


def both(clock: Clock) -> None:
    """With and without, in turn."""
    plan = clock.plan
    tasks = plan.numbers.get("costs_tasks", 30_000)
    engines = plan.engines
    calls = plan.times(CALLS)
    with RealCluster(engines) as cluster, RealCluster(engines, ["--journal=off"]) as other:
        sides = {"": Side(cluster), "_off": Side(other)}
        for row, measured in (
            ("costs_tasks", lambda side: side.tasks(tasks)),
            ("costs_acknowledged", lambda side: side.acknowledged(calls)),
            ("costs_call", lambda side: side.blocking(calls)),
            ("costs_task", lambda side: side.round_trip(calls)),
        ):
            for side in sides.values():
                measured(side)  # to warm up
            for _ in range(plan.times(ROUNDS)):
                for suffix, side in sides.items():
                    clock.write(row + suffix, [measured(side)])
        for side in sides.values():
            side.close()


class Held:
    """Engines that do nothing until they are let go, so that a client submits all of its tasks before one runs.

    :ivar count: tasks that were submitted for it.
    """

    def __init__(self, cluster: RealCluster, tc: Any, engines: int) -> None:
        self._tc = tc
        self._engines = engines
        self._gate = cluster.ipython_dir / "gate"
        self.count = 0

    def hold(self) -> None:
        self._gate.unlink(missing_ok=True)
        code = f"import os, time\nwhile not os.path.exists({str(self._gate)!r}): time.sleep(0.001)"
        for _ in range(self._engines):
            self._tc.run(client.Task(code))
        self.count += self._engines
        self._tc.flush()

    def let_go(self, count: int) -> None:
        """Return when there are the results of ``count`` tasks besides these."""
        self._gate.touch()
        while self._tc.queue_status()["succeeded"] < count + self.count:
            time.sleep(0.01)


def window_of(clock: Clock) -> int:
    """Tasks that one client may have submitted whose results it has not got, about."""
    return clock.plan.numbers.get("costs_window", 16_000)


def submitted(count: int) -> subprocess.Popen[str]:
    """A client that has submitted tasks, and gets their results when it is told to."""
    command = [sys.executable, "-P", "-c", SUBMITTER, str(count)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "submitted\n"
    return process


def stopped(clock: Clock) -> None:
    """Tasks whose clients are stopped, so that all results are written; then they get them."""
    with RealCluster(clock.plan.engines) as cluster, contextlib.ExitStack() as ends:
        os.environ["IPYTHONDIR"] = str(cluster.ipython_dir)
        tc = ends.enter_context(client.TaskClient())
        held = Held(cluster, tc, clock.plan.engines)
        held.hold()
        window = window_of(clock)
        clients = clock.plan.numbers.get("costs_clients", CLIENTS)
        count = clients * window
        processes = [ends.enter_context(submitted(window)) for _ in range(clients)]
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        took = seconds(lambda: held.let_go(count))
        clock.write("costs_stopped", [count / took])
        for process in processes:
            process.send_signal(signal.SIGCONT)
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "all right\n"


def restarted(clock: Clock) -> None:
    """A controller that is killed with many finished tasks whose results are kept."""
    count = clock.plan.numbers.get("costs_results", 1_000_000)
    window = window_of(clock)
    rounds = -(-count // window)
    with RealCluster(clock.plan.engines) as cluster:
        os.environ["IPYTHONDIR"] = str(cluster.ipython_dir)
        with client.TaskClient() as tc:
            held = Held(cluster, tc, clock.plan.engines)
            for turn in range(1, rounds + 1):
                held.hold()
                with submitted(window) as process:
                    process.kill()
                held.let_go(turn * window)
            kept = rounds * window
            clock.write("costs_memory", [resident_megabytes(controller(cluster))])
            directory = cluster.ipython_dir / "journal"
            size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
            clock.write("costs_journal", [size / 1e6])
            first = controller(cluster)
            time.sleep(
                1.0
            )  # what was just done may not be written yet; an engine would bring it again
            begin = time.perf_counter()
            os.kill(first, signal.SIGKILL)
            assert tc.queue_status()["succeeded"] >= kept
            clock.write("costs_restart", [time.perf_counter() - begin])
            assert controller(cluster) != first
            clock.write("costs_restart_memory", [resident_megabytes(controller(cluster))])


def controller(cluster: RealCluster) -> int:
    """The process of a cluster's controller."""
    return int((cluster.ipython_dir / "security" / "ipcontroller.lock").read_text())


def _median(function: Callable[[], object], times: int) -> float:
    return statistics.median(seconds(function) for _ in range(times)) * 1e3
