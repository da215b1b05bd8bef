"""Large data through shared memory: nothing is left after any death, nobody waits for a stopped reader, and what an
engine gave is what it had then."""

from __future__ import annotations

import os
from typing import Any

import numpy

from ipython1.kernel.host.sharedmemory import SWITCH
from ipython1.kernel.objects.taskobjects import StringTask
from ipython1.testing.processes import shared_here
from tests.faults.common import Cluster, FaultCase, engine_pids, limit, stopped, timed, until
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

    def test_an_array_comes_as_it_was_before_a_task_began(self) -> None:
        with Cluster(1) as cluster:
            mec, tc = cluster.mec(), cluster.tc()
            warm_up(mec)
            for _ in range(10):
                mec.execute(f"import numpy; a = numpy.zeros({3 * SIZE}, 'u1')")
                pulled = mec.pull("a", block=False)
                changed = tc.run(StringTask("a[:] = 1"), block=False)
                (before,) = pulled.get_result()
                tc.barrier([changed])
                self.assertEqual(before.max(), 0)

    def test_arrays_come_as_they_were_whatever_was_interrupted_meanwhile(self) -> None:
        with Cluster(1) as cluster:
            mec = cluster.mec()
            warm_up(mec)
            for count in range(1, 6):
                mec.execute(f"import numpy; a = [numpy.zeros({SIZE}, 'u1') for _ in range(40)]")
                pulled = mec.pull("a", block=False)
                # It has to wait for copies to be made.
                interrupted = mec.execute("pass", block=False)
                changed = mec.execute("for each in a: each[:] = 1", block=False)
                for _ in range(count):
                    mec.queue_status()
                mec.interrupt()
                (before,) = pulled.get_result()
                timed(interrupted.get_result)
                timed(changed.get_result)
                self.assertEqual([each.max() for each in before], [0] * 40)

    def test_an_array_that_a_thread_changes_comes_as_one(self) -> None:
        self.check_that_it_comes_as_one(
            "def change():\n"
            "    while going:\n"
            "        change_once()\n"
            "import threading; threading.Thread(target=change, daemon=True).start()"
        )

    def test_an_array_that_a_thread_without_name_changes_comes_as_one(self) -> None:
        self.check_that_it_comes_as_one(
            "def change():\n"
            "    while going:\n"
            "        change_once()\n"
            "import _thread; _thread.start_new_thread(change, ())"
        )

    def test_an_array_that_a_signal_handler_changes_comes_as_one(self) -> None:
        self.check_that_it_comes_as_one(
            "import os, signal, subprocess, sys\n"
            "signal.signal(signal.SIGUSR2, lambda *_: change_once())\n"
            "sender = 'import os, time\\nfor _ in range(2000): os.kill(%d, %d); time.sleep(0.01)'\n"
            "command = [sys.executable, '-c', sender % (os.getpid(), signal.SIGUSR2)]\n"
            "sender = subprocess.Popen(command)",
            "sender.kill(); sender.wait()",
        )

    def check_that_it_comes_as_one(self, begin: str, end: str = "") -> None:
        """Check that an array is pulled with all elements equal, while something calls ``change_once``."""
        with Cluster(1) as cluster:
            mec = cluster.mec()
            warm_up(mec)
            mec.execute(
                f"import numpy; a = numpy.zeros({SIZE}, 'u1'); going = True; turn = 0\n"
                "whole = [bytes([n]) * len(a) for n in range(4)]\n"
                "def change_once():\n"
                "    global turn\n"
                "    turn += 1\n"
                "    memoryview(a)[:] = whole[turn % 4]"
            )
            mec.execute(begin)
            until(lambda: mec.pull("turn")[0] > 0, "it is changed")
            for _ in range(10):
                (seen,) = mec.pull("a")
                self.assertEqual(seen.min(), seen.max())
            mec.execute(f"going = False; {end}")

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
