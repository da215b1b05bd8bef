"""The session of the Task interface's reference, with an assertion for every displayed value."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

from ipython1.kernel import client


def raises(kind: type[BaseException], text: str, call: Any, *args: Any, **kwargs: Any) -> None:
    try:
        call(*args, **kwargs)
    except kind as problem:
        assert text in str(problem), f"{text!r} is not in {problem!s}"
    else:
        raise AssertionError(f"{kind.__name__} was not raised")


# Task farming
tc = client.TaskClient()
tasklist = []
for n in range(1000):
    tasklist.append(client.Task("a = %i" % n, pull="a"))  # noqa: PERF401, UP031 (as the reference has it)
taskids = [tc.run(t) for t in tasklist]
assert taskids == list(range(1000)), taskids[:5]
tc.barrier(taskids)
task_results = [tc.get_task_result(taskid) for taskid in taskids]
tr = task_results[73]
assert repr(tr) == "TaskResult[ID:73]:{'a': 73}", tr
assert tr.engineid in range(4)
moment = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d")
assert moment.fullmatch(tr.submitted) and moment.fullmatch(tr.completed), (
    tr.submitted,
    tr.completed,
)
assert tr.submitted <= tr.completed and 0 <= tr.duration < 60, tr.duration
assert isinstance(tr.duration, float)
assert tr.results["a"] == 73 and tr.results == {"a": 73}
assert tr.ns.a == 73 and tr["a"] == 73 and tr.keys == ["a"]
assert tr.failure is None and tr.taskid == 73
tr.raise_exception()
assert {result.engineid for result in task_results} <= set(range(4))
assert [result.results["a"] for result in task_results] == list(range(1000))

# The client, by address
with client.TaskClient(client.default_task_address) as other:
    assert repr(other.get_task_result(73)) == "TaskResult[ID:73]:{'a': 73}"

# run, get_task_result, barrier
gate = Path(os.environ["IPYTHONDIR"], "gate")
held = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)"
task = client.Task(f"{held}\ndone = True", pull="done")
task_id = tc.run(task)
assert isinstance(task_id, int)
assert tc.get_task_result(task_id) is None
gate.touch()
assert tc.get_task_result(task_id, block=True).results == {"done": True}
gate.unlink()
task_ids = [tc.run(task) for _ in range(4)]
assert tc.get_task_result(task_ids[-1]) is None
gate.touch()
tc.barrier(task_ids)
assert [tc.get_task_result(each).ns.done for each in task_ids] == [True] * 4
tc.barrier(task_ids[0])
assert tc.run(task, block=True).results == {"done": True}

# queue_status
tc.clear()
assert tc.queue_status() == {"scheduled": 0, "pending": 0, "succeeded": 0, "failed": 0}
done = [tc.run(client.Task("a = 1")) for _ in range(5)] + [tc.run(client.Task("1/0"))]
tc.barrier(done)
queued = [tc.run(client.Task("import time; time.sleep(30)")) for _ in range(8)]
tc.flush()
deadline = time.monotonic() + 20
while tc.queue_status()["pending"] < 4 and time.monotonic() < deadline:
    time.sleep(0.01)
status = tc.queue_status()
assert status == {"scheduled": 4, "pending": 4, "succeeded": 5, "failed": 1}, status
lists = tc.queue_status(verbose=True)
assert list(lists) == ["scheduled", "pending", "succeeded", "failed"]
assert lists["succeeded"] == done[:5] and lists["failed"] == done[5:], lists
assert sorted(lists["scheduled"] + lists["pending"]) == queued, lists

# abort
for each in queued:
    assert tc.abort(each) is None
tc.barrier(queued, timeout=20)
for each in queued:
    raises(client.TaskAborted, f"task {each} was aborted", tc.get_task_result(each).raise_exception)
raises(IndexError, "completed", tc.abort, done[0])
raises(IndexError, "no task", tc.abort, 10**6)
tc.spin()

# The task object: pull and push
assert tc.run(client.Task("a = str(5)", pull="a"), block=True).results == {"a": "5"}
result = tc.run(client.Task("a = str(7); b = 8", pull=["a", "b"]), block=True)
assert result.results == {"a": "7", "b": 8} and result.ns.b == 8
now = time.time()
task = client.Task("a = submitted + 1", push={"submitted": now}, pull="a")
assert tc.run(task, block=True).ns.a == now + 1
task.push, task.pull = {"submitted": 1}, ["a", "submitted"]
assert tc.run(task, block=True).results == {"a": 2, "submitted": 1}

# Namespace cleaning
mec = client.MultiEngineClient()
mec.execute("clutter = 1")
task = client.Task("a = 'clutter' in globals()", pull="a")
assert tc.run(task, block=True).ns.a is True
task.clear_before = True
assert tc.run(task, block=True).ns.a is False
result = tc.run(client.Task("secret = range(10**10)", pull="secret", clear_after=True), block=True)
assert len(result.ns.secret) == 10**10
assert mec.keys(targets=result.engineid) == [[]]

# Fault tolerance
failing = client.Task("1/0", retries=2)
result = tc.run(failing, block=True)
assert repr(result) == f"TaskResult[ID:{result.taskid}]:ZeroDivisionError: division by zero", result
assert isinstance(result.failure, ZeroDivisionError)
raises(ZeroDivisionError, "division by zero", lambda: result.results)
raises(ZeroDivisionError, "division by zero", lambda: result.ns)
raises(ZeroDivisionError, "division by zero", lambda: result["a"])
failing.recovery_task = client.Task("1/0", recovery_task=client.Task("a = 'recovered'", pull="a"))
result = tc.run(failing, block=True)
assert result.results == {"a": "recovered"} and result.failure is None
failing.recovery_task.recovery_task = failing
raises(ValueError, "loop", tc.run, failing)
deadly = client.Task("import os; os.kill(os.getpid(), 9)")
result = tc.run(deadly, block=True)
assert isinstance(result.failure, client.EngineDied), result
assert f"engine {result.engineid}" in str(result.failure), result
deadline = time.monotonic() + 20
while result.engineid in mec.get_ids() and time.monotonic() < deadline:
    time.sleep(0.01)
left = mec.get_ids()
assert len(left) == 3 and result.engineid not in left


# Dependencies
def dep(properties: dict[str, Any]) -> bool:
    return properties["RAM"] > 2**32  # have at least 4 GB


task = client.Task("a = 'big'", pull="a", depend=dep)
task_id = tc.run(task)
tc.spin()
deadline = time.monotonic() + 20
while not tc.queue_status().unsatisfied and time.monotonic() < deadline:
    time.sleep(0.01)
status = tc.queue_status(verbose=True)
assert status["scheduled"] == [task_id] and status.unsatisfied == [task_id], status
assert tc.get_task_result(task_id) is None
mec.set_properties({"RAM": 2**30})
mec.set_properties({"RAM": 2**34}, targets=left[1])
result = tc.get_task_result(task_id, block=True)
assert result.results == {"a": "big"} and result.engineid == left[1], result
hundred = tc.run_many([task] * 100)
assert {result.engineid for result in tc.as_completed(hundred)} == {left[1]}
mec.set_properties({"RAM": 0}, targets=left[1])
mec.set_properties({"RAM": 2**40}, targets=left[0])
assert tc.run(task, block=True).engineid == left[0]


# Maps
def square(x: int) -> int:
    return x * x


assert tc.map(square, range(50)) == [x * x for x in range(50)]
assert tc.map(lambda x, y: x + y, [1, 2, 3], (10, 20, 30)) == [11, 22, 33]
mapper = tc.mapper(clear_before=True, retries=1)
assert mapper.map(square, [1, 2, 3]) == [1, 4, 9]


@tc.parallel()
def cube(x: int) -> int:
    return x**3


assert cube(range(5)) == [0, 1, 8, 27, 64]
map_task = client.MapTask(square, (12,))
assert tc.run(map_task, block=True).result == 144

print("every value is as documented")
