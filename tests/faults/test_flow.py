"""Slow, busy and frozen parties: each is waited for, at bounded cost, and never cut off.

The cases ``n_slow_link``, ``o_busy``, ``l_bulk_flood``, ``u_frozen``, ``m3`` and ``m_no_memory``.
"""

from __future__ import annotations

import os
import signal
import struct
import uuid
from typing import Any

from tests.faults.common import (
    CACHE,
    LONG,
    SOON,
    Cluster,
    FaultCase,
    Gate,
    Ledger,
    Peak,
    Witness,
    baseline,
    engine_pids,
    limit,
    line_of,
    more_memory,
    say,
    stopped,
    timed,
    until,
    user,
)
from tests.proxy import Proxy

MOST = 250.0
"""MB that the controller may ever need."""

BIG = """
tc = client.TaskClient({address})
def big(n):
    return bytes({size})
ids = tc.run_many([client.MapTask(big, (n,)) for n in range({count})])
tc.flush()
print(ids[0], flush=True)
"""

CHECK = """
tc.barrier(ids, timeout={timeout})
good = sum(len(tc.get_task_result(each).result) == {size} for each in ids)
print(good, flush=True)
"""


class SlowReaders(FaultCase):
    @limit(300 if LONG else 200)
    def test_19_clients_that_do_not_read(self) -> None:
        """One is stopped, one computes in C: memory is capped, others are served, and both get everything in the end.

        A third one is killed while it is stopped, and leaves nothing behind in memory.
        """
        count = 500 if LONG else 150
        stops = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
        values = {"address": "", "size": 1_000_000, "count": count, "timeout": 100}
        with Cluster(2) as cluster, Peak(cluster.controller) as peak, Gate() as gate:
            tc = cluster.tc()

            def all_run(number: int) -> bool:
                return bool(tc.queue_status()["succeeded"] == number)

            with baseline(cluster.controller, memory=CACHE), Witness(cluster, 1):
                with (
                    user((BIG + stops + CHECK).format(**values)) as reader,
                    user((BIG + gate.holds + CHECK).format(**values)) as busy,
                ):
                    first = int(line_of(reader))
                    line_of(busy)
                    until(lambda: all_run(2 * count), "all have run", 60)
                    say(f"controller {peak.value:.0f} MB while nobody reads")
                    # Silence of the process is not silence of its network: it is still connected.
                    os.kill(reader.pid, signal.SIGCONT)
                    gate.let_go()
                    self.assertEqual(int(line_of(reader)), count)
                    self.assertEqual(int(line_of(busy)), count)
                with user((BIG + stops).format(**values)) as dying:
                    line_of(dying)
                    until(lambda: all_run(3 * count), "all have run", 60)
                result = tc.get_task_result(first + count - 1, block=True).result
                self.assertEqual(result, bytes(1_000_000))
            say(f"controller {peak.value:.0f} MB at most")
            self.assertLess(peak.value, MOST)

    @limit(1200 if LONG else 200)
    def test_n_slow_link(self) -> None:
        """A client reads all the time, slowly: it gets all results, of tasks and of direct calls."""
        rate, count = (1e6, 400) if LONG else (8e6, 30)
        direct = """
mec = client.MultiEngineClient({address})
mec.execute("big = bytes({size})")
calls = [mec.pull("big", targets=n % 2, block=False) for n in range({count})]
print(sum(len(each.get_result(timeout={timeout})[0]) == {size} for each in calls), flush=True)
"""
        with Cluster(2) as cluster, Peak(cluster.controller) as peak:
            with Proxy(_port()) as proxy, Witness(cluster, 1):
                proxy.down.rate = rate
                values = {
                    "address": ("127.0.0.1", proxy.port),
                    "size": 1_000_000,
                    "count": count,
                    "timeout": 600 if LONG else 60,
                }
                with user((BIG + CHECK).format(**values)) as tasks:
                    line_of(tasks)
                    self.assertEqual(int(line_of(tasks)), count)
                with user(direct.format(**values)) as calls:
                    self.assertEqual(int(line_of(calls)), count)
                self.assertEqual(proxy.accepted, 2, "the client had to connect again")
            say(f"controller {peak.value:.0f} MB at most")
            self.assertLess(peak.value, MOST)


