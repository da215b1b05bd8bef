"""Many light engines on one controller, and 64 real ones."""

from __future__ import annotations

import os
from contextlib import closing

from tests.benchmarks.workload import Clock, seconds

PROCESSES = 4
"""Processes that hold the light engines."""


def measure(clock: Clock) -> None:
    """Light engines in growing numbers, then real ones."""
    for engines in clock.plan.lights:
        measure_scale(clock, engines, PROCESSES)
    measure_real(clock, clock.plan.numbers.get("real_engines", 64))


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
