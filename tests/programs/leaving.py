"""Tasks without retries while their engines leave, are removed and restarted, and the controller is killed.

What it prints is what the test expects; ``DIRECTORY`` takes notes of what runs.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ipython1.kernel.client import Cluster, MultiEngineClient, TaskClient

DIRECTORY = Path(sys.argv[2]) if len(sys.argv) > 2 else Path()


def square(number: int) -> int:
    """A task of a moment."""
    time.sleep(0.03)
    return number * number


def gated(name: str, directory: str) -> str:
    """A task that says that it runs, and then waits until it may end."""
    folder = Path(directory)
    with (folder / f"{name}.begun").open("a") as file:
        file.write(f"{os.getpid()}\n")
    while not (folder / f"{name}.gate").exists():
        time.sleep(0.01)
    return name


def wait_for(condition: Any) -> None:
    """Wait until something is so."""
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it does not come")
        time.sleep(0.02)


def begun(name: str) -> list[int]:
    """The processes in which a gated task has begun."""
    file = DIRECTORY / f"{name}.begun"
    return list(map(int, file.read_text().split())) if file.exists() else []


def stirred() -> None:
    """A cluster whose engines are changed under a map."""
    with Cluster(n=3) as cluster:
        results = cluster.task().map(square, range(300), block=False)
        wait_for(lambda: results.progress[0] > 20)
        cluster.restart_engine(0, finish=0)
        cluster.remove_engines(1, finish=0)
        controller = cluster.status().controller
        assert controller is not None
        os.kill(controller.pid, signal.SIGKILL)
        cluster.add_engines(1)
        print("results", list(results) == [number * number for number in range(300)])


def leaving() -> None:
    """Engines by hand that are told to leave by SIGTERM."""
    mec, tc = MultiEngineClient(), TaskClient()
    mec.wait_for_engines(2, timeout=60)
    folder = str(DIRECTORY)
    finishes = tc.submit(gated, "finishes", folder)
    wait_for(lambda: begun("finishes"))
    [leaver] = begun("finishes")
    os.kill(leaver, signal.SIGTERM)
    others = tc.map(square, range(50))
    print("others", others == [number * number for number in range(50)])
    (DIRECTORY / "finishes.gate").touch()
    print(finishes.result(60), len(begun("finishes")))
    wait_for(lambda: len(mec.get_ids()) == 1)
    cut = tc.submit(gated, "cut", folder)
    wait_for(lambda: begun("cut"))
    [second] = begun("cut")

    def is_gone() -> bool:
        """Whether it has ended; it is told again, as signals that come at once count as one."""
        with suppress(ProcessLookupError):
            os.kill(second, signal.SIGTERM)
        return not mec.get_ids()

    wait_for(is_gone)
    print("left", leaver != second)
    (DIRECTORY / "cut.gate").touch()
    mec.wait_for_engines(1, timeout=60)
    print(cut.result(60), len(begun("cut")))


if __name__ == "__main__":
    {"stirred": stirred, "leaving": leaving}[sys.argv[1]]()
