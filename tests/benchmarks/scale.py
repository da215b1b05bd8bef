"""Growth: many light engines on one controller, 64 real ones, and many tasks, results and clients."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing

from tests.benchmarks.workload import Clock, seconds

PROCESSES = 4
"""That hold the light engines."""

CLIENTS = 100

TASKS = 5_000
"""Of one measurement."""


def measure(clock: Clock) -> None:
    """Light engines in growing numbers, then real ones."""
    for engines in clock.plan.lights:
        measure_scale(clock, engines, light_processes(clock))
    measure_real(clock, clock.plan.numbers.get("real_engines", 64))
    measure_growth(clock)


def light_processes(clock: Clock) -> int:
    """The number of processes that hold the light engines."""
    return clock.plan.numbers.get("light_processes", PROCESSES)


def measure_scale(clock: Clock, engines: int, processes: int) -> None:
    """Engines that are TLS connections with the kernel's own link, many in a process."""
    from tests.lightengines import measure as measure_light

    found = measure_light(engines, processes)
    clock.write(
        "scale_register",
        [found.registered],
        x=engines,
        cpu={
            "controller": found.controller_cpu * 1e6 / engines,
            "engines": found.engines_cpu * 1e6 / engines,
        },
    )
    clock.write("scale_memory", [found.memory / 1e3], x=engines)
    clock.write(
        "scale_broadcast",
        [each * 1e3 for each in found.broadcast],
        x=engines,
        cpu={
            "client": found.broadcast_client_cpu * 1e6,
            "controller": found.broadcast_controller_cpu * 1e6,
        },
    )


def measure_real(clock: Clock, engines: int) -> None:
    """Engines that are processes."""
    from ipython1.kernel import client
    from ipython1.testing import RealCluster

    cluster = RealCluster(engines)
    try:
        clock.write("scale_real_start", [seconds(cluster.start)])
        os.environ["IPYTHONDIR"] = str(cluster.ipython_dir)
        with closing(client.MultiEngineClient()) as mec:
            mec.execute("a=1")
            calls = [seconds(lambda: mec.execute("a=1")) * 1e3 for _ in range(clock.plan.times(20))]
        clock.write("scale_real_call", calls)
    finally:
        cluster.stop()


def measure_growth(clock: Clock) -> None:
    """What becomes slower when there is more of something."""
    from ipython1.kernel import client
    from ipython1.testing import RealCluster

    most = clock.plan.numbers.get("growth", 100_000)
    with RealCluster(clock.plan.engines) as cluster, ExitStack() as ends:
        os.environ["IPYTHONDIR"] = str(cluster.ipython_dir)
        tc = ends.enter_context(client.TaskClient())
        task = client.Task("pass")

        def rate(count: int) -> float:
            """Tasks per second, when they are submitted one by one and every result is fetched."""

            def all_of_them() -> None:
                ids = [tc.run(task) for _ in range(count)]
                tc.barrier(ids)
                for each in ids:
                    tc.get_task_result(each)

            return count / seconds(all_of_them)

        rate(clock.plan.times(TASKS))
        for count in (most // 100, most // 10, most):
            clock.write("scale_queue", [rate(count)], x=count)
            tc.clear()
        kept = 0
        for count in (most // 100, most // 10, most):
            tc.barrier(tc.run_many([task] * (count - kept)))
            kept = count
            clock.write("scale_results", [rate(clock.plan.times(TASKS))], x=kept)
        tc.clear()
        _clients(clock, ends)


def _clients(clock: Clock, ends: ExitStack) -> None:
    """A call while other clients are connected, each with a connection of its own."""
    from ipython1.kernel import client

    clients = []
    most = clock.plan.numbers.get("scale_clients", CLIENTS)
    for count in (1, most // 10, most):
        while len(clients) < count:
            clients.append(ends.enter_context(closing(client.MultiEngineClient())))
        mec = clients[0]
        mec.execute("a=1", targets=0)
        calls = [
            seconds(lambda: mec.execute("a=1", targets=0)) * 1e3
            for _ in range(clock.plan.times(100))
        ]
        clock.write("scale_clients", calls, x=count)
