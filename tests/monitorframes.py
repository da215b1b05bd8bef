"""How smoothly the monitor's page is drawn with many engines, and what it costs the cluster: see :func:`measure`.

::

    python -m tests.monitorframes --engines 1000 --tasks 100000
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipython1.testing.processes import private_environ
from tests.browser import browser, frames_per_second, look, screenshot
from tests.lightengines import CODE, controller, light_engines

MONITOR = (sys.executable, "-m", "ipython1.kernel.scripts.ipcluster", "monitor", "--no-browser")


@dataclass(frozen=True)
class Figures:
    """What :func:`measure` found.

    :ivar frames: frames in a second while tasks run.
    :ivar longest: seconds of the longest of them.
    :ivar frames_calls: frames in a second while calls to all engines are made.
    :ivar server: the share of a processor that the monitor's process takes while tasks run.
    :ivar tasks: tasks in a second while the monitor serves a page, to a program that only reads what that gets.
    :ivar tasks_alone: the same without a monitor.
    :ivar call: seconds of a call to all engines while the monitor serves a page.
    :ivar call_alone: the same without a monitor.
    """

    frames: float
    longest: float
    frames_calls: float
    server: float
    tasks: float
    tasks_alone: float
    call: float
    call_alone: float


READER = """
import re, sys, urllib.request
with urllib.request.urlopen(sys.argv[1]) as answer:
    cookie = answer.headers["Set-Cookie"].partition(";")[0]
    path = re.search(r'url=(/[^"]+/)"', answer.read().decode())[1]
address = sys.argv[1].partition("/?")[0] + path + "events"
events = urllib.request.urlopen(urllib.request.Request(address, headers={"Cookie": cookie}))
while events.read1():
    pass
"""
"""Reads what a page gets: the browser's own work would be counted with that of the cluster on the same host."""


@contextmanager
def reader(url: str) -> Iterator[None]:
    """Read what a page gets, in another process."""
    process = subprocess.Popen([sys.executable, "-c", READER, url])
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def monitor(directory: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a monitor; gives its process, and the page's address."""
    process = subprocess.Popen(
        MONITOR, env=private_environ(directory), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def meanwhile(work: Callable[[], float]) -> Callable[[], float]:
    """Do something in a thread; the result waits for it, and gives what it gave."""
    found: list[float] = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()

    def result() -> float:
        thread.join()
        return found[0]

    return result


def measure(engines: int, tasks: int, seconds: float, picture: Path | None = None) -> Figures:
    """Measure it with light engines, which end each task at once.

    :param seconds: for which frames are counted.
    :param picture: a file into which a picture of the page is written.
    """
    import psutil

    from ipython1.kernel import client

    def cpu(pid: int) -> float:
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)

    with ExitStack() as ends:
        directory, _ = ends.enter_context(controller())
        lights = ends.enter_context(light_engines(directory, engines, 4))
        security = directory / "security"
        tc = ends.enter_context(client.TaskClient(str(security / "ipcontroller-tc.furl")))
        mec: Any = client.MultiEngineClient(str(security / "ipcontroller-mec.furl"))
        ends.enter_context(closing(mec))
        for each in lights:
            each.go()
        for each in lights:
            each.expect("registered")

        def run() -> float:
            begun = time.perf_counter()
            tc.barrier(tc.run_many([client.MapTask(abs, (-1,))] * tasks))
            return tasks / (time.perf_counter() - begun)

        def call() -> float:
            found = []
            until = time.perf_counter() + seconds
            while time.perf_counter() < until:
                begun = time.perf_counter()
                mec.execute(CODE)
                found.append(time.perf_counter() - begun)
            return statistics.median(found)

        run()
        tasks_alone, call_alone = run(), call()
        process, url = ends.enter_context(monitor(directory))
        with reader(url):
            used, begun = cpu(process.pid), time.perf_counter()
            with_page = run()
            server = (cpu(process.pid) - used) / (time.perf_counter() - begun)
            call_with_page = call()
        driver = ends.enter_context(browser())
        look(driver, 1440, 1400)
        driver.get(url)
        running = meanwhile(run)
        rate = (
            "return parseFloat(document.getElementById('t-rate').innerText.replace(',', '')) || 0"
        )
        while driver.execute_script(rate) < 100:
            time.sleep(0.1)
        frames, longest = frames_per_second(driver, seconds)
        if picture is not None:
            screenshot(driver, picture)
        running()
        calling = meanwhile(call)
        frames_calls, _ = frames_per_second(driver, seconds)
        calling()
        return Figures(
            *(frames, longest, frames_calls, server),
            *(with_page, tasks_alone, call_with_page, call_alone),
        )


def main() -> int:
    """Measure, and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=int, default=1000)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    found = measure(given.engines, given.tasks, given.seconds, given.picture)
    print(f"{given.engines} engines, {given.tasks} tasks")
    print(
        f"frames in a second: {found.frames:.0f} while tasks run (the longest took "
        f"{found.longest * 1000:.0f} ms), {found.frames_calls:.0f} while calls are made"
    )
    print(f"the monitor's process: {found.server:.1%} of a processor")
    print(f"tasks in a second: {found.tasks:.0f}, without a monitor {found.tasks_alone:.0f}")
    print(f"a call to all: {1000 * found.call:.0f} ms, without {1000 * found.call_alone:.0f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
