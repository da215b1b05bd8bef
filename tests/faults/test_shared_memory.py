"""Large data through shared memory: nothing is left after any death, nobody waits for a stopped reader, and what an
engine gave is what it had then."""

from __future__ import annotations

import os
from typing import Any

import numpy

from ipython1.kernel.host.sharedmemory import SWITCH, shared_here
from tests.faults.common import Cluster, FaultCase, engine_pids, limit, stopped, until
from tests.soak.transfers import soak

SIZE = 24 * 2**20


def warm_up(mec: Any) -> None:
    """Have all memory mapped."""
    for _ in range(3):
        mec.push({"warm": numpy.zeros(SIZE, "u1")})
        mec.pull("warm")


class SharedMemory(FaultCase):
    @limit(240)
    def test_senders_and_receivers_are_killed(self) -> None:
        print(soak(120, self.random.randrange(10**6), pause=0.8))

    def test_a_stopped_engine_keeps_nobody_waiting(self) -> None:
        array = numpy.arange(SIZE // 8)
        with Cluster(2) as cluster:
            mec = cluster.mec()
            warm_up(mec)
            pids = engine_pids(mec)
            with stopped(pids[0]):
                waits = mec.push({"a": array}, block=False)
                for _ in range(5):
                    mec.push({"b": array}, targets=1)
                    (back,) = mec.pull("b", targets=1)
                    self.assertTrue(numpy.array_equal(back, array))
                self.assertFalse(waits.ready)
            waits.get_result()
            for back in mec.pull("a"):
                self.assertTrue(numpy.array_equal(back, array))

    def test_an_array_comes_as_it_was_when_it_was_pulled(self) -> None:
        with Cluster(1) as cluster:
            mec = cluster.mec()
            warm_up(mec)
            mec.execute(f"import numpy; a = numpy.arange({SIZE} // 8)")
            for _ in range(5):
                pulled = mec.pull("a", block=False)
                changed = mec.execute("a += 1", block=False)
                (before,) = pulled.get_result()
                changed.get_result()
                (after,) = mec.pull("a")
                self.assertTrue(numpy.array_equal(before + 1, after))
            mec.execute("b = bytearray(10**7); del a")
            (b,) = mec.pull("b")
            mec.execute("b.extend(b'more')")  # fails while anything refers to its memory
            self.assertEqual(len(b), 10**7)

    def test_an_array_that_a_thread_changes_comes_as_one(self) -> None:
        with Cluster(1) as cluster:
            mec = cluster.mec()
            warm_up(mec)
            mec.execute(
                f"import numpy, threading; a = numpy.zeros({SIZE}, 'u1'); going = True\n"
                "def change():\n"
                "    whole = [bytes([n]) * len(a) for n in range(4)]\n"
                "    while going:\n"
                "        for each in whole:\n"
                "            memoryview(a)[:] = each\n"
                "threading.Thread(target=change, daemon=True).start()"
            )
            for _ in range(10):
                (seen,) = mec.pull("a")
                self.assertEqual(seen.min(), seen.max())
            mec.execute("going = False")

    def test_results_of_tasks_and_maps_go_the_same_way(self) -> None:
        with Cluster(2) as cluster:
            mec, tc = cluster.mec(), cluster.tc()
            warm_up(mec)
            pids = engine_pids(mec)
            arrays = tc.map(numpy.arange, [SIZE // 8 + n for n in range(8)])
            self.assertEqual([len(each) for each in arrays], [SIZE // 8 + n for n in range(8)])
            self.assertTrue(
                all(numpy.array_equal(each, numpy.arange(len(each))) for each in arrays)
            )
            self.assertGreater(shared_here(pids[0]), 0)
            self.assertGreater(shared_here(os.getpid()), 0)

    def test_it_can_be_turned_off(self) -> None:
        array = numpy.arange(SIZE // 8)
        with Cluster(1, environ={SWITCH: "0"}) as cluster:
            mec = cluster.mec()
            warm_up(mec)
            mec.push({"a": array})
            (back,) = mec.pull("a")
            self.assertTrue(numpy.array_equal(back, array))
            pids = [cluster.controller, *engine_pids(mec).values(), os.getpid()]
            self.assertEqual([shared_here(pid) for pid in pids], [0] * 3)

    def test_what_is_not_used_is_given_back(self) -> None:
        with Cluster(1) as cluster:
            mec = cluster.mec()
            warm_up(mec)
            pids = [cluster.controller, *engine_pids(mec).values(), os.getpid()]
            self.assertTrue(all(shared_here(pid) for pid in pids))
            until(lambda: not any(shared_here(pid) for pid in pids), "all is given back")
