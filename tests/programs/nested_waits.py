"""Code on engines that waits for other work on engines: what can never end fails at once, all else completes.

Run it with a cluster of two engines::

    python tests/programs/nested_waits.py
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

from ipython1.kernel.client import (
    CompositeError,
    MapTask,
    MultiEngineClient,
    Task,
    TaskAborted,
    TaskClient,
    WaitsForever,
)

EXECUTE_EVERYWHERE = """
from ipython1.kernel.client import MultiEngineClient
MultiEngineClient().execute('1')
"""

SOON = 10.0
"""Seconds within which every call here ends, with much to spare."""


def double(x: int) -> int:
    return 2 * x


def nested_map(n: int) -> list[int]:
    from ipython1.kernel.client import TaskClient

    with TaskClient() as tc:
        return tc.map(double, range(n))


def in_thread(n: int) -> bool:
    """A thread waits; the task itself goes on."""
    import threading

    thread = threading.Thread(target=nested_map, args=(n,), daemon=True)
    thread.start()
    thread.join(0.5)
    return thread.is_alive()


def wait_in(way: str) -> Any:
    """Wait for a task, or for a call on all engines, in one of many ways."""
    import asyncio
    import concurrent.futures as cf

    from ipython1.kernel.client import MapTask, MultiEngineClient, TaskClient

    tc, mec = TaskClient(), MultiEngineClient()
    try:
        if way == "run":
            return tc.run(MapTask(double, (2,)), block=True).result
        if way == "barrier":
            return tc.barrier(tc.run_many([MapTask(double, (2,))] * 3), timeout=60)
        if way == "as_completed":
            ids = tc.run_many([MapTask(double, (i,)) for i in range(2000)])
            return sum(each.result for each in tc.as_completed(ids))
        if way == "map":
            return tc.map(double, [1, 2, 3])
        if way == "pending map":
            return tc.mapper(block=False).map(double, [1, 2, 3]).r
        if way == "execute":
            return mec.execute("1")
        if way == "apply":
            return mec.apply(double, 2)
        if way == "scatter":
            return mec.scatter("a", range(4))
        if way == "pending":
            return mec.execute("1", block=False).get_result(timeout=60)
        if way == "barrier of calls":
            pending = [mec.execute("1", block=False) for _ in range(2)]
            mec.barrier(pending, 60)
            return pending[0].r
        if way == "await":
            mec.block = False

            async def main() -> Any:
                return await mec.apply(double, 2)

            return asyncio.run(main())
        kind, _, rest = way.partition(" ")
        client = tc if kind == "tc" else mec
        if rest == "joblib":
            import joblib

            from ipython1.kernel.client import register_joblib_backend

            register_joblib_backend(client, f"nested-{kind}")
            with joblib.parallel_config(backend=f"nested-{kind}"):
                return joblib.Parallel()(joblib.delayed(double)(i) for i in range(5))
        most = 1 if "one" in rest else None
        with client.executor(max_workers=most) as executor:
            futures = [executor.submit(double, i) for i in range(3)]
            if "wait" in rest:
                done = cf.wait(futures, 60).done
                return sum(each.result() for each in done) if len(done) == 3 else "timeout"
            if "as_completed" in rest:
                return sum(each.result() for each in cf.as_completed(futures))
            if "first" in rest:
                return futures[0].result()
            if "map" in rest:
                return list(executor.map(double, range(3)))
        return [each.result() for each in futures]
    finally:
        tc.close()
        mec.close()


WAYS = (
    "run",
    "barrier",
    "as_completed",
    "map",
    "pending map",
    "execute",
    "apply",
    "scatter",
    "pending",
    "barrier of calls",
    "await",
    *(
        f"{kind} {rest}"
        for kind in ("tc", "mec")
        for rest in ("wait", "as_completed", "first", "map", "end", "one wait", "one end")
    ),
    *(["tc joblib", "mec joblib"] if find_spec("joblib") else []),
)


def members(problem: BaseException) -> list[BaseException]:
    """The exceptions in an exception, however deep."""
    if isinstance(problem, CompositeError):
        return [each for member in problem.exceptions for each in members(member)]
    return [problem]


def told(call: Callable[[], Any], within: float = SOON) -> str:
    """The message of a wait that never ends; fails if anything else happens, or if it takes long."""
    begun = time.monotonic()
    try:
        value = call()
    except Exception as problem:
        found = [each for each in members(problem) if isinstance(each, WaitsForever)]
        assert found and time.monotonic() - begun < within, (problem, found)
        return str(found[0])
    raise AssertionError(f"it returned {value!r}")


def soon(call: Callable[[], Any]) -> Any:
    begun = time.monotonic()
    value = call()
    assert time.monotonic() - begun < SOON, "it took too long"
    return value


def meet(place: str, who: int, number: int) -> None:
    """Return when ``number`` callers have come to the directory ``place``."""
    import os
    import time

    open(os.path.join(place, str(who)), "w").close()
    while len(os.listdir(place)) < number:
        time.sleep(0.005)


def meet_and_map(place: str, who: int) -> list[int]:
    meet(place, who, 2)
    return nested_map(3)


def meet_and_execute(place: str, who: int) -> list[int]:
    from ipython1.kernel.client import MultiEngineClient

    meet(place, who, 2)
    mec = MultiEngineClient()
    mec.targets = 1 - who
    return mec.apply(double, who)


def wait_for(task_id: int, place: str) -> Any:
    from ipython1.kernel.client import TaskClient

    with TaskClient() as tc:
        open(f"{place}/waits", "w").close()
        return tc.get_task_result(task_id, block=True).result


def sleep_at(place: str) -> None:
    import time

    open(f"{place}/sleeps", "w").close()
    time.sleep(1000)


def waits_that_can_end(tc: TaskClient) -> None:
    """One engine waits, and the other one is free or busy for a while."""
    assert soon(lambda: tc.map(nested_map, [3])) == [[0, 2, 4]]
    assert soon(lambda: tc.run(MapTask(nested_map, (50,)), block=True).result)[-1] == 98
    expected = {"barrier": None, "as_completed": 3998000, "run": 4, "map": [2, 4, 6]}
    for way in WAYS:
        if way in expected or way.startswith(("tc", "mec")):
            value = soon(lambda way=way: tc.run(MapTask(wait_in, (way,)), block=True).result)
            assert value == expected.get(way, value), (way, value)
    # What was given to the waiting engine ahead goes to the other one, once that is free.
    busy = tc.run(MapTask(pause, (0.5,)))
    assert soon(lambda: tc.run(MapTask(nested_map, (20,)), block=True).result)[-1] == 38
    tc.barrier(busy)


def pause(seconds: float) -> None:
    import time

    time.sleep(seconds)


def apply_on(engine: int, function: Callable[..., Any], *args: Any) -> Any:
    mec = MultiEngineClient()
    mec.targets, mec.block = engine, False
    return mec.apply(function, *args)


def both_held(tc: TaskClient, mec: MultiEngineClient) -> None:
    """Both engines wait: only the wait that closes the circle fails, so the other one can end."""
    with TemporaryDirectory() as place:
        told(lambda: tc.map(meet_and_map, [place] * 2, range(2)))
    with TemporaryDirectory() as place:
        pending = [apply_on(each, meet_and_execute, place, each) for each in (0, 1)]
        told(lambda: mec.barrier(pending) or [each.r for each in pending])
        assert sum(each.exception() is None for each in pending) == 1
    told(lambda: mec.execute(EXECUTE_EVERYWHERE))


def one_engine_left(tc: TaskClient, mec: MultiEngineClient) -> None:
    """A wait that could end cannot any more when an engine dies; one can be aborted before."""
    with TemporaryDirectory() as place:
        sleeper = tc.run(MapTask(sleep_at, (place,)))
        meet(place, 0, 2)
        waiter = tc.run(MapTask(wait_for, (sleeper, place)))
        meet(place, 0, 3)
        tc.abort(waiter)
        assert isinstance(tc.get_task_result(waiter, block=True).failure, TaskAborted)
        [engine] = [
            engine
            for engine, stack in zip(mec.get_ids(), mec.stacks(), strict=True)
            if "sleep_at" in str(stack)
        ]
        os.remove(f"{place}/waits")
        waiter = tc.run(MapTask(wait_for_another, (place,)))
        meet(place, 0, 3)
        mec.kill(targets=engine)
        told(lambda: tc.get_task_result(waiter, block=True).result)
    tc.abort(sleeper) if tc.get_task_result(sleeper) is None else None


def wait_for_another(place: str) -> Any:
    from ipython1.kernel.client import MapTask, TaskClient

    with TaskClient() as tc:
        task_id = tc.run(MapTask(double, (1,)))
        open(f"{place}/waits", "w").close()
        return tc.get_task_result(task_id, block=True).result


def submit_many(with_executor: bool) -> None:
    """Submit more tasks than the controller and the client accept."""
    from ipython1.kernel.client import MapTask, TaskClient
    from ipython1.kernel.tasks import outbox

    outbox.OUTBOX_TASKS = 10
    try:
        with TaskClient() as tc:
            if with_executor:
                with tc.executor() as executor:
                    futures = [executor.submit(int) for _ in range(16384 + 20)]
                return sum(future.result() for future in futures)
            for _ in range(16384 + 20):
                tc.run(MapTask(int))
    finally:
        outbox.OUTBOX_TASKS = 65536


WAITS_FOR_A_TASK = """
from ipython1.kernel.client import Task, TaskClient
with TaskClient() as tc:
    r = tc.run(Task('a = 1', pull='a'), block=True)['a']
