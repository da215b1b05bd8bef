"""What every contestant does, and the clock.

Peers import this in environments that hold nothing of this project: standard library and NumPy only.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from tests.benchmarks import meters, work
from tests.benchmarks.rows import ROWS

BEGUN = "IPYTHON1_BENCHMARK_BEGUN"
"""The variable with the time at which a contestant's program was started, of the monotonic clock."""

DIGITS = 5
"""Significant digits of a value that is written down."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one program measures.

    :ivar output: the file that it writes its samples to, a line of JSON each.
    :ivar mark: in the environment of all its processes.
    :ivar parts: names of parts.
    :ivar size: bytes of the large object.
    :ivar share: of the usual number of repetitions.
    :ivar sizes: bytes of the objects of ``push_size`` and ``pull_size``.
    :ivar lengths: of the tasks of ``efficiency``, in seconds.
    :ivar starts: numbers of engines of ``start_engines``.
    :ivar lights: numbers of light engines of the part ``scale``.
    :ivar numbers: of other things, by name; those of a part that says so.
    """

    output: str
    mark: str
    parts: Sequence[str]
    engines: int = 4
    size: int = 64 * 2**20
    share: float = 1.0
    sizes: Sequence[int] = (2**10, 2**14, 2**18, 2**22, 2**26, 2**28)
    lengths: Sequence[float] = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
    starts: Sequence[int] = (1, 2, 4, 8, 16, 32)
    lights: Sequence[int] = (100, 300, 1000)
    numbers: Mapping[str, int] = field(default_factory=dict)

    def times(self, usual: int) -> int:
        return max(1, round(usual * self.share))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        return cls(**json.loads(text))


class Contestant:
    """How one system does each piece of work in its own best usual way; what it cannot do stays as it is here.

    Every method returns when the work is done.  Its docstring says how the system does it.

    :ivar name: the system's, for tables.
    :ivar packages: what pip installs for it.
    :ivar note: what a reader must know to compare its figures.
    :ivar task_count: no-op tasks of one measurement, which is to last about a second.
    :ivar launched: whether the start of its program is a part of its start.
    """

    name = ""
    packages: Sequence[str] = ()
    note = ""
    task_count = 1000
    launched = False

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def version(self) -> str:
        raise NotImplementedError

    def load(self) -> None:
        """Import the system, so that its start is without that."""

    def start(self, engines: int) -> None:
        """Start everything; return when each engine has answered."""
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def roles(self) -> dict[str, list[int]]:
        """Its processes by what they are; by default the client and all that descends from it."""
        pids = meters.descendants(os.getpid())
        return {"client": [os.getpid()], "workers": sorted(pids)}

    def call_one(self) -> None:
        """Call one engine, and wait."""

    def call_all(self) -> None:
        """Call all engines, and wait."""

    def no_ops(self, count: int) -> None:
        """Submit tasks that do nothing one by one, and fetch every result."""

    def sleeps(self, length: float, count: int) -> None:
        """The same with tasks that sleep for some seconds."""

    def task_one(self) -> None:
        """Run one task, and wait for its result."""

    def push_one(self, value: Any) -> None:
        """Give an object to one engine, which keeps it."""

    def pull_one(self) -> Any:
        """Get it back."""

    def push_all(self, value: Any) -> None:
        """Give an object to all engines."""

    def scatter(self, array: Any) -> None:
        """Give every engine a part of an array."""

    def gather(self) -> Any:
        """Get the array back, as one."""

    def network_push_one(self, value: Any) -> None:
        """As ``push_one``, by the network over two hops."""

    def network_pull_one(self) -> Any:
        """As ``pull_one``, by the network over two hops."""

    def network_push_all(self, value: Any) -> None:
        """As ``push_all``, by the network over two hops."""

    def network_scatter(self, array: Any) -> None:
        """As ``scatter``, by the network over two hops."""

    def network_gather(self) -> Any:
        """As ``gather``, by the network over two hops."""

    def more(self, clock: Clock) -> None:
        """Measure rows that only this contestant has, while it runs."""

    def apart(self, clock: Clock) -> None:
        """Measure rows that only this contestant has, when it is stopped."""

    def can(self, *names: str) -> bool:
        """Whether it has methods for these."""
        mine = type(self)
        return all(getattr(mine, name) is not getattr(Contestant, name) for name in names)


class Clock:
    """Measures actions, and writes what they took to a file.

    :param roles: gives the processes by what they are.
    """

    def __init__(self, plan: Plan, roles: Callable[[], Mapping[str, Sequence[int]]]) -> None:
        self.plan = plan
        self._roles = roles

    def measure(
        self,
        row: str,
        action: Callable[[], object],
        usual: int,
        *,
        amount: float = 1.0,
        x: float | None = None,
        warm: int = 1,
    ) -> None:
        """Do something several times, after some times that do not count.

        :param usual: how many times, of a plan with full shares.
        :param amount: what one of them achieves, in the row's unit without its ``/s``.
        """
        times = self.plan.times(usual)
        for _ in range(self.plan.times(warm) if warm else 0):
            action()
        meter = meters.Meter(self._roles())
        taken = [seconds(action) for _ in range(times)]
        used, instructions = meter.stop(times)
        if ROWS[row].unit == "/s":
            used = {role: value / amount for role, value in used.items()}
            instructions = {role: value / amount for role, value in instructions.items()}
        values = [in_unit(ROWS[row].unit, each, amount) for each in taken]
        self.write(row, values, x=x, cpu=used, instructions=instructions)

    def write(
        self,
        row: str,
        values: Sequence[float],
        *,
        x: float | None = None,
        cpu: Mapping[str, float] | None = None,
        instructions: Mapping[str, float] | None = None,
    ) -> None:
        """Write values, in the row's unit."""
        assert row in ROWS, row
        self.tell(
            {
                "row": row,
                "x": x,
                "values": [brief(value) for value in values],
                "cpu": {role: brief(value) for role, value in (cpu or {}).items()},
                "instructions": {k: brief(value) for k, value in (instructions or {}).items()},
            }
        )

    def tell(self, what: Mapping[str, Any]) -> None:
        with open(self.plan.output, "a") as file:
            file.write(json.dumps(what) + "\n")


