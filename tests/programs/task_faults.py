"""Broken, poisonous and large tasks, and other clients: each gets the right error, and nobody else is harmed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ipython1.kernel import client
from ipython1.kernel.taskobjects import BaseTask


def raises(
    kind: type[BaseException], text: str, call: Callable[..., Any], *args: Any, **kwargs: Any
) -> BaseException:
    begun = time.monotonic()
    try:
        call(*args, **kwargs)
    except kind as problem:
        assert text in str(problem), f"{text!r} is not in {problem!s}"
        assert time.monotonic() - begun < 10, "the error came late"
        return problem
    raise AssertionError(f"{kind.__name__} was not raised")


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


tc = client.TaskClient()
mec = client.MultiEngineClient()
Task, MapTask = client.Task, client.MapTask

# -- wrong arguments
raises(TypeError, "expected a task", tc.run, "a = 1")
raises(TypeError, "must be code", Task, 5)
raises(TypeError, "retries", lambda: Task("a", retries="2"))
raises(ValueError, "retries", lambda: Task("a", retries=-1))
raises(TypeError, "retries", lambda: Task("a", retries=[]))
raises(ValueError, "timeout", lambda: Task("a", timeout=0))
raises(TypeError, "depend", lambda: Task("a", depend=5))
raises(ValueError, "'not a name'", tc.run, Task("a", pull="not a name"))
raises(TypeError, "must be a function", MapTask, 5)
raises(TypeError, "must be a task", lambda: Task("a", recovery_task="b"))
raises(TypeError, "task id", tc.get_task_result, "0")
raises(TypeError, "a list of task ids", tc.barrier, None)
raises(IndexError, "no task 99999", tc.get_task_result, 99999)
raises(IndexError, "no task 99999", tc.barrier, [99999])
raises(IndexError, "no task", tc.get_task_result, -1)
raises(TypeError, "at least one sequence", tc.map, len)
assert tc.map(len, []) == []
assert tc.queue_status() == {"scheduled": 0, "pending": 0, "succeeded": 0, "failed": 0}

# -- objects that cannot be sent
raises(client.SerializationError, "lock", tc.run, Task("a = 1", push={"a": threading.Lock()}))
lock = tc.run(Task("import threading; a = threading.Lock()", pull="a"), block=True)
assert isinstance(lock.failure, client.SerializationError), lock
assert isinstance(tc.run(MapTask(threading.Lock), block=True).failure, client.SerializationError)
missing = tc.run(Task("print('was here')", pull="nothing"), block=True)
assert isinstance(missing.failure, client.NotDefined) and "nothing" in str(missing.failure)
assert missing.stdout == "was here\n"


class Odd(Exception):
    """Takes one argument more than its args contain."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number


def raise_odd() -> None:
    raise Odd(3, "odd")


odd = tc.run(MapTask(raise_odd), block=True).failure
assert isinstance(odd, Odd) and odd.number == 3, odd


class UnreadableHere:
    """Can be created on an engine, but not in this client."""

    def __reduce__(self) -> Any:
        return _only_on_engines, (os.getpid(),)


def _only_on_engines(pid: int) -> Any:
    if os.getpid() != pid:
        raise ValueError("this cannot be rebuilt here")
    return UnreadableHere()


def make_unreadable() -> Any:
    return UnreadableHere()


unreadable = tc.run(MapTask(make_unreadable), block=True)
assert unreadable.failure is not None and "cannot be rebuilt here" in str(unreadable.failure)

# -- output comes with each result
loud = tc.run(Task("import sys; print('out'); sys.stderr.write('err')"), block=True)
assert (loud.stdout, loud.stderr) == ("out\n", "err"), (loud.stdout, loud.stderr)

# -- timeouts
begun = time.monotonic()
slow = tc.run(Task("import time; time.sleep(60)", timeout=0.3), block=True)
assert isinstance(slow.failure, client.TaskTimeout) and "0.3 s" in str(slow.failure), slow
slow = tc.run(
    Task(
        "import time; time.sleep(60)", timeout=0.1, retries=1, recovery_task=Task("b = 1", pull="b")
    ),
    block=True,
)
assert slow.results == {"b": 1} and time.monotonic() - begun < 10

# -- rejection
mec.execute("import os")
for engine in mec.get_ids():
    mec.push({"my_id": engine}, targets=engine)
picky = Task(
    "from ipython1.kernel.client import TaskRejectError\nif my_id != 3: raise TaskRejectError('not here')",
    pull="my_id",
)
for result in tc.as_completed(tc.run_many([picky] * 5)):
    assert result.results == {"my_id": 3}, result
nowhere = tc.run(
    Task(
        "from ipython1.kernel.client import TaskRejectError\nif not globals().get('now'): raise TaskRejectError('no')"
    )
)
until(lambda: tc.queue_status(verbose=True).unsatisfied == [nowhere])
mec.execute("now = True")
tc.spin()
tc.barrier(nowhere, timeout=20)
assert tc.get_task_result(nowhere).failure is None

# -- large things, both ways, with small ones around them
payload = bytes(range(256)) * 20_000
ids = [
    tc.run(Task("b = len(a), a[:300]", push={"a": payload[: 5_120_000 - n]}, pull="b"))
    if n % 3
    else tc.run(Task(f"c = {n}", pull="c"))
    for n in range(9)
]
for n, result in enumerate(tc.get_task_result(each, block=True) for each in ids):
    expected = {"b": (5_120_000 - n, payload[:300])} if n % 3 else {"c": n}
    assert result.results == expected
