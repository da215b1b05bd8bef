"""The asynchronous task client in an asyncio program."""

from __future__ import annotations

import asyncio

from twisted.internet import asyncioreactor

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
asyncioreactor.install(loop)

from ipython1.kernel import asyncclient, client  # noqa: E402


def add_one(x: int) -> int:
    return x + 1


async def main() -> None:
    tc = await asyncclient.get_task_client()
    task_id = await tc.run(client.Task("a = 3", pull="a"))
    result = await tc.get_task_result(task_id, block=True)
    assert repr(result) == f"TaskResult[ID:{task_id}]:{{'a': 3}}"
    assert (await tc.run(client.MapTask(add_one, (1,)), block=True)).result == 2

    slow = await tc.run(client.Task("import time; time.sleep(30)"))
    assert await tc.get_task_result(slow) is None
    try:
        await tc.barrier(slow, timeout=0.1)
    except client.ResultNotCompleted as problem:
        assert "1 of 1" in str(problem)
    else:
        raise AssertionError("it waited for ever")
    await tc.abort(slow)
    await tc.barrier(slow)
    assert isinstance((await tc.get_task_result(slow)).failure, client.TaskAborted)

    ids = await tc.run_many([client.MapTask(add_one, (n,)) for n in range(10)])
    assert sorted([each.result async for each in tc.as_completed(ids)]) == list(range(1, 11))
    await tc.flush()
    status = await tc.queue_status()
    assert status == {"scheduled": 0, "pending": 0, "succeeded": 12, "failed": 1}, status

    second = await tc.run(client.MapTask(add_one, (1,), after=slow))
    third = await tc.run(
        client.MapTask(add_one, (1,), after=client.After(second, failure=True), follow=ids)
    )
    assert isinstance(
        (await tc.get_task_result(second, block=True)).failure, client.DependencyFailed
    )
    assert (await tc.get_task_result(third, block=True)).result == 2

    assert await tc.map(add_one, range(100)) == list(range(1, 101))
    pending = await tc.mapper(block=False).map(add_one, [1, 2])
    assert await pending.r == [2, 3] and pending.progress == (2, 2) and pending.ready
    try:
        await tc.map(add_one, [1, "a", 3])
    except client.CompositeError as problem:
        assert problem.results[0] == 2 and isinstance(problem.results[1], TypeError)
    else:
        raise AssertionError("an item's error was lost")

    for wrong in (tc.abort(ids[0]), tc.get_task_result(10**6), tc.barrier([10**6])):
        try:
            await wrong
        except IndexError:
            pass
        else:
            raise AssertionError("there is no such task")
    await tc.spin()
    await tc.clear()
    assert await tc.queue_status(verbose=True) == {
        "scheduled": [],
        "pending": [],
        "succeeded": [],
        "failed": [],
    }
    await tc.close()
    try:
        await tc.run(client.Task("a = 1"))
    except client.ConnectionError:
        print("the asynchronous client does the same")


loop.run_until_complete(main())
