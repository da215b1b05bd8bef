"""Faults 5, 11 and 28 where ``ipcluster`` mends them: a controller that cannot start, parties that are stuck."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.trial import unittest

from ipython1.daemon import osprocess
from tests.faults.common import (
    SOON,
    Cluster,
    FaultCase,
    Gate,
    Ledger,
    Witness,
    engine_pids,
    kill,
    limit,
    say,
    stopped,
    timed,
    until,
)


def ipcluster(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``ipcluster`` for this cluster, to its end."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "ipython1.kernel.scripts.ipcluster", *arguments],
        env={**cluster.environ, "IPYTHONDIR": str(cluster.ipython_dir)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SOON,
        check=False,
    )


def status(cluster: Cluster) -> dict[str, Any]:
    """What ``ipcluster status --json`` says."""
    content: dict[str, Any] = json.loads(ipcluster(cluster, "status", "--json").stdout)
    return content


def address_of(cluster: Cluster) -> tuple[str, int]:
    """Where the controller listens, by its FURL file."""
    furl = (cluster.ipython_dir / "security" / "ipcontroller-mec.furl").read_text().strip()
    host, port = furl.partition("@")[2].partition("/")[0].split(",")[-1].split(":")[-2:]
    return host, int(port)


@contextlib.contextmanager
def taken(host: str, port: int) -> Iterator[None]:
    """Listen at an address in place of the one who did."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        until(lambda: _binds(other, host, port), f"{host}:{port} is free")
        other.listen()
        yield


def _binds(other: socket.socket, host: str, port: int) -> bool:
    try:
        other.bind((host, port))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """A file system of its own."""
    folder = Path(os.environ["TMPDIR"]) / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        raise unittest.SkipTest("mounting a small file system is not permitted") from None
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


@contextlib.contextmanager
def cluster_on_small_disk(engines: int, size: str) -> Iterator[Cluster]:
    """A cluster whose files, and those of this test's clients, are on a file system of its own."""
    with small_disk(size) as disk, Cluster(engines, environ={"IPYTHONDIR": str(disk)}) as cluster:
        cluster.ipython_dir, made = disk, cluster.ipython_dir
        os.environ["IPYTHONDIR"] = str(disk)
        try:
            yield cluster
        finally:
            shutil.rmtree(made, ignore_errors=True)


def fill(path: Path) -> None:
    """Write until nothing more fits on the disk."""
    for block in (512, 1):
        with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(block))


