"""What it costs to look at a controller with many engines and tasks: see :func:`measure`."""

from __future__ import annotations

import statistics
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass

from ipython1.kernel.wire import messages
from ipython1.kernel.wire.monitoring import News, pack_news
from tests.lightengines import controller, light_engines

PAUSE = 0.1
"""Seconds between two looks."""


@dataclass(frozen=True)
class Figures:
    """What :func:`measure` found.

    :ivar first: seconds of the first look, which has everything.
    :ivar looks: seconds of each of the others, while tasks run.
    :ivar sizes: bytes of their answers.
    :ivar whole: seconds of a look that has everything, at the end.
    :ivar whole_size: bytes of that.
    :ivar cpu: the share of a processor that each of those who look takes in the controller while nothing happens.
    :ivar tasks: tasks in a second while they looked.
    :ivar tasks_alone: the same before.
    """

    first: float
    looks: tuple[float, ...]
    sizes: tuple[int, ...]
    whole: float
    whole_size: int
    cpu: float
    tasks: float
    tasks_alone: float

    @property
    def median(self) -> float:
        """The median of :attr:`looks`."""
        return statistics.median(self.looks)

    @property
    def size(self) -> float:
        """The median of :attr:`sizes`."""
        return statistics.median(self.sizes)


def _size(news: News) -> int:
    return len(messages.pack_json(pack_news(news)))


def measure(
    engines: int = 1000, processes: int = 4, tasks: int = 100_000, idle_looks: int = 50
) -> Figures:
    """Look at light engines that have tasks.

    :param idle_looks: at the end, while nothing happens.
    """
    import psutil

    from ipython1.kernel import client

    with ExitStack() as ends:
        directory, process = ends.enter_context(controller())
        lights = ends.enter_context(light_engines(directory, engines, processes))
        security = directory / "security"
        monitor = client.MonitorClient(str(security / "ipcontroller-monitor.furl"))
        ends.enter_context(closing(monitor))
        tc = ends.enter_context(client.TaskClient(str(security / "ipcontroller-tc.furl")))
        for each in lights:
            each.go()
        for each in lights:
            each.expect("registered")

        def run() -> float:
            begun = time.perf_counter()
            tc.barrier(tc.run_many([client.MapTask(abs, (-1,))] * tasks))
            return tasks / (time.perf_counter() - begun)

        def cpu() -> float:
            times = psutil.Process(process.pid).cpu_times()
            return float(times.user + times.system)

        run()
        alone = run()
        begun = time.perf_counter()
        mark = monitor.news().mark
        first = time.perf_counter() - begun
        watched: list[float] = []
        thread = threading.Thread(target=lambda: watched.append(run()))
        thread.start()
        looks, sizes = [], []
        while thread.is_alive():
            begun = time.perf_counter()
            news = monitor.news(mark)
            looks.append(time.perf_counter() - begun)
            mark = news.mark
            sizes.append(_size(news))
            time.sleep(PAUSE)
        thread.join()
        begun = time.perf_counter()
        news = monitor.news()
        whole = time.perf_counter() - begun
        used = cpu()
        begun = time.perf_counter()
        for _ in range(idle_looks):
            mark = monitor.news(mark).mark
            time.sleep(PAUSE)
        share = (cpu() - used) / (time.perf_counter() - begun)
        return Figures(
            first, tuple(looks), tuple(sizes), whole, _size(news), share, watched[0], alone
        )