assert tc.run(Task("b = bytes(5_000_000)", pull="b"), block=True).ns.b == bytes(5_000_000)
table = list(range(100_000))


def closing_over() -> Any:
    rows = list(table)
    return lambda index: rows[index]


look_up = closing_over()
assert tc.map(look_up, [5, 99_999, 7]) == [5, 99_999, 7]
assert [tc.run(MapTask(look_up, (n,)), block=True).result for n in range(3)] == [0, 1, 2]

# -- a function is sent as it is at the time of submission
offset = 10


def shifted(x: int) -> int:
    return x + offset


assert tc.run(MapTask(shifted, (1,)), block=True).result == 11
assert tc.run(MapTask(shifted, (1,)), block=True).result == 11
offset = 100
assert tc.run(MapTask(shifted, (1,)), block=True).result == 101
assert tc.map(shifted, [1, 2]) == [101, 102]


# -- custom types
class Doubling(BaseTask):
    """Pushes a number, and pulls its double."""

    def __init__(self, number: int, **options: Any) -> None:
        super().__init__(**options)
        self.number = number

    def submit_task(self, engine: Any) -> Any:
        engine.push({"number": self.number})
        return engine.pull("number") * 2

    def process_result(self, result: Any, engineid: int) -> Any:
        return {"doubled": result, "by": engineid}


doubled = tc.run(Doubling(21), block=True)
assert doubled.results == {"doubled": 42, "by": doubled.engineid}, doubled


# -- maps: errors stay in their places, and the other values arrive
def reciprocal(x: float) -> float:
    return 1 / x


problem = raises(client.CompositeError, "ZeroDivisionError", tc.map, reciprocal, [1, 0, 2, 0] * 10)
assert isinstance(problem, client.CompositeError)
assert len(problem.elist) == 20 and problem.results[::2] == [1.0, 0.5] * 10
assert all(isinstance(each, ZeroDivisionError) for each in problem.results[1::2])
pending = tc.mapper(block=False).map(reciprocal, [1, 2, 4])
assert pending.r == [1.0, 0.5, 0.25] and pending.progress == (3, 3)
pending = tc.mapper(block=False).map(time.sleep, [60] * 3)
until(lambda: tc.queue_status()["pending"] == 3)
pending.abort()
raises(client.TaskAborted, "aborted", pending.get_result)
until(lambda: tc.queue_status()["pending"] == 0)

# -- tasks run alongside MultiEngine commands
ids = [tc.run(Task(f"import time; time.sleep(0.01); n = {n}", pull="n")) for n in range(100)]
for _ in range(5):
    assert len(mec.execute("e = 1")) == 4
tc.barrier(ids)
assert [tc.get_task_result(each).ns.n for each in ids] == list(range(100))

# -- another client
gate = Path(os.environ["IPYTHONDIR"], "gate")
held = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
with client.TaskClient() as second:
    assert second.get_task_result(ids[7]).ns.n == 7
    later = tc.run(Task(f"{held}v = 9", pull="v"))
    tc.flush()
    assert second.get_task_result(later) is None
    raises(client.ResultNotCompleted, "1 of 1", tc.barrier, later, timeout=0.1)
    gate.touch()
    assert second.get_task_result(later, block=True).ns.v == 9
    theirs = second.run(Task("import time; time.sleep(0.3); w = 8", pull="w"))
    assert theirs not in (*ids, later)
    second.flush()
assert tc.get_task_result(theirs, block=True).ns.w == 8, "a client's tasks go on when it is gone"
raises(client.ConnectionError, "closed", second.run, Task("a = 1"))

# -- a task that will not end
stubborn = tc.run(
    Task("import time\nwhile True:\n  try: time.sleep(60)\n  except KeyboardInterrupt: pass")
)
until(lambda: tc.queue_status(verbose=True)["pending"].count(stubborn))
begun = time.monotonic()
tc.abort(stubborn)
behind = tc.run_many([Task("x = 1", pull="x")] * 20)
tc.barrier([*behind, stubborn], timeout=30)
assert all(tc.get_task_result(each).results == {"x": 1} for each in behind)
raises(client.TaskAborted, "aborted", tc.get_task_result(stubborn).raise_exception)
until(lambda: len(mec.get_ids()) == 3)


# -- poison is quarantined, and no other task is blamed
def work(number: int) -> int:
    import os

    if number == 7:
        os._exit(0)
    return number


tc.run(MapTask(work, (1,)), block=True)
poison = [tc.run(MapTask(work, (n,), retries=10 if n == 7 else 0)) for n in range(60)]
result = tc.get_task_result(poison[7], block=True)
assert isinstance(result.failure, client.EngineDied) and "quarantined" in str(result.failure), (
    result
)
assert "3 engines died" in str(result.failure), result
until(lambda: mec.get_ids() == [])
fresh = subprocess.Popen(
    [sys.executable, "-m", "ipython1.kernel.scripts.ipengine"], stderr=subprocess.DEVNULL
)
try:
    neighbours = [each for n, each in enumerate(poison) if n != 7]
    tc.barrier(neighbours, timeout=30)
finally:
    fresh.kill()
    fresh.wait()
results = [tc.get_task_result(each).result for each in neighbours]
assert results == [n for n in range(60) if n != 7], results

print("every error was clear and soon")