def seconds(action: Callable[[], object]) -> float:
    """The duration of an action."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def in_unit(unit: str, taken: float, amount: float) -> float:
    """What it means for a row that ``amount`` took so many seconds."""
    if unit.endswith("/s"):
        return amount / taken
    if unit == "%":
        return 100 * amount / taken
    return taken * {"s": 1.0, "ms": 1e3, "us": 1e6}[unit] / amount


def brief(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def run(contestant: Contestant) -> None:
    """Measure all rows of the plan's parts that a contestant can do."""
    plan = contestant.plan
    clock = Clock(plan, contestant.roles)
    clock.tell({"version": contestant.version()})
    inside = [part for part in plan.parts if part in ("calls", "data", "tasks")]
    if "startup" in plan.parts or inside:
        contestant.load()
        begun = float(os.environ[BEGUN]) if contestant.launched else time.monotonic()
        contestant.start(plan.engines)
        took = time.monotonic() - begun
        try:
            if "startup" in plan.parts:
                clock.write("start", [took])
            for part in inside:
                {"calls": calls, "data": data, "tasks": tasks}[part](contestant, clock)
            contestant.more(clock)
        finally:
            contestant.stop()
    contestant.apart(clock)


def calls(contestant: Contestant, clock: Clock) -> None:
    if contestant.can("call_one"):
        clock.measure("call_one", contestant.call_one, 300, warm=20)
    if contestant.can("call_all"):
        clock.measure("call_all", contestant.call_all, 150, warm=10)


def data(contestant: Contestant, clock: Clock) -> None:
    for prefix in ("", "network_"):
        objects(contestant, clock, prefix)
    if contestant.can("push_one"):
        sizes(contestant, clock)


def objects(contestant: Contestant, clock: Clock, prefix: str) -> None:
    size = clock.plan.size
    array = work.make("array", size)
    megabytes = size / 2**20

    def method(name: str) -> Callable[..., Any]:
        return getattr(contestant, prefix + name)

    def there(name: str, value: Any) -> None:
        clock.measure(prefix + name, lambda: method(name)(value), 7, amount=megabytes, warm=3)

    def back(name: str, value: Any) -> None:
        check(method(name)(), value)
        clock.measure(prefix + name, method(name), 7, amount=megabytes, warm=3)

    if contestant.can(prefix + "push_one"):
        there("push_one", array)
        if contestant.can(prefix + "pull_one"):
            back("pull_one", array)
    if contestant.can(prefix + "push_all"):
        action = method("push_all")
        clock.measure(prefix + "push_all", lambda: action(array), 5, warm=3)
    if contestant.can(prefix + "scatter"):
        there("scatter", array)
        if contestant.can(prefix + "gather"):
            back("gather", array)
    if not prefix and contestant.can("push_one", "pull_one"):
        kinds(contestant, clock)


def kinds(contestant: Contestant, clock: Clock) -> None:
    size = clock.plan.size
    for kind in ("frame", "list", "bytes"):
        value = work.make(kind, size)
        there = partial(contestant.push_one, value)
        clock.measure(f"push_{kind}", there, 5, amount=size / 2**20, warm=2)
        check(contestant.pull_one(), value)
        clock.measure(f"pull_{kind}", contestant.pull_one, 5, amount=size / 2**20, warm=2)


def sizes(contestant: Contestant, clock: Clock) -> None:
    for size in clock.plan.sizes:
        value = work.make("array", size)
        times = max(1 if size > 2**26 else 2, min(100, 2**25 // size))
        clock.measure(
            "push_size", lambda: contestant.push_one(value), times, amount=size / 2**20, x=size
        )
        if contestant.can("pull_one"):
            clock.measure("pull_size", contestant.pull_one, times, amount=size / 2**20, x=size)


def tasks(contestant: Contestant, clock: Clock) -> None:
    plan = clock.plan
    if contestant.can("task_one"):
        clock.measure("task_one", contestant.task_one, 200, warm=20)
    if contestant.can("no_ops"):
        count = plan.times(contestant.task_count)
        clock.measure("tasks", lambda: contestant.no_ops(count), 2, amount=count)
    if contestant.can("sleeps"):
        for length in plan.lengths:
            # Half a second of work, unless the system would need much longer for so many tasks.
            count = round(0.5 * plan.share * plan.engines / length)
            count = max(plan.engines, min(count, plan.times(contestant.task_count)))
            ideal = count * length / plan.engines
            clock.measure(
                "efficiency",
                lambda: contestant.sleeps(length, count),
                1,
                warm=0,
                amount=ideal,
                x=length * 1e3,
            )
        count = plan.times(400)
        clock.measure("tasks_10ms", lambda: contestant.sleeps(0.01, count), 1)


def check(got: Any, expected: Any) -> None:
    """
    :raises AssertionError: if something else came than what was sent.
    """
    if not work.same(got, expected):
        raise AssertionError("other data came back")
