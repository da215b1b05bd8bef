"""Gateways: what a controller of controllers costs, beside one controller with the same engines.

``python -m tests.gateways`` registers 1,000 light engines (see :mod:`tests.lightengines`) with one controller, then the
same number with two gateways, and measures both alike: the time until all are registered, calls to all, and tasks.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lightengines import CODE, CONTROLLER, LightProcess, controller, light_engines


@dataclass(frozen=True)
class Figures:
    """What :func:`measure` found.

    :ivar gateways: how many there were; 0 for one controller.
    :ivar registered: seconds from the first connection attempt until all engines were registered.
    :ivar broadcast: seconds of each blocking call to all engines.
    :ivar tasks: tasks in a second, submitted one by one and all results fetched.
    :ivar cpu: seconds of processor time of the registration, one call, and 1,000 tasks: of the upstream, and of all
        gateways together.
    """

    gateways: int
    engines: int
    registered: float
    broadcast: tuple[float, ...]
    tasks: tuple[float, ...]
    cpu: dict[str, tuple[float, float]]

    def __str__(self) -> str:
        name = f"{self.gateways} gateways" if self.gateways else "one controller"
        lines = [
            f"{name}, {self.engines} engines: registered in {self.registered:.2f} s, "
            f"broadcast {1000 * statistics.median(self.broadcast):.0f} ms (best {1000 * min(self.broadcast):.0f}), "
            f"{statistics.median(self.tasks):,.0f} tasks/s (best {max(self.tasks):,.0f})"
        ]
        for what, (upstream, gateways) in self.cpu.items():
            lines.append(f"  CPU of {what}: {upstream:.3f} s upstream, {gateways:.3f} s gateways")
        return "\n".join(lines)


@contextmanager
def tree(gateways: int) -> Iterator[tuple[Path, list[Path], list[int]]]:
    """Run a controller, and gateways to it: gives its directory, theirs (its own if there are none), and all pids."""
    with ExitStack() as stack:
        top, process = stack.enter_context(controller())
        pids, below = [process.pid], []
        for _ in range(gateways):
            furl = top / "security" / "ipcontroller-engine.furl"
            started = stack.enter_context(controller((*CONTROLLER, f"--upstream={furl}")))
            below.append(started[0])
            pids.append(started[1].pid)
        yield top, below or [top], pids


def _cpu(pids: Sequence[int]) -> tuple[float, float]:
    import psutil

    times = [psutil.Process(pid).cpu_times() for pid in pids]
    each = [one.user + one.system for one in times]
    return each[0], sum(each[1:])


def measure(
    gateways: int,
    engines: int = 1000,
    processes: int = 4,
    calls: int = 15,
    tasks: int = 20_000,
    rounds: int = 3,
) -> Figures:
    """Measure a tree of controllers, or one controller."""
    from ipython1.kernel import client

    with ExitStack() as stack:
        top, below, pids = stack.enter_context(tree(gateways))
        lights: list[LightProcess] = []
        for directory in below:
            share = (engines // len(below), processes // len(below))
            lights += stack.enter_context(light_engines(directory, *share))
        security = top / "security"
        mec: Any = stack.enter_context(
            closing(client.MultiEngineClient(str(security / "ipcontroller-mec.furl")))
        )
        tc: Any = stack.enter_context(
            closing(client.TaskClient(str(security / "ipcontroller-tc.furl")))
        )
        cpu = {}

        def spent(what: str, since: tuple[float, float], parts: float = 1.0) -> None:
            now = _cpu(pids)
            cpu[what] = ((now[0] - since[0]) / parts, (now[1] - since[1]) / parts)

        used, begun = _cpu(pids), time.perf_counter()
        for each in lights:
            each.go()
        while len(mec.get_ids()) < engines:
            time.sleep(0.02)
        registered = time.perf_counter() - begun
        spent("registration", used)
        for each in lights:
            each.expect("registered")
        broadcast = []
        for _ in range(2):
            mec.execute(CODE)
        used = _cpu(pids)
        for _ in range(calls):
            begun = time.perf_counter()
            assert len(mec.execute(CODE)) == engines
            broadcast.append(time.perf_counter() - begun)
        spent("one call to all", used, calls)
        _run_tasks(client, tc, tasks // 4)
        used = _cpu(pids)
        rates = [_run_tasks(client, tc, tasks) for _ in range(rounds)]
        spent("1,000 tasks", used, rounds * tasks / 1000)
        return Figures(gateways, engines, registered, tuple(broadcast), tuple(rates), cpu)


def _run_tasks(client: Any, tc: Any, number: int) -> float:
    """Run tasks; return how many in a second."""
    begun = time.perf_counter()
    ids = [tc.run(client.StringTask(CODE)) for _ in range(number)]
    tc.barrier(ids)
    rate = number / (time.perf_counter() - begun)
    tc.clear()
    return rate


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure gateways beside one controller.")
    parser.add_argument("--gateways", type=int, default=2)
    parser.add_argument("--engines", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args(argv)
    for _ in range(given.rounds):
        for gateways in (0, given.gateways):
            print(measure(gateways, given.engines), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
