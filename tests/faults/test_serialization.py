"""Faults 16 and 17, and parties that have no memory for what they receive: an object that cannot be taken."""

from __future__ import annotations

import os
import traceback
from typing import Any

from tests.faults.common import (
    LONG,
    SOON,
    Cluster,
    FaultCase,
    Witness,
    baseline,
    engine_pids,
    limit,
    say,
    timed,
)


class Hostile:
    """Pickles and unpickles badly, as its ``how`` says."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        if self.how == "raises here":
            raise ValueError("it does not want to travel")
        return _rebuild, (self.how, os.getpid())


def _rebuild(how: str, pid: int) -> Any:
    if how == "raises there" and os.getpid() != pid:
        raise ValueError("it does not want to arrive")
    return Hostile(how)


class Unreadable(Exception):
    """An exception that cannot be shown or rebuilt."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __reduce__(self) -> Any:
        raise RuntimeError("no pickle")


def returns(how: str) -> Hostile:
    return Hostile(how)


def takes(value: Any) -> str:
    return str(value.how)


def raises(_: int = 0) -> None:
    raise Unreadable


class Objects(FaultCase):
    def test_16_objects_that_cannot_travel(self) -> None:
        """That call, or that task, fails with a clear error that comes soon; every process lives."""
        from ipython1.kernel import client

        with Cluster(2) as cluster:
            mec, tc = cluster.mec(), cluster.tc()
            pids = engine_pids(mec)

            def refused(text: str, call: Any, *args: Any, **kw: Any) -> None:
                took, problem = timed(call, *args, **kw)
                self.assertIsInstance(problem, Exception)
                self.assertIn(text, "".join(traceback.format_exception(problem)))
                self.assertLess(took, 10)

            def of_task(task: Any) -> Any:
                result = tc.run(task, block=True)
                result.raise_exception()
                return result.result

            with Witness(cluster, 1), baseline(cluster.controller):
                # arguments
                refused(
                    "does not want to travel", mec.push, {"a": Hostile("raises here")}, targets=0
                )
                refused(
                    "does not want to arrive", mec.push, {"a": Hostile("raises there")}, targets=0
                )
                text = "does not want to"
                for how in ("raises here", "raises there"):
                    refused(text, of_task, client.MapTask(takes, (Hostile(how),)))
                    refused(text, tc.map, takes, [Hostile(how)])
                    refused(text, mec.executor(targets=0).submit(takes, Hostile(how)).result, SOON)
                # results
                mec.push_function({"returns": returns}, targets=0)
                for how in ("raises here", "raises there"):
                    refused(text, of_task, client.MapTask(returns, (how,)))
                    refused(text, tc.map, returns, [how])
                    mec.execute(f"a = returns({how!r})", targets=0)
                    refused(text, mec.pull, "a", targets=0)
                    refused(text, mec.executor(targets=0).submit(returns, how).result, SOON)
                # exceptions
                refused("Unreadable", of_task, client.MapTask(raises))
                refused("Unreadable", tc.map, raises, [1])
                mec.push_function({"raises": raises}, targets=0)
                refused("Unreadable", mec.execute, "raises()", targets=0)
            self.assertEqual(engine_pids(mec), pids)

    @limit(150)
    def test_17_a_huge_object(self) -> None:
        """It works, or it is refused by its size; the link survives."""
        from ipython1.kernel import client

        most = (2048 if LONG else 48) << 20
        size, refused = most * 5 // 6, most * 7 // 6
        with Cluster(1, ini=f"[controller]\nmax_message_size = {most}\n") as cluster:
            mec = cluster.mec()
            with Witness(cluster, 0, patience=60), baseline(cluster.controller, memory=100):
                _, problem = timed(mec.push, {"a": bytes(refused)})
                self.assertIsInstance(problem, client.MessageSizeError)
                self.assertEqual(mec.push({"a": 1}), [None])
                mec.execute(f"b = bytes({refused})")
                _, problem = timed(mec.pull, "b")
                self.assertIn("MessageSizeError", repr(problem) + str(problem))
                took, _ = timed(mec.push, {"a": bytes(size)})
                self.assertEqual(mec.execute("print(len(a))")[0]["stdout"], f"{size}\n")
                back, value = timed(mec.pull, "a")
                self.assertEqual(len(value[0]), size)
                del value
            say(f"{size >> 20} MB there in {took:.1f} s, and back in {back:.1f} s")
