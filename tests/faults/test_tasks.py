"""Faults 9 to 15: code that harms its engine, and too much of everything."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from ipython1.daemon import osprocess
from tests.faults.common import (
    LONG,
    SOON,
    Cluster,
    FaultCase,
    Gate,
    Peak,
    Witness,
    baseline,
    engine_pids,
    limit,
    line_of,
    more_memory,
    rss,
    say,
    timed,
    until,
    user,
)

FAMILY = """
import subprocess, sys
code = '''
import subprocess, time
print(subprocess.Popen(["sleep", "600"]).pid, flush=True)
time.sleep(600)
'''
child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
print(child.pid, child.stdout.readline())
"""


TIMER = """
import signal
def strike(number, frame):
    raise LookupError("the timer")
signal.signal(signal.SIGALRM, strike)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.002)
"""


class TaskFaults(FaultCase):
    def test_09_poison(self) -> None:
        """A task that kills every engine is quarantined after three deaths; its neighbours are not blamed."""
        from ipython1.kernel import client

        def work(number: int) -> int:
            if number == 7:
                os._exit(0)
            return number

        # One engine at a time, so that the neighbours lie behind the poison in its inbox.
        with Cluster(1, ["--restart-engines=20"]) as cluster:
            tc = cluster.tc()
            with baseline(cluster.controller):
                options = {7: 10}
                ids = tc.run_many(
                    [client.MapTask(work, (n,), retries=options.get(n, 0)) for n in range(30)]
                )
                tc.barrier(ids, timeout=SOON)
                results = [tc.get_task_result(each) for each in ids]
            poisoned = results.pop(7)
            self.assertIsInstance(poisoned.failure, client.EngineDied)
            self.assertIn("3 engines died", str(poisoned.failure))
            self.assertEqual([each.result for each in results], [n for n in range(30) if n != 7])

    def test_10_and_13_exit_and_segfault(self) -> None:
        """Code that ends its engine, even with status 0 or by a segfault, is an engine that died, never a success.

        What it has started is gone after it.
        """
        from ipython1.kernel import client

        with Cluster(4) as cluster:
            mec, tc = cluster.mec(), cluster.tc()
            controller = cluster.controller
            ends = ["import os; os._exit(0)", "import ctypes; ctypes.string_at(0)"]
            told = mec.execute(FAMILY, targets=[0, 1])
            families = [list(map(int, each["stdout"].split())) for each in told]
            with baseline(controller):
                with Witness(cluster, 3):
                    for engine, code in enumerate(ends):
                        self.assertTrue(all(map(osprocess.is_alive, families[engine])))
                        with self.assertRaises(client.CompositeError) as raised:
                            mec.execute(code, targets=engine)
                        self.assertIn("EngineDied", str(raised.exception))
                        for pid in families[engine]:
                            until(lambda: not osprocess.is_alive(pid), f"process {pid} is gone", 10)
                for code in ends:
                    result = tc.run(client.Task(code, retries=0), block=True)
                    self.assertIsInstance(result.failure, client.EngineDied)
                until(lambda: mec.get_ids() == [], "all engines have died")
            self.assertEqual(cluster.controller, controller)

    @limit(150)
    def test_11_the_gil_is_held(self) -> None:
        """An engine in a C call that keeps the GIL is busy, not dead; others go on; it can be killed on request."""
        from ipython1.kernel import client

        seconds = 70 if LONG else 3
        with Cluster(2) as cluster, Gate() as first, Gate() as second:
            mec = cluster.mec()
            mec.push({"kept": 1})
            pids = engine_pids(mec)
            with Witness(cluster, 1) as witness:
                busy = mec.execute(first.holds, targets=0, block=False)
                until(lambda: dict(mec.queue_status())[0]["pending"], "the call runs")
                queued = mec.push({"later": 2}, targets=0, block=False)
                enough = witness.calls + 10 * seconds
                until(lambda: witness.calls >= enough, "the other engine goes on", 90)
                self.assertFalse(busy.ready)
                first.let_go()
                self.assertTrue(busy.get_result(timeout=SOON))
                self.assertEqual(queued.get_result(timeout=SOON), [None])
                self.assertEqual(mec.pull(("kept", "later"), targets=0), [[1, 2]])
                # and now one that does not end
                stuck = mec.execute(second.holds, targets=0, block=False)
                until(lambda: dict(mec.queue_status())[0]["pending"], "the call runs")
                took, _ = timed(mec.kill, targets=[0])
                self.assertLess(took, 5)
                with self.assertRaises(client.CompositeError) as raised:
                    stuck.get_result(timeout=SOON)
                self.assertIn("EngineDied", str(raised.exception))
                until(lambda: not osprocess.is_alive(pids[0]), "the killed engine is gone", 10)
            self.assertEqual(mec.get_ids(), [1])

    @limit(120)
    def test_11_a_timer_left_behind(self) -> None:
        """A timer whose handler raises strikes anywhere, again and again: each call and task ends, and none is lost."""
        from ipython1.kernel import client

        with Cluster(1) as cluster:
            mec, tc = cluster.mec(), cluster.tc()
            pids = engine_pids(mec)

            def ends_well(call: Callable[[], object]) -> bool:
                try:
                    call()
                except client.CompositeError as problem:
                    self.assertEqual([type(each) for each in problem.exceptions], [LookupError])
                    return False
                return True

            ends_well(lambda: mec.execute(TIMER))
            calls = [mec.execute(f"a{n} = {n}", block=False) for n in range(400)]
            good = [
                n
                for n, call in enumerate(calls)
                if ends_well(partial(call.get_result, timeout=SOON))
            ]
            good += [n for n in range(400, 500) if ends_well(partial(mec.execute, f"a{n} = {n}"))]
            ids = tc.run_many([client.MapTask(abs, (n,)) for n in range(500)])
            tc.barrier(ids, timeout=SOON)
            results = [tc.get_task_result(each) for each in ids]
            for n, result in enumerate(results):
                if result.failure is None:
                    self.assertEqual(result.result, n)
                else:
                    self.assertIsInstance(result.failure, LookupError)
            off = "signal.setitimer(signal.ITIMER_REAL, 0)"
            until(lambda: ends_well(lambda: mec.execute(off)), "the timer is off")
            failed = sum(result.failure is not None for result in results)
            say(f"{500 - len(good)} calls and {failed} tasks were struck")
            self.assertEqual(mec.pull([f"a{n}" for n in good]), [good])
            self.assertEqual(tc.run(client.MapTask(abs, (-7,)), block=True).result, 7)
            self.assertEqual(engine_pids(mec), pids)

    def test_12_a_memory_hog(self) -> None:
        """Under a limit of memory: a MemoryError of that call or task, or an engine that died; nobody else suffers."""
        from ipython1.kernel import client

        with Cluster(2) as cluster:
            mec, tc = cluster.mec(), cluster.tc()
            bound = more_memory(250)
            mec.execute(bound, targets=0)
            mec.push({"kept": 1})
            with Witness(cluster, 1), baseline(cluster.controller):
                hog = "hog = []\nwhile True: hog.append(bytearray(50_000_000))"
                with self.assertRaises(client.CompositeError) as raised:
                    mec.execute(hog, targets=0, block=False).get_result(timeout=SOON)
                self.assertIn("MemoryError", str(raised.exception))
                mec.execute("del hog", targets=0)
                mec.execute(bound, targets=1)
                task = tc.run(client.Task(hog, retries=1))
                tc.barrier(task, timeout=SOON)
                failure = tc.get_task_result(task).failure
                self.assertIsInstance(failure, (MemoryError, client.EngineDied))
                mec.execute("hog = None")
            self.assertEqual(mec.pull("kept"), [1, 1])

    @limit(240)
    def test_14_a_flood_of_tasks(self) -> None:
        """As many submissions as one client can make: memory is bounded in controller and client, and all complete."""
        count = 1_000_000 if LONG else 40_000
        code = f"""
