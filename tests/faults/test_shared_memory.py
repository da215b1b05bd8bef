"""Large data through shared memory: nothing is left after a death, nobody waits for a reader, and values are kept."""

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
        print(soak(40, self.random.randrange(10**6), pause=0.8))

    def test_all_who_live_use_it_and_give_it_back(self) -> None:
        """A stopped engine keeps nobody waiting; tasks and maps use it too; what is not used is given back."""
        array = numpy.arange(SIZE // 8)
        with Cluster(2) as cluster:
            mec, tc = cluster.mec(), cluster.tc()
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
            arrays = tc.map(numpy.arange, [SIZE // 8 + n for n in range(8)])
            self.assertEqual([len(each) for each in arrays], [SIZE // 8 + n for n in range(8)])
            self.assertTrue(
                all(numpy.array_equal(each, numpy.arange(len(each))) for each in arrays)
            )
            del back, arrays
            tc.clear()
            warm_up(mec)
            everybody = [cluster.controller, *pids.values(), os.getpid()]
            self.assertTrue(all(shared_here(pid) for pid in everybody))
            until(lambda: not any(shared_here(pid) for pid in everybody), "all is given back")

    def test_an_array_comes_as_it_was_when_it_was_pulled(self) -> None:
        """Whatever changes it meanwhile: a command, a task, or what comes after an interrupt."""
        with Cluster(1) as cluster:
            mec, tc = cluster.mec(), cluster.tc()
            warm_up(mec)
            self.check_before_a_command(mec)
            self.check_before_a_task(mec, tc)
            self.check_before_an_interrupt(mec)

    def check_before_a_command(self, mec: Any) -> None:
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

    def check_before_a_task(self, mec: Any, tc: Any) -> None:
        for _ in range(5):
            mec.execute(f"import numpy; a = numpy.zeros({3 * SIZE}, 'u1')")
            pulled = mec.pull("a", block=False)
            changed = tc.run(StringTask("a[:] = 1"), block=False)
            (before,) = pulled.get_result()
            tc.barrier([changed])
            self.assertEqual(before.max(), 0)

    def check_before_an_interrupt(self, mec: Any) -> None:
        for count in range(1, 4):
            mec.execute(f"import numpy; a = [numpy.zeros({SIZE}, 'u1') for _ in range(20)]")
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
            self.assertEqual([each.max() for each in before], [0] * 20)

    def test_an_array_that_changes_all_the_time_comes_as_one(self) -> None:
        """A thread changes it, one without a name, or a signal handler."""
        thread = "def change():\n    while going:\n        change_once()\n"
        sender = "import os, time\nfor _ in range(2000): os.kill(%d, %d); time.sleep(0.01)"
        with Cluster(1) as cluster:
            mec = cluster.mec()
            warm_up(mec)
            for begin, end in (
                (
                    f"{thread}import threading; changing = threading.Thread(target=change)\n"
                    "changing.start()",
                    "changing.join()",
                ),
                (
                    f"{thread}over = False\n"
                    "def change_to_the_end():\n    global over\n    change()\n    over = True\n"
                    "import _thread; _thread.start_new_thread(change_to_the_end, ())",
                    "import time\nwhile not over: time.sleep(0.01)",
                ),
                (
                    "import os, signal, subprocess, sys\n"
                    "signal.signal(signal.SIGUSR2, lambda *_: change_once())\n"
                    f"command = [sys.executable, '-c', {sender!r} % (os.getpid(), signal.SIGUSR2)]\n"
                    "sender = subprocess.Popen(command)",
                    "sender.kill(); sender.wait()",
                ),
            ):
                self.check_that_it_comes_as_one(mec, begin, end)

    def check_that_it_comes_as_one(self, mec: Any, begin: str, end: str) -> None:
        """Check that an array is pulled with all elements equal, while something calls ``change_once``."""
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
        mec.execute(f"going = False\n{end}")

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
