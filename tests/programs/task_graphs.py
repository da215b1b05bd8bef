"""Tasks that run after others, where others ran, and on chosen engines; a controller and an engine are killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ipython1.kernel import client
from ipython1.kernel.client import After, DependencyFailed

LOG = TemporaryDirectory()
STORY = Path(LOG.name) / "story"


def note(name: str, seconds: float = 0.0) -> str:
    """Run on an engine: wait, and write down that this was done."""
    time.sleep(seconds)
    with STORY.open("a") as file:
        file.write(f"{name}\n")
    return name


def task(name: str, seconds: float = 0.0, **options: Any) -> client.MapTask:
    return client.MapTask(note, (name, seconds), **options)


def story() -> list[str]:
    """What was done so far, in order."""
    return STORY.read_text().split() if STORY.exists() else []


def failure(tc: Any, task_id: int) -> str:
    problem = tc.get_task_result(task_id, block=True).failure
    assert isinstance(problem, DependencyFailed), repr(problem)
    return str(problem)


def check_order(tc: Any, other: Any) -> None:
    """A diamond, submitted at once by two clients, and a mapper."""
    first = tc.run(task("first", 0.3))
    left = tc.run(task("left", 0.1, after=first))
    right = other.run(task("right", after=first))
    last = other.run(task("last", after=[left, right]))
    assert tc.mapper(after=last).map(abs, range(-5, 0)) == [5, 4, 3, 2, 1]
    assert story() == ["first", "right", "left", "last"], story()
    with tc.executor(after=last, targets=1) as executor:
        assert executor.submit(pow, 2, 5).result() == 32
    tc.clear([first, left])
    assert tc.run(task("later", after=first), block=True).result == "later"


def check_failures(tc: Any) -> None:
    broken = tc.run(client.Task("1/0", retries=1))
    chain = [broken]
    for number in range(6):
        spare = client.Task("never = 1", pull="never")
        chain.append(tc.run(task(f"never{number}", after=chain[-1], recovery_task=spare)))
    text = failure(tc, chain[-1])
    assert text.startswith(f"task {chain[-1]} was not run: it was to run after task {chain[-2]}"), (
        text
    )
    assert text.endswith(f"after task {broken}, which failed: ZeroDivisionError: division by zero")
    assert "(and so on, through 3 more tasks)" in text, text
    both = After(broken, failure=True)
    assert tc.run(client.MapTask(abs, (-3,), after=both), block=True).results == {"result": 3}
    waiting = tc.run(task("slow", 30))
    tc.flush()
    follower = tc.run(task("never", after=waiting))
    tc.abort(waiting)
    assert "TaskAborted" in failure(tc, follower)
    assert "no such task" in failure(tc, tc.run(task("never", after=10**9)))
    assert "which is itself" in failure(tc, tc.run(task("never", after=follower + 2)))


def check_places(tc: Any, mec: Any) -> None:
    maker = tc.run(client.Task("import os; mine = os.getpid()", "mine", targets=1), block=True)
    assert maker.engineid == 1
    users = [
        tc.run(client.Task("same = mine == os.getpid()", "same", follow=maker)) for _ in range(4)
    ]
    assert all(tc.get_task_result(each, block=True).results["same"] for each in users)
    mec.set_properties({"size": 3}, targets=0)
    assert tc.run(client.Task("a = 1", targets={"size": 3}), block=True).engineid == 0
    lost = tc.run(client.Task("a = 1", targets=[7, 9]))
    status = tc.queue_status(verbose=True)
    assert status.unsatisfied == [lost], status.unsatisfied
    assert "engines 7, 9 only, which are not registered" in status.reasons[lost], status.reasons
    tc.abort(lost)
    queued = [tc.run(task("blocker", 0.5, targets=1)), tc.run(task("there", follow=maker))]
    assert tc.get_task_result(queued[1], block=True).engineid == 1
    again = [tc.run(task("hold", 30, targets=1)), tc.run(task("never", follow=maker))]
    while again[0] not in tc.queue_status(verbose=True)["pending"]:
        time.sleep(0.05)
    os.kill(maker.results["mine"], signal.SIGKILL)
    assert f"after task {maker.taskid}, on the same engine, and that is gone" in failure(
        tc, again[1]
    )


def check_restart(tc: Any, cluster: Any) -> None:
    """The controller is killed while tasks wait for others; none is lost, and none begins early."""
    STORY.unlink()
    first = tc.run(task("a", 1.5))
    broken = tc.run(client.Task("import time; time.sleep(1.5); 1/0"))
    rest = [tc.run(task("b", after=first)), tc.run(task("c", 0.0, follow=first))]
    never = tc.run(task("never", after=broken))
    tc.flush()
    os.kill(cluster.status().controller.pid, signal.SIGKILL)
    rest.append(tc.run(task("d", after=[*rest, first])))
    tc.barrier([*rest, never], timeout=60)
    assert story()[0] == "a" and story()[-1] == "d" and sorted(story()) == list("abcd"), story()
    places = {tc.get_task_result(each).engineid for each in (first, rest[1])}
    assert len(places) == 1, places
    assert "ZeroDivisionError" in failure(tc, never)


def main() -> None:
    with client.Cluster(n=2) as cluster:
        mec = cluster.multiengine()
        with cluster.task() as tc, cluster.task() as other:
            check_order(tc, other)
            check_restart(tc, cluster)
            check_failures(tc)
            check_places(tc, mec)
        mec.close()
    assert "never" not in " ".join(story())
    print("every task ran when and where it was to, or not at all")


if __name__ == "__main__":
    main()