import resource
tc = client.TaskClient()
def nothing(n): return n
done = 0
ids = []
for start in range(0, {count}, 2000):
    ids += tc.run_many([client.MapTask(nothing, (n,)) for n in range(start, start + 2000)])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, flush=True)
tc.barrier(ids, timeout=200)
print(sum(tc.get_task_result(each).result == n for n, each in enumerate(ids)), flush=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, flush=True)
"""
        with Cluster(2) as cluster, Peak(cluster.controller) as peak:
            before = rss(cluster.controller)
            with Witness(cluster, 1), user(code) as flooding:
                submitted = int(line_of(flooding))
                self.assertEqual(int(line_of(flooding)), count)
                say(f"client {submitted} MB when submitted, {line_of(flooding)} MB at the end")
            per_task = (peak.value - before) * 1e6 / count
            say(f"controller {before:.0f} MB before, {peak.value:.0f} at most: {per_task:.0f} B")
            self.assertLess(peak.value - before, 120 + count * 1200 / 1e6)

    def test_15_a_flood_of_output(self) -> None:
        """A bounded tail arrives, with a mark where it was cut; nobody's memory grows with what was printed."""
        with Cluster(2) as cluster:
            mec = cluster.mec()
            size = 200_000_000
            code = (
                f"line = 'x' * 999\nfor n in range({size // 1000}): print(line)\nprint('the end')"
            )
            pid = engine_pids(mec)[0]
            with Witness(cluster, 1), Peak(cluster.controller) as controller, Peak(pid) as engine:
                before = rss(cluster.controller), rss(pid)
                printed = mec.execute(code, targets=0, block=False).get_result(timeout=60)
                text = printed[0]["stdout"]
            say(f"{len(text)} characters; {before}, then {controller.value} and {engine.value} MB")
            self.assertTrue(text.endswith("the end\n"))
            self.assertLess(len(text), 20_000_000)
            self.assertRegex(text, r"(?i)(dropped|cut|left out|omitted)")
            self.assertLess(controller.value - before[0], 120)
            self.assertLess(engine.value - before[1], 120)
