"""A million tasks from one client: how fast, and how much memory."""

from __future__ import annotations

import os

from tests.benchmarks.meters import resident_megabytes
from tests.benchmarks.workload import Clock, seconds


def measure(clock: Clock) -> None:
    from ipython1.kernel import client
    from ipython1.testing import RealCluster

    number = clock.plan.numbers.get("million", 1_000_000)
    with RealCluster(clock.plan.engines) as cluster:
        os.environ["IPYTHONDIR"] = str(cluster.ipython_dir)
        controller = int((cluster.ipython_dir / "security" / "ipcontroller.lock").read_text())
        with client.TaskClient() as tc:
            clock.write("million_before", [resident_megabytes(controller)])

            def all_of_it() -> None:
                ids = [tc.run(client.MapTask(abs, (-n,))) for n in range(number)]
                tc.barrier(ids)
                assert all(tc.get_task_result(each).result == n for n, each in enumerate(ids))

            clock.write("million", [number / seconds(all_of_it)])
            clock.write("million_after", [resident_megabytes(controller)])
            clock.write("million_client", [resident_megabytes(os.getpid())])