class ControllerStarts(FaultCase):
    """What keeps a controller from starting again is waited for, and costs no engine."""

    def whole_again(self, cluster: Cluster) -> Any:
        """A new client, when both engines are back with their names."""
        from ipython1.kernel import client

        def look() -> Any:
            try:
                mec = client.MultiEngineClient(timeout=3.0)
            except client.KernelError:
                return None
            if len(mec.get_ids()) == 2:
                return mec
            mec.close()
            return None

        mec = until(look, "the controller and its engines are back", 40.0)
        self.addCleanup(mec.close)
        self.assertEqual(mec.pull("kept"), [1, 1])
        return mec

    def test_05_the_port_is_taken(self) -> None:
        """Its port belongs to another process: the controller waits for it, and keeps its FURLs."""
        from ipython1.kernel import client

        with Cluster(2) as cluster:
            mec = cluster.mec()
            mec.push({"kept": 1})
            pids = engine_pids(mec)
            furls = sorted((cluster.ipython_dir / "security").glob("*.furl"))
            before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in furls]
            with contextlib.ExitStack() as thief:
                # The new controller must not be faster than the thief.
                with stopped(cluster.ipcluster):
                    kill(cluster.controller)
                    thief.enter_context(taken(*address_of(cluster)))

                def waiting() -> Any:
                    """What is said between two tries, of which there were several."""
                    found = status(cluster)["controller"] or {}
                    return found if found.get("restarts", 0) >= 4 and found["reason"] else None

                found = until(waiting, "tries")
                self.assertGreater(found["away"], 1.0)
                self.assertIn("exited with status 1", found["reason"])
                self.assertIn("cannot listen", " ".join(found["lines"]))
                self.assertTrue(all(map(osprocess.is_alive, pids.values())))
                said = timed(client.MultiEngineClient, timeout=2)[1]
                self.assertIsInstance(said, (client.ConnectionError, client.ProtocolError))
            self.assertEqual(cluster.printed().count("cannot listen"), 1, cluster.printed())
            mec = self.whole_again(cluster)
            self.assertEqual(engine_pids(mec), pids)
            after = [(path.read_bytes(), path.stat().st_mtime_ns) for path in furls]
            self.assertEqual(after, before)

    def test_28_the_disk_is_full(self) -> None:
        """A task waits for room, which is told; a controller that dies then comes back, as it rewrites nothing."""
        from ipython1.kernel import client

        with cluster_on_small_disk(2, "1m") as cluster:
            disk = cluster.ipython_dir
            mec, tc = cluster.mec(), cluster.tc()
            mec.push({"kept": 1})
            pids = engine_pids(mec)
            fill(disk / "filler")
            self.assertEqual(shutil.disk_usage(disk).free, 0)
            task = tc.run(client.Task("a = 5", push={"b": os.urandom(100_000)}, pull="a"))
            [line] = until(lambda: tc.queue_status().warnings, "the full disk is told")
            self.assertIn("journal cannot be written", line)
            self.assertIn(str(disk), line)
            self.assertEqual(tc.queue_status(verbose=True).reasons, {task: line})
            self.assertIn(f"  warning: {line}", cluster.run_command("ipcluster", "status").stdout)
            mec.execute("print(1)")
            with self.assertRaisesRegex(client.ResultNotCompleted, "journal cannot be written"):
                client.TaskClient(timeout=0.5)
            kill(cluster.controller)
            seconds, mec = timed(self.whole_again, cluster)
            say(f"whole again after {seconds:.1f} s")
            self.assertEqual(engine_pids(mec), pids)
            until(lambda: tc.queue_status().warnings, "the full disk is told again")
            (disk / "filler").unlink()
            tc.barrier([task], timeout=SOON)
            self.assertEqual(tc.get_task_result(task)["a"], 5)
            until(lambda: tc.queue_status().warnings == [], "there is room, and nobody is warned")
            self.assertNotIn("warning", cluster.run_command("ipcluster", "status").stdout)

    def test_05_many_deaths_in_a_row(self) -> None:
        """Five kills, each at once after the start: the pauses grow, and the engines are the same in the end."""
        with Cluster(2) as cluster:
            mec = cluster.mec()
            mec.push({"kept": 1})
            pids = engine_pids(mec)
            victim = 0
            for _ in range(5):
                until(lambda: cluster.controller not in (0, victim), "another controller")
                victim = cluster.controller
                osprocess.send_signal(victim, signal.SIGKILL)
            self.assertEqual(engine_pids(self.whole_again(cluster)), pids)


HANGING = """
import threading
from ipython1.kernel.task import FIFOScheduler

class Hanging(FIFOScheduler):
    def add_task(self, task):
        threading.Event().wait()
"""


