"""Faults 1 to 8: processes that die or freeze."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

from ipython1.daemon import osprocess
from tests.faults.common import (
    LONG,
    SOON,
    Cluster,
    FaultCase,
    Ledger,
    Tally,
    Witness,
    baseline,
    engine_behind,
    engine_pids,
    kill,
    limit,
    line_of,
    only_where,
    results_of,
    stopped,
    timed,
    until,
    user,
)
from tests.proxy import Proxy


def controller_port() -> int:
    from ipython1.kernel import client

    port: int = client.default_mec_address[1]
    return port


def succeeded(count: int) -> dict[str, int]:
    """What ``queue_status`` says when that many tasks have succeeded, and there are no others."""
    return {"scheduled": 0, "pending": 0, "succeeded": count, "failed": 0}


class EngineDeaths(FaultCase):
    def test_01_killed_in_a_task(self) -> None:
        """It is retried elsewhere, or fails with an error that names the engine."""
        from ipython1.kernel import client

        with Cluster(4) as cluster, Ledger() as ledger:
            mec, tc = cluster.mec(), cluster.tc()
            pids = engine_pids(mec)
            with Witness(cluster, 3), baseline(cluster.controller):
                mec.set_properties({"doomed": True}, targets=[0, 1, 2])
                depend = only_where("doomed")
                retried = tc.run(ledger.task(0, 1.5, retries=1, depend=depend))
                fails = tc.run(ledger.task(1, 600, depend=depend))
                tc.flush()
                until(lambda: len(ledger.runs()) == 2, "both run")
                ran_on = {number: pid for _, number, pid, _ in ledger.lines()}
                for pid in ran_on.values():
                    kill(pid)
                result = tc.get_task_result(fails, block=True)
                self.assertIsInstance(result.failure, client.EngineDied)
                engine = next(key for key, pid in pids.items() if pid == ran_on[1])
                self.assertIn(f"engine {engine}", str(result.failure))
                number, pid = tc.get_task_result(retried, block=True).result
                self.assertEqual(number, 0)
                self.assertNotEqual(pid, ran_on[0])
                self.assertEqual(ledger.runs(), {0: 2, 1: 1})

    def test_02_and_03_results_that_are_lost_or_come_again(self) -> None:
        """The controller stored a result, and its confirmation is lost: what the engine sends again is dropped.

        An engine computed, but is killed before anybody has the result: the task runs again, and gives one result.
        """
        with Cluster(1) as cluster, Proxy(controller_port()) as proxy, Ledger() as ledger:
            mec, tc = cluster.mec(), cluster.tc()
            with engine_behind(cluster, proxy) as (process, engine):
                mec.kill(targets=[0])  # so that the engine behind the proxy is the only one
                pid = engine_pids(mec)[engine]
                mec.push({"kept": 7})
                with Witness(cluster, None):
                    tasks = tc.run_many([ledger.task(n, 0.3) for n in range(4)])
                    until(lambda: ledger.runs()[0], "the first runs")
                    proxy.down.silence()  # what the engine is told from now on is lost
                    tc.barrier(tasks[0], timeout=SOON)
                    proxy.reset()
                    proxy.speak()
                    tc.barrier(tasks, timeout=SOON)
                    self.assertEqual(results_of(tc, tasks), [(n, pid) for n in range(4)])
                    self.assertEqual(ledger.runs(), dict.fromkeys(range(4), 1))
                    self.assertEqual(mec.pull("kept"), [7])
                    self.assertEqual(tc.queue_status(), succeeded(4))
                    proxy.up.silence()
                    task = tc.run(ledger.task(4, retries=1))
                    until(
                        lambda: any(line[:2] == ("ended", 4) for line in ledger.lines()), "it ran"
                    )
                    process.kill()
                    process.wait()
                    proxy.reset()
                    self.assertFalse(
                        cluster.run_command("ipcluster", "engines", "-n", "1").returncode
                    )
                    number, pid = tc.get_task_result(task, block=True).result
            self.assertEqual(ledger.runs(), dict.fromkeys(range(4), 1) | {4: 2})
            self.assertEqual(number, 4)
            self.assertEqual([pid], list(engine_pids(mec).values()))
            self.assertEqual(tc.queue_status(), succeeded(5))

    def test_04_frozen_and_back(self) -> None:
        """A frozen engine's task runs elsewhere after its time limit; the late result changes nothing."""
        with Cluster(2) as cluster, Ledger() as ledger:
            mec, tc = cluster.mec(), cluster.tc()
            pids = engine_pids(mec)
            task = tc.run(ledger.task(0, 1.0, retries=2, timeout=4))
            tc.flush()
            until(lambda: ledger.runs()[0], "it runs")
            frozen = ledger.lines()[0][2]
            other = next(pid for pid in pids.values() if pid != frozen)
            with Witness(cluster, next(key for key, pid in pids.items() if pid == other)):
                with stopped(frozen):
                    result = tc.get_task_result(task, block=True).result
                    self.assertEqual(result, (0, other))
                until(
                    lambda: mec.pull("__name__", targets="all"), "the engine that was frozen works"
                )
                self.assertEqual(tc.get_task_result(task).result, (0, other))
            ends = [line for line in ledger.lines() if line[0] == "ended"]
            self.assertEqual([line[2] for line in ends], [other], "the stale attempt was stopped")
            status = succeeded(1)
            self.assertEqual(tc.queue_status(), status)


