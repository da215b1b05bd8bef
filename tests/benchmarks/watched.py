"""What it costs to be looked at: four engines while a monitor asks ten times in a second, and many light ones."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from ipython1.kernel import client
from ipython1.testing import RealCluster
from tests.benchmarks.scale import light_processes
from tests.benchmarks.workload import Clock, seconds

ROUNDS = 5

IDLE_LOOKS = 50
"""Looks at light engines while nothing happens."""

FORGOTTEN = 10.5
"""Seconds after the last question, after which nothing is gathered."""

VIEWER = """
import time
from ipython1.kernel import client
mark = 0
with client.MonitorClient() as monitor:
    while True:
        mark = monitor.news(mark).mark
        print(mark, flush=True)
        time.sleep(0.1)
"""


@contextlib.contextmanager
def viewer() -> Iterator[None]:
    """Somebody looks, from another process."""
    command = [sys.executable, "-P", "-c", VIEWER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield
        finally:
            process.kill()


def measure(clock: Clock) -> None:
    real(clock)
    for engines in clock.plan.lights:
        light(clock, engines)


def real(clock: Clock) -> None:
    """Without and with somebody who looks, in turn."""
    tasks = clock.plan.numbers.get("costs_tasks", 30_000)
    with (
        RealCluster(clock.plan.engines, ["--journal=off"]) as cluster,
        contextlib.ExitStack() as ends,
    ):
        os.environ["IPYTHONDIR"] = str(cluster.ipython_dir)
        mec = ends.enter_context(contextlib.closing(client.MultiEngineClient()))
        tc = ends.enter_context(client.TaskClient())
        task = client.Task("pass")

        def all_of_them() -> None:
            ids = [tc.run(task) for _ in range(tasks)]
            tc.barrier(ids)
            for each in ids:
                tc.get_task_result(each)

        def both(suffix: str) -> None:
            clock.write("watched_tasks" + suffix, [tasks / seconds(all_of_them)])
            tc.clear()
            calls = [
                seconds(lambda: mec.execute("a = 1", targets=0))
                for _ in range(clock.plan.times(300))
            ]
            clock.write("watched_call" + suffix, [statistics.median(calls) * 1e3])

        all_of_them()  # to warm up
        for turn in range(clock.plan.times(ROUNDS)):
            if turn:
                time.sleep(FORGOTTEN)
            both("_alone")
            with viewer():
                both("")


def light(clock: Clock, engines: int) -> None:
    """Many light engines with many tasks."""
    from tests.lightnews import measure as measure_light

    found = measure_light(
        engines,
        light_processes(clock),
        clock.plan.numbers.get("watched_light", 100_000),
        clock.plan.times(IDLE_LOOKS),
    )
    clock.write("watched_look", [each * 1e3 for each in found.looks], x=engines)
    clock.write("watched_size", [each / 1e3 for each in found.sizes], x=engines)
    clock.write("watched_whole", [found.whole * 1e3], x=engines)
    clock.write("watched_cpu", [max(found.cpu, 0.0001) * 100], x=engines)
    clock.write("watched_light", [found.tasks], x=engines)
    clock.write("watched_light_alone", [found.tasks_alone], x=engines)
