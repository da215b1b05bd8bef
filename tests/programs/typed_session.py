"""A user's program as a type checker sees it: mypy infers what is asserted here; the program is never run."""

from __future__ import annotations

from typing import Any, assert_type

from ipython1.kernel import client
from ipython1.kernel.asyncclient import AsyncMultiEngineClient
from ipython1.kernel.asynctaskclient import AsyncTaskClient
from ipython1.kernel.cluster import Cluster
from ipython1.kernel.executors import MultiEngineExecutor, SubmittedCall, TaskExecutor
from ipython1.kernel.multiengineclient import MultiEngineClient
from ipython1.kernel.pendingresult import PendingResult
from ipython1.kernel.resultlist import ResultList
from ipython1.kernel.stacklist import StackList
from ipython1.kernel.taskclient import TaskClient
from ipython1.kernel.taskobjects import BaseTask, MapTask, StringTask, TaskResult
from ipython1.testing import InMemoryCluster, RealCluster


def square(number: int) -> int:
    return number * number


def clusters() -> None:
    with Cluster(4) as cluster:
        assert_type(cluster, Cluster)
        assert_type(cluster.ids, list[int])
        assert_type(cluster.add_engines(2), list[int])
        assert_type(cluster.logs(), str)
        assert_type(cluster.multiengine(), MultiEngineClient)
        assert_type(cluster.task(), TaskClient)
    Cluster("four")  # type: ignore[arg-type]


def explicit(mec: MultiEngineClient, pending: PendingResult, results: ResultList) -> None:
    assert_type(client.get_multiengine_client(), MultiEngineClient)
    assert_type(mec.ids, list[int])
    assert_type(mec.wait_for_engines(4), list[int])
    assert_type(mec.block, bool)
    assert_type(mec.pending, list[PendingResult])
    assert_type(mec.executor(), MultiEngineExecutor)
    mec.block = False
    mec.targets = [0, 2]
    mec[0].execute("a = 1")
    assert_type(mec["a"], Any)
    assert_type(pending.ready, bool)
    assert_type(pending.progress, tuple[int, int])
    assert_type(pending.stdout, dict[int, str])
    assert_type(pending.exception(), BaseException | None)
    assert_type(client.default_mec_address, tuple[str, int])
    client.MultiEngineCleint  # type: ignore[attr-defined]
    mec.execute(1)  # type: ignore[arg-type]
    mec.exceute("a = 1")  # type: ignore[attr-defined]


def balanced(tc: TaskClient) -> None:
    assert_type(client.get_task_client(), TaskClient)
    call = tc.submit(square, 3)
    assert_type(call, SubmittedCall)
    assert_type(call.done(), bool)
    assert_type(tc.executor(), TaskExecutor)
    assert_type(tc.run_many([StringTask("a = 1"), MapTask(square, [3])]), list[int])
    assert_type(tc.get_task_result(0), TaskResult | None)
    for result in tc.as_completed([0, 1]):
        assert_type(result, TaskResult)
    task = MapTask(square, [3], retries=2, timeout=10.0)
    assert_type(task.retries, int)
    assert_type(task.timeout, float | None)
    tc.with_options(retries="two")  # type: ignore[arg-type]


def stacks(found: StackList) -> None:
    assert_type(str(found), str)


async def asynchronous(mec: AsyncMultiEngineClient, tc: AsyncTaskClient) -> None:
    await mec.execute("a = 1")
    mec.on_engines_changed(lambda ids: print(ids[0] + 1))
    mec.on_warnings(lambda texts: print(texts[0].upper()))


def tests(memory: InMemoryCluster) -> None:
    with RealCluster(2) as cluster:
        assert_type(cluster, RealCluster)


class Own(BaseTask):
    def submit_task(self, engine: Any) -> int:
        return self.retries