class StuckParties(FaultCase):
    """Whoever gives no sign of life is told within 30 s, and can be ended."""

    def engine(self, cluster: Cluster, number: int) -> dict[str, Any]:
        found: dict[str, Any] = status(cluster)["engines"][number]
        return found

    def silences(self, cluster: Cluster) -> list[float]:
        """For how many seconds each engine has given no sign of life."""
        return [each["silent"] for each in status(cluster)["engines"]]

    @limit(120.0)
    def test_05_and_11_busy_and_stopped_parties_are_told_apart(self) -> None:
        """A stopped controller and a stopped engine are told to be stopped, a busy engine to be busy; all go on."""
        with Cluster(3) as cluster, Gate() as gate:
            mec = cluster.mec()
            mec.push({"kept": 1})
            pids = engine_pids(mec)
            controller = cluster.controller
            holding = mec.execute(gate.holds, targets=0, block=False)
            until(lambda: dict(mec.queue_status())[0]["pending"], "engine 0 is busy")
            answers: list[object] = []
            asking = threading.Thread(target=lambda: answers.append(mec.get_ids()), daemon=True)
            with stopped(controller, pids[1]):
                asking.start()
                for found in (
                    lambda: status(cluster)["controller"],
                    lambda: self.engine(cluster, 1),
                ):
                    until(lambda found=found: found()["stopped"], "it is told to be stopped", 10.0)
                line = f"controller (process {controller}) has given no sign of life for"
                until(lambda: line in cluster.printed(), "ipcluster says so", 30.0)
                self.assertIn(f"continue it with: kill -CONT {controller}", cluster.printed())
                until(lambda: line in cluster.log("ipcluster.log"), "and so does its log")
                until(lambda: all(self.silences(cluster)[:2]), "the engines are told", 30.0)
                self.assertFalse(self.silences(cluster)[2])
                shown = ipcluster(cluster, "status").stdout
                self.assertRegex(
                    shown, r"engine 0  running +\d+ .* busy: no sign of life for \d+ s"
                )
                self.assertRegex(
                    shown,
                    r"engine 1  running +(\d+) .* stopped \(continue it with: kill -CONT \1",
                )
                self.assertRegex(shown, r"engine 2  running +\d+[^a-z]*\n")
                self.assertEqual(answers, [])
            gate.let_go()
            until(
                lambda: "the controller answers again" in cluster.printed(), "the end of it", 10.0
            )
            asking.join(SOON)
            self.assertEqual((answers, cluster.controller), ([[0, 1, 2]], controller))
            until(lambda: not any(self.silences(cluster)), "the engines are heard again", 10.0)
            holding.get_result(timeout=SOON)
            self.assertEqual((mec.pull("kept"), engine_pids(mec)), ([1, 1, 1], pids))

    @limit(180.0)
    def test_05_stuck_parties_are_told_and_ended(self) -> None:
        """A controller that hangs is restarted if that is wanted; a stopped ``ipcluster`` is ended by force."""
        folder = Path(os.environ["TMPDIR"]) / "modules"
        folder.mkdir()
        (folder / "hanging.py").write_text(HANGING)
        os.environ["PYTHONPATH"] = f"{folder}{os.pathsep}{os.environ['PYTHONPATH']}"
        sys.path.insert(0, str(folder))
        cluster = Cluster(2, ["--restart-stuck=22"])
        (cluster.ipython_dir / "ipython1.kernel.ini").write_text(
            "[task]\nscheduler = hanging.Hanging\n"
        )
        with cluster:
            from ipython1.kernel import client

            mec = cluster.mec()
            pids = engine_pids(mec)
            victim = cluster.controller
            cluster.tc().run(client.Task("a = 1"))
            self.assertIn("controller: running", ipcluster(cluster, "status").stdout)
            # Both are told after the same time, which need not pass twice.
            self.check_stopped_ipcluster()
            until(lambda: "it is stuck" in cluster.printed(), "it is told", 30.0)
            until(lambda: not osprocess.is_alive(victim), "it is killed", 15.0)
            until(lambda: "the controller is back" in cluster.printed(), "it is back", 15.0)
            self.assertIn("gave no sign of life for 22 s and was killed", cluster.printed())
            self.assertTrue(all(map(osprocess.is_alive, pids.values())))

    def check_stopped_ipcluster(self) -> None:
        """It is told, and ended by force, with all that belongs to it, also what is stopped or left its session."""
        with Cluster(2) as cluster:
            mec = cluster.mec()
            mec.execute(
                "import subprocess; subprocess.Popen(['setsid', 'sleep', '600'])", targets=0
            )
            known = status(cluster)
            family = osprocess.descendants(cluster.ipcluster)
            self.assertGreaterEqual(len(family), 5)  # nanny, controller, two engines, sleep
            for pid in (cluster.ipcluster, cluster.controller, known["engines"][1]["pid"]):
                os.kill(pid, signal.SIGSTOP)
            shown = ipcluster(cluster, "list").stdout
            self.assertIn("stopped, local", shown)
            refused = ipcluster(cluster, "stop")
            self.assertEqual(refused.returncode, 1)
            self.assertIn(f"(process {cluster.ipcluster}) is stopped", refused.stderr)
            self.assertIn("ipcluster stop --force", refused.stderr)
            told = ipcluster(cluster, "status")
            self.assertEqual(told.returncode, 1)
            self.assertIn("the cluster does not answer: its ipcluster", told.stderr)
            self.assertRegex(told.stdout, r"engine 1  running +\d+  stopped")
            self.assertRegex(told.stdout, r"engine 0  running +\d+\n")
            line = f"ipcluster (process {cluster.ipcluster}) has not answered for"
            until(lambda: line in cluster.log("ipcluster.log"), "its nanny says so", 30.0)
            until(lambda: line in cluster.printed(), "it says so here too")
            ended = ipcluster(cluster, "stop", "--force")
            self.assertEqual((ended.returncode, ended.stderr), (0, ""))
            self.assertEqual([pid for pid in family if osprocess.is_alive(pid)], [])
            security = {path.name for path in (cluster.ipython_dir / "security").iterdir()}
            left = security & {"ipcluster.sock", "ipcontroller.sock", "ipcluster.json"}
            self.assertFalse(left, security)
            self.assertEqual(ipcluster(cluster, "stop", "--force").returncode, 1)

    def test_05_by_force_after_the_death_of_ipcluster_and_nanny(self) -> None:
        """What is left is found by its mark, and a temporary cluster leaves no file."""
        from ipython1.kernel.client import Cluster as Temporary

        with Temporary(n=1) as cluster:
            mec = cluster.multiengine()
            printed = mec.execute(
                "import os, subprocess\n"
                "print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid)"
            )[0]["stdout"]
            mec.close()
            orphan = int(printed)
            found = cluster.status()
            assert found.nanny is not None
            os.kill(found.pid, signal.SIGSTOP)  # it adopts orphans, and would end them
            kill(found.nanny.pid)
            until(lambda: not osprocess.is_alive(found.engines[0].pid), "its engine ends with it")
            self.assertTrue(osprocess.is_alive(orphan))
            stop = subprocess.run(
                [
                    *(sys.executable, "-P", "-m", "ipython1.kernel.scripts.ipcluster", "stop"),
                    *("--force", f"--cluster-id={cluster.cluster_id}"),
                ],
                check=False,
                capture_output=True,
                text=True,
                timeout=SOON,
            )
            self.assertEqual((stop.returncode, stop.stderr), (0, ""))
            self.assertFalse(osprocess.is_alive(orphan))
            self.assertFalse(osprocess.is_alive(found.pid, found.pid_started))
            security = cluster.files.dirs.security
            self.assertEqual(
                [p.name for p in security.iterdir() if cluster.cluster_id in p.name], []
            )