class Everything(FaultCase):
    @limit(240)
    def test_05_controller_killed_under_load(self) -> None:
        """Whatever was submitted gets one outcome and runs once; engines keep their namespaces and ids."""
        kills, count = (40, 20_000) if LONG else (4, 800)
        with Cluster(2) as cluster, Ledger() as ledger:
            mec, tc = cluster.mec(), cluster.tc()
            mec.push({"kept": 42})
            pids = engine_pids(mec)
            furls = {
                path: path.read_text() for path in (cluster.ipython_dir / "security").glob("*.furl")
            }
            over = threading.Event()
            ids: list[int] = []
            commands: list[Any] = []

            def load() -> None:
                for number in range(count):
                    ids.append(tc.run(ledger.task(number, 0.002)))
                    if number % 20 == 0:
                        code = f"done = globals().get('done', []); done.append({number})"
                        commands.append(mec.execute(code, block=False))
                    if number % 100 == 0:
                        over.wait(0.05)

            loading = threading.Thread(target=load, daemon=True)
            with Witness(cluster, 1, patience=20):
                loading.start()
                chance = self.random
                for _ in range(kills):
                    old = cluster.controller
                    over.wait(chance.uniform(0.1, 1.5))
                    kill(old)
                    until(
                        lambda: (
                            cluster.controller != old and osprocess.is_alive(cluster.controller)
                        ),
                        "a new one",
                    )
                loading.join(SOON)
                self.assertFalse(loading.is_alive(), "submitting goes on")
                tc.barrier(ids, timeout=60)
                for pending in commands:
                    pending.get_result(timeout=SOON)
            results = results_of(tc, ids)
            failed = [each for each in results if isinstance(each, Exception)]
            self.assertEqual(failed, [])
            Tally.of(range(count), range(count), [number for number, _ in results]).check()
            again = {number: times for number, times in ledger.runs().items() if times > 1}
            self.assertEqual(again, {}, "tasks that ran twice")
            self.assertEqual(mec.pull("done"), [list(range(0, count, 20))] * 2)
            self.assertEqual((mec.pull("kept"), engine_pids(mec)), ([42, 42], pids))
            self.assertEqual({path: path.read_text() for path in furls}, furls)
            tally = succeeded(count)
            self.assertEqual(tc.queue_status(), tally)

    def test_06_client_killed_in_a_push(self) -> None:
        """Nothing is half written; its tasks finish, and their results are there for a new client."""
        code = """
import os
tc, mec = client.TaskClient(), client.MultiEngineClient()
def square(n):
    import time
    time.sleep(0.01)
    return n * n
ids = tc.run_many([client.MapTask(square, (n,)) for n in range(100)])
tc.flush()
print(ids[0], flush=True)
mec.push({"first": 1, "half": bytes(150_000_000), "last": 1})
"""
        with Cluster(2) as cluster:
            mec, tc = cluster.mec(), cluster.tc()
            with Witness(cluster, 1), baseline(cluster.controller, memory=60):
                for pause in (0.02, 0.1):
                    with user(code) as dying:
                        first = int(line_of(dying))
                        time.sleep(pause)
                    there = mec.execute(
                        "print([n in globals() for n in ('first', 'half', 'last')])"
                    )
                    said = {each["stdout"] for each in there}
                    self.assertEqual(len(said), 1, said)
                    self.assertIn(said.pop(), ("[False, False, False]\n", "[True, True, True]\n"))
                    mec.execute("for n in ('first', 'half', 'last'): globals().pop(n, None)")
                    ids = range(first, first + 100)
                    tc.barrier(list(ids), timeout=SOON)
                    self.assertEqual(results_of(tc, ids), [n * n for n in range(100)])
                del there

    @limit(150)
    def test_07_everything_killed_and_started_again(self) -> None:
        """Queued tasks resume, and what had finished is still there."""
        count = 200
        code = f"""
import sys
tc = client.TaskClient()
def note(n, path={{path!r}}):
    import os, time
    time.sleep(0.02)
    with open(path, "a") as file:
        file.write(f"{{{{n}}}}\\n")
    return n
ids = tc.run_many([client.MapTask(note, (n,)) for n in range({count})])
tc.flush()
print(ids[0], flush=True)
sys.stdin.read()
import time
time.sleep(600)
"""
        from pathlib import Path

        directory = Path(os.environ["IPYTHONDIR"])
        with Ledger() as ledger:
            with Cluster(2, directory=directory) as cluster:
                with user(code.format(path=str(ledger.path))) as submitting:
                    first = int(line_of(submitting))
                    until(lambda: len(ledger.path.read_text().split()) > 20, "some have run")
                    pids = [
                        cluster.ipcluster,
                        cluster.controller,
                        *engine_pids(cluster.mec()).values(),
                    ]
                    for pid in [submitting.pid, *pids]:
                        osprocess.send_signal(pid, signal.SIGKILL)
                until(lambda: not any(map(osprocess.is_alive, pids)), "all are dead")
            with Cluster(2, directory=directory) as cluster:
                tc = cluster.tc()
                ids = list(range(first, first + count))
                tc.barrier(ids, timeout=60)
                self.assertEqual(results_of(tc, ids), list(range(count)))
                runs = list(map(int, ledger.path.read_text().split()))
            # What ran has run again, and what had just run: its result is written within about 0.1 s, if need be, and
            # only engine and controller had it.  Nothing else has.
            self.assertLessEqual(len(runs), count + 2 * 10)
            Tally.of(range(count), range(count), set(runs)).check()

    def test_08_two_controllers(self) -> None:
        """The second on the same state refuses to start, and says why; the first is not disturbed."""
        with Cluster(1) as cluster:
            controller = cluster.controller
            with Witness(cluster, 0):
                for arguments in ((), ("--client-port=0",)):
                    _, second = timed(cluster.run_command, "ipcontroller", *arguments)
                    self.assertEqual(second.returncode, 1, second)
                    self.assertIn("already runs", second.stderr)
                    self.assertEqual(len(second.stderr.splitlines()), 1, second.stderr)
            self.assertEqual(cluster.controller, controller)
