"""A cluster whose engines come and go with its tasks; prints what it saw."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from ipython1.kernel.client import Cluster

LIMIT = 50.0
LOG = Path(sys.argv[1])
GATES = [LOG.with_name(f"gate{number}") for number in range(2)]


def until(condition: Callable[[], object]) -> None:
    """Wait for something that the cluster does."""
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"it did not happen in time: {cluster.status()}")
        time.sleep(0.02)


def work(number: int, gate: str, log: str) -> int:
    """Note that it ran, and wait until a file is there."""
    import os
    import time

    with open(log, "a") as file:
        file.write(f"{number}\n")
    while not os.path.exists(gate):
        time.sleep(0.02)
    return number


with Cluster(n=0) as cluster:
    cluster.adapt(0, 3, idle=1, target_duration=0.01)
    tc = cluster.task()
    executor = tc.executor()
    futures = [executor.submit(work, each, str(GATES[0]), str(LOG)) for each in range(12)]
    until(lambda: len(cluster.ids) == 3)
    GATES[0].touch()
    print("results", [each.result() for each in futures] == list(range(12)))
    until(lambda: not cluster.ids)
    print("from 0 to 3 to 0")

    # What somebody pushed stays, with its engine.
    future = executor.submit(work, 12, str(GATES[0]), str(LOG))
    cluster.adapt(1, 3, idle=1, target_duration=0.01)
    until(lambda: len(cluster.ids) == 1)
    mec = cluster.multiengine()
    (holder,) = cluster.ids
    mec.push({"a": 17}, targets=holder)
    cluster.adapt(0, 3, idle=1, target_duration=0.01)
    futures = [tc.submit(work, each, str(GATES[1]), str(LOG)) for each in range(13, 21)]
    until(lambda: len(cluster.ids) == 3)

    # Engines that are too many end their tasks first.
    cluster.adapt(0, 2, idle=1, target_duration=0.01)
    GATES[1].touch()
    until(lambda: len(cluster.ids) <= 2)
    print("results", [each.result() for each in futures] == list(range(13, 21)))
    print("ran once", sorted(map(int, LOG.read_text().split())) == list(range(21)))
    until(lambda: cluster.ids == [holder])
    print("the data", mec.pull("a", targets=holder))
    cluster.adapt(0, 2, idle=1, keep_data=False)
    until(lambda: not cluster.ids)
    print("nothing is kept")

    # No more changes.
    cluster.adapt(None)
    future = tc.submit(work, 21, str(GATES[0]), str(LOG))
    cluster.add_engines(1)
    print("by hand", future.result(), len(cluster.ids), cluster.status().scaling)