class Restarts(FaultCase):
    def test_05_restarting_the_controller_on_purpose_disturbs_nobody(self) -> None:
        """``ipcluster restart`` under load: engines keep their names, clients go on, and each task runs once."""
        with (
            Cluster(2) as cluster,
            Ledger() as ledger,
            Gate() as gate,
            Witness(cluster, patience=20.0),
        ):
            mec, tc = cluster.mec(), cluster.tc()
            mec.push({"kept": 1})
            pids = engine_pids(mec)
            ids = tc.run_many([ledger.task(number, 0.02) for number in range(200)])
            slow = mec.execute(f"{gate.waits}\nslow = 2", targets=0, block=False)
            before = cluster.controller
            for _ in range(2):
                done = ipcluster(cluster, "restart")
                self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertNotEqual(cluster.controller, before)
            self.assertFalse(slow.ready)
            gate.let_go()
            slow.get_result(timeout=SOON)
            tc.barrier(ids, timeout=SOON)
            results = [tc.get_task_result(each).result for each in ids]
            self.assertEqual([number for number, _ in results], list(range(200)))
            self.assertEqual(set(ledger.runs().values()), {1})
            self.assertEqual(mec.pull("kept"), [1, 1])
            self.assertEqual(mec.pull("slow", targets=0), [2])
            self.assertEqual(engine_pids(mec), pids)