class BusyEngines(FaultCase):
    @limit(200)
    def test_o_busy_and_stopped_engines(self) -> None:
        """Pushes of 1 MB wait for an engine in a C call and for one that is stopped: all complete, at bounded cost."""
        count = 1000 if LONG else 150
        with Cluster(3) as cluster, Gate() as gate:
            mec = cluster.mec()
            pids = engine_pids(mec)
            with (
                baseline(cluster.controller, memory=CACHE),
                Peak(cluster.controller) as peak,
                Witness(cluster, 2),
            ):
                with stopped(pids[1]):
                    calls = [mec.execute(gate.holds, targets=0, block=False)]
                    calls += [
                        mec.push({f"a{n}": bytes(1_000_000)}, targets=engine, block=False)
                        for n in range(count)
                        for engine in (0, 1)
                    ]
                    until(
                        lambda: all(dict(mec.queue_status())[n]["queue"] for n in (0, 1)),
                        "calls wait",
                    )
                gate.let_go()
                for each in calls:
                    each.get_result(timeout=100)
                self.assertEqual(mec.get_ids(), [0, 1, 2])
                found = mec.execute(
                    f"print(sum(len(globals()[f'a{{n}}']) for n in range({count})))",
                    targets=[0, 1],
                )
                self.assertEqual([int(each["stdout"]) for each in found], [count * 1_000_000] * 2)
            say(f"controller {peak.value:.0f} MB at most")
            self.assertLess(peak.value, MOST)

    @limit(150)
    def test_u_frozen(self) -> None:
        """Tasks with time limits and retries do not wait for an engine that freezes."""
        from ipython1.kernel import client

        with Cluster(2) as cluster, Ledger() as ledger:
            mec, tc = cluster.mec(), cluster.tc()
            pids = engine_pids(mec)
            with stopped(pids[0]):
                took = timed(self.run_frozen, tc, client)
                say(f"100 tasks of which some lay on a frozen engine took {took[0]:.1f} s")
                self.assertEqual(took[1], list(range(100)))
                status = cluster.run_command("ipcluster", "status").stdout
                # It is killed in the end, as it does not let go of a task whose time is up.
                self.assertRegex(status, r"(?i)engine 0.*(stopped|SIGKILL)", status)
            others = tc.run_many([ledger.task(n, 0.1) for n in range(20)])
            tc.barrier(others, timeout=SOON)
            self.assertEqual(ledger.runs(), dict.fromkeys(range(20), 1))
            self.assertIn(1, mec.get_ids())

    def run_frozen(self, tc: Any, client: Any) -> list[int]:
        ids = [tc.run(client.Task(f"n = {n}", pull="n", timeout=2, retries=3)) for n in range(100)]
        tc.barrier(ids, timeout=60)
        return [tc.get_task_result(each).ns.n for each in ids]