"""


def commands_wait_for_tasks(tc: TaskClient, mec: MultiEngineClient) -> None:
    """Tasks that were given to the engine whose command waits for them go to the other one."""
    for engine in (0, 1, 0):
        soon(lambda engine=engine: mec.execute(WAITS_FOR_A_TASK, targets=engine))
        assert mec.pull("r", targets=engine) == [1]
        assert soon(lambda: mec.map(nested_map, [3])) == [[0, 2, 4]]
    # Where both engines wait, one wait fails, and the other can end.
    for _ in range(3):
        try:
            soon(lambda: mec.execute(WAITS_FOR_A_TASK))
        except CompositeError as problem:
            assert [type(each) for each in problem.exceptions] == [WaitsForever], problem
    # A command that takes long does not hold up tasks that another engine can run.
    long = mec.execute("import time; time.sleep(3)", targets=0, block=False)
    assert soon(lambda: tc.map(double, range(4))) == [0, 2, 4, 6]
    assert not long.done()
    mec.interrupt()
    long.exception()


def waits_on_one_engine(tc: TaskClient) -> None:
    text = told(lambda: tc.run(MapTask(nested_map, (3,)), block=True).result)
    assert "only this engine could run it" in text and "from the client" in text, text
    for way in WAYS:
        told(lambda way=way: tc.run(MapTask(wait_in, (way,)), block=True).result)
    told(
        lambda: tc.run(Task("r = f()", push={"f": lambda: nested_map(3)}, pull="r"), block=True)[
            "r"
        ]
    )
    # Threads hold nothing up, so what they wait for runs when the task has ended.
    assert soon(lambda: tc.run(MapTask(in_thread, (3,)), block=True).result)
    assert soon(lambda: tc.map(double, [1, 2])) == [2, 4]
    status = tc.queue_status()
    assert not status["scheduled"] and not status["pending"], status


def main() -> None:
    tc, mec = TaskClient(), MultiEngineClient()
    waits_that_can_end(tc)
    both_held(tc, mec)
    commands_wait_for_tasks(tc, mec)
    one_engine_left(tc, mec)
    waits_on_one_engine(tc)
    for with_executor in (False, True):
        # To submit so many takes seconds itself.
        told(
            lambda way=with_executor: tc.run(MapTask(submit_many, (way,)), block=True).result, 60.0
        )
    print("what can never end has failed, and all else has ended")


if __name__ == "__main__":
    main()
