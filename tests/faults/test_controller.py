"""The controller dies, freezes, or cannot come back.

The cases ``b_controller``, ``t_orphan``, ``x_port`` and ``z_dead_results``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading

from ipython1.daemon import osprocess
from tests.faults.common import (
    SOON,
    Cluster,
    FaultCase,
    Witness,
    baseline,
    engine_pids,
    kill,
    limit,
    line_of,
    say,
    stopped,
    timed,
    until,
    user,
)


def another_controller(cluster: Cluster, old: int) -> int:
    """Wait for a controller that is not ``old``; returns its process id."""

    def there() -> int:
        with contextlib.suppress(ValueError, OSError):
            pid = cluster.controller
            return pid if pid != old and osprocess.is_alive(pid) else 0
        return 0

    return until(there, "another controller")


def thieve(address: tuple[str, int]) -> socket.socket | None:
    """Listen at an address; None if somebody else does."""
    try:
        return socket.create_server(address, reuse_port=False)
    except OSError:
        return None


class ControllerDeaths(FaultCase):
    @limit(120)
    def test_b_controller_killed(self) -> None:
        """Waits of every kind go on across two deaths of the controller; nothing is new but its process."""
        from ipython1.kernel import client

        with Cluster(2) as cluster:
            mec, tc = cluster.mec(), cluster.tc()
            mec.push({"kept": 42})
            pids = engine_pids(mec)

            def add(x: int, y: int) -> int:
                import time

                time.sleep(0.01)
                return x + y

            slow = mec.execute("import time; time.sleep(4); slow = 1", targets=0, block=False)
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
            self.assertTrue(slow.get_result(timeout=SOON))
            self.assertEqual(future.result(SOON), 3)
            self.assertEqual(mapped.get_result(timeout=SOON), [2 * n for n in range(100)])
            waiting.join(SOON)
            self.assertFalse(waiting.is_alive(), "the barrier goes on")
            self.assertEqual([tc.get_task_result(each)["n"] for each in ids], [1] * 200)
            self.assertEqual((mec.pull("kept"), mec.pull("slow", targets=0)), ([42, 42], [1]))
            self.assertEqual(engine_pids(mec), pids)
            self.assertEqual(tc.queue_status()["failed"], 0)

    @limit(150)
    def test_b_controller_stopped(self) -> None:
        """A frozen controller is noticed, and said; everybody goes on when it is back."""
        with Cluster(2) as cluster:
            mec, tc = cluster.mec(), cluster.tc()
            pid = cluster.controller
            answers: list[object] = []
            asking = threading.Thread(target=lambda: answers.append(mec.get_ids()), daemon=True)
            with stopped(pid):
                asking.start()
                until(lambda: "no sign of life" in cluster.printed(), "it is said", 40)
                self.assertEqual(answers, [])
            asking.join(SOON)
            self.assertEqual((answers, cluster.controller), ([[0, 1]], pid))
            self.assertEqual(tc.queue_status()["failed"], 0)

    @limit(120)
    def test_b_stop_force(self) -> None:
        """``ipcluster stop --force`` ends a cluster whose controller and ``ipcluster`` are frozen."""
        with Cluster(2) as cluster:
            pids = engine_pids(cluster.mec())
            all_pids = [cluster.ipcluster, cluster.controller, *pids.values()]
            with stopped(cluster.controller, cluster.ipcluster):
                took, done = timed(cluster.run_command, "ipcluster", "stop", "--force")
                say(f"it took {took:.1f} s:", done)
                self.assertEqual(done.returncode, 0)
                until(lambda: not any(map(osprocess.is_alive, all_pids)), "all are gone")

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
    def test_x_port(self) -> None:
        """Somebody else has the port of a dead controller: it is waited for, and nobody healthy is ended."""
        from ipython1.kernel import client

        with Cluster(2) as cluster:
            mec = cluster.mec()
            mec.push({"kept": 1})
            pids = engine_pids(mec)
            address = client.default_mec_address
            # The new controller must not be faster than the thief.
            with stopped(cluster.ipcluster):
                kill(cluster.controller)
                thief = until(lambda: thieve(address), "the port is free")
            with thief:
                until(lambda: cluster.log().count("cannot listen") >= 3, "it tries again", 40)
                self.assertTrue(all(map(osprocess.is_alive, pids.values())))
                self.assertIsNone(cluster.process.poll())
                said = timed(client.MultiEngineClient, timeout=3)
                self.assertIsInstance(said[1], (client.ConnectionError, client.ProtocolError))
            self.assertEqual(until(lambda: mec.pull("kept"), "it is back", 40), [1, 1])
            self.assertEqual(engine_pids(mec), pids)

    @limit(120)
    def test_z_dead_results(self) -> None:
        """A client dies while its tasks run: a new one gets all of their results, whatever their size in total."""
        count = 200
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
