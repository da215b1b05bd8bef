"""The controller dies.

The cases ``b_controller``, ``t_orphan`` and ``z_dead_results``; where ``ipcluster`` has to mend it, see
``test_supervision``.
"""

from __future__ import annotations

import os
import signal
import threading

from tests.faults.common import (
    SOON,
    Cluster,
    FaultCase,
    Gate,
    Witness,
    baseline,
    engine_pids,
    kill,
    limit,
    line_of,
    say,
    timed,
    until,
    user,
)


class ControllerDeaths(FaultCase):
    @limit(120)
    def test_b_controller_killed(self) -> None:
        """Waits of every kind go on across two deaths of the controller; nothing is new but its process."""
        from ipython1.kernel import client

        with Cluster(2) as cluster, Gate() as gate:
            mec, tc = cluster.mec(), cluster.tc()
            mec.push({"kept": 42})
            pids = engine_pids(mec)

            def add(x: int, y: int) -> int:
                import time

                time.sleep(0.01)
                return x + y

            slow = mec.execute(f"{gate.waits}; slow = 1", targets=0, block=False)
            ids = tc.run_many(
                [client.Task("import time; time.sleep(0.02); n = 1", pull="n") for _ in range(200)]
            )
            mapped = tc.mapper(block=False).map(add, range(100), range(100))
            future = mec.executor(targets=1).submit(add, 1, 2)
            waiting = threading.Thread(target=tc.barrier, args=(ids,), daemon=True)
            waiting.start()
            for _ in range(2):
                old = cluster.controller
                kill(old)
                took, told = timed(mec.get_ids)
                say(f"a new call after the death took {took:.2f} s")
                self.assertEqual(told, [0, 1])
                self.assertNotEqual(cluster.controller, old)
            self.assertFalse(slow.ready)
            gate.let_go()
            self.assertTrue(slow.get_result(timeout=SOON))
            self.assertEqual(future.result(SOON), 3)
            self.assertEqual(mapped.get_result(timeout=SOON), [2 * n for n in range(100)])
            waiting.join(SOON)
            self.assertFalse(waiting.is_alive(), "the barrier goes on")
            self.assertEqual([tc.get_task_result(each)["n"] for each in ids], [1] * 200)
            self.assertEqual((mec.pull("kept"), mec.pull("slow", targets=0)), ([42, 42], [1]))
            self.assertEqual(engine_pids(mec), pids)
            self.assertEqual(tc.queue_status()["failed"], 0)

    @limit(120)
    def test_t_orphan(self) -> None:
        """A new controller knows what its engines still run: its status is true, and interrupt works."""
        from ipython1.kernel import client

        with Cluster(1) as cluster:
            mec = cluster.mec()
            slow = mec.execute("import time; time.sleep(60)", block=False)
            until(lambda: dict(mec.queue_status())[0]["pending"], "it runs")
            old = cluster.controller
            kill(old)
            status = dict(mec.queue_status())[0]
            self.assertTrue(status["pending"] or "away" in status, status)
            until(lambda: dict(mec.queue_status())[0]["pending"], "it is known that it runs")
            later = mec.execute("print('next')", block=False)
            mec.interrupt()
            with self.assertRaises(client.CompositeError) as raised:
                slow.get_result(timeout=SOON)
            self.assertIn("KeyboardInterrupt", str(raised.exception))
            self.assertEqual(later.get_result(timeout=SOON)[0]["stdout"], "next\n")
            self.assertNotEqual(cluster.controller, old)

    @limit(120)
    def test_z_dead_results(self) -> None:
        """A client dies while its tasks run: a new one gets all of their results, whatever their size in total."""
        count = 120
        code = f"""
tc = client.TaskClient()
def big(n):
    return bytes([n % 256]) * 1_000_000
ids = tc.run_many([client.MapTask(big, (n,)) for n in range({count})])
tc.flush()
print(ids[0], flush=True)
import time
time.sleep(600)
"""
        with Cluster(2) as cluster:
            tc = cluster.tc()
            with baseline(cluster.controller, memory=130), Witness(cluster, 1):
                with user(code) as dying:
                    first = int(line_of(dying))
                    ids = range(first, first + count)
                    os.kill(dying.pid, signal.SIGKILL)
                until(lambda: tc.queue_status()["succeeded"] == count, "all have run", 60)
                good = 0
                for number, task in enumerate(ids):
                    value = tc.get_task_result(task, block=True).result
                    good += value == bytes([number % 256]) * 1_000_000
                self.assertEqual(good, count)
            self.assertEqual(set(ids) - {each.taskid for each in tc.history(count)}, set())