class NoMemory(FaultCase):
    @limit(120)
    def test_m3_client(self) -> None:
        """A client has no memory for a result: that call, or waiting for that task, fails and says so."""
        code = (
            """
tc, mec = client.TaskClient(), client.MultiEngineClient()
task = tc.run(client.Task("b = bytes(200_000_000)", pull="b"))
mec.execute("b = bytes(200_000_000)")
"""
            + more_memory(100)
            + """
def told(call):
    try:
        call()
    except Exception as problem:
        return f"{type(problem).__name__} {problem}".replace(chr(10), " ")
    return "nothing"
print(told(mec.pull("b", targets=0, block=False).get_result), flush=True)
tc.barrier([task], timeout=40)
print(told(tc.get_task_result(task).raise_exception), flush=True)
print(mec.execute("print(7)")[0]["stdout"].strip(), tc.run(client.Task("a = 8", pull="a"), block=True)["a"], flush=True)
"""
        )
        with Cluster(2) as cluster, baseline(cluster.controller, memory=CACHE, files=2):
            with user(code) as poor:
                for _ in range(2):
                    said = line_of(poor)
                    say(said)
                    self.assertRegex(said, "(?i)memory")
                    self.assertRegex(said, "(?i)client")
                self.assertEqual(line_of(poor), "7 8")
                # Who has the memory gets it all the same.
                result = cluster.tc().get_task_result(0, block=True)
                self.assertEqual(len(result["b"]), 200_000_000)

    @limit(150)
    def test_m_no_memory_task(self) -> None:
        """An engine has no memory for a task's data: the task fails and says so, and the next one runs."""
        from ipython1.kernel import client

        with Cluster(1) as cluster:
            mec, tc = cluster.mec(), cluster.tc()
            pids = engine_pids(mec)
            mec.execute(more_memory(100))
            big = bytes(200_000_000)
            with baseline(cluster.controller, memory=CACHE), Witness(cluster, None):
                task = tc.run(client.Task("n = len(m)", push={"m": big}, pull="n"))
                behind = tc.run(client.Task("n = 5", pull="n"))
                tc.barrier([task, behind], timeout=60)
                failure = tc.get_task_result(task).failure
                self.assertRegex(str(failure), "(?i)memory")
                self.assertIn("engine 0", str(failure))
                self.assertEqual(tc.get_task_result(behind)["n"], 5)
                tc.clear()
                del big
            self.assertEqual(engine_pids(mec), pids)


class BulkFlood(FaultCase):
    def test_l_bulk_flood(self) -> None:
        """A party opens transfers that nothing names: memory is capped, the others are served."""
        with Cluster(2) as cluster, baseline(cluster.controller, memory=CACHE, files=2):
            with Witness(cluster, 1), Peak(cluster.controller) as peak:
                for furl in ("mec", "tc", "engine"):
                    self.flood(cluster, furl)
                    say(f"after a flood through {furl}: {peak.value:.0f} MB")
            self.assertLess(peak.value, MOST)

    def flood(self, cluster: Cluster, furl: str) -> None:
        """Open 150 transfers, and send a window of each: 600 MB."""
        from twisted.internet import defer, reactor, threads

        from ipython1.kernel.host.hosts import host_identity
        from ipython1.kernel.tub import tubs
        from ipython1.kernel.tub.gate import register
        from ipython1.kernel.wire import frames, messages
        from ipython1.kernel.wire.link import FrameLink, TurnFlusher

        role = {"mec": messages.MULTIENGINE, "tc": messages.TASK, "engine": messages.ENGINE}[furl]

        class Deaf:
            def frame_received(self, *frame: Any) -> None:
                pass

            def link_lost(self, reason: str) -> None:
                pass

        async def act() -> None:
            tub = tubs.make_tub()
            path = cluster.ipython_dir / "security" / f"ipcontroller-{furl}.furl"
            gate = await tubs.connect(tub, path.read_text().strip(), 10, reactor)
            link = FrameLink(TurnFlusher(lambda f: reactor.callLater(0, f)), Deaf())
            mine = {"uuid": uuid.uuid4().hex, "pid": os.getpid(), "host": host_identity()}
            await register(gate, messages.Hello(role=role, **mine), link, 10, reactor)
            piece = bytes(frames.PIECE_SIZE)
            for number in range(1000, 1150):
                link.send(frames.BULK_OPEN, number, b"", struct.pack("<IQ", 1, 10 * len(piece)))
                for _ in range(8):
                    link.send(frames.BULK_PIECE, number, b"", piece)
                if number % 5 == 0:
                    pause: defer.Deferred[None] = defer.Deferred()
                    reactor.callLater(0.01, pause.callback, None)
                    await pause
                if link.lost:
                    break
            await tubs.close(tub)

        threads.blockingCallFromThread(reactor, lambda: defer.Deferred.fromCoroutine(act()))


def _port() -> int:
    from ipython1.kernel import client

    port: int = client.default_mec_address[1]
    return port
