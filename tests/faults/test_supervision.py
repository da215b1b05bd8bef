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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.trial import unittest

from ipython1.daemon import osprocess
from tests.faults.common import (
    SOON,
    Cluster,
    FaultCase,
    engine_pids,
    kill,
    say,
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
        with Cluster(2) as cluster:
            mec = cluster.mec()
            mec.push({"kept": 1})
            pids = engine_pids(mec)
            furls = sorted((cluster.ipython_dir / "security").glob("*.furl"))
            before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in furls]
            address = address_of(cluster)
            kill(cluster.controller)
            with taken(*address):
                # More often than any number of restarts within seconds allowed for.
                until(
                    lambda: (status(cluster)["controller"] or {}).get("restarts", 0) >= 6, "tries"
                )
                found = status(cluster)["controller"]
                self.assertIn("exited with status 1", found["reason"])
                self.assertIn("cannot listen", " ".join(found["lines"]))
                self.assertGreater(found["away"], 2.0)
                self.assertTrue(all(map(osprocess.is_alive, pids.values())))
            self.assertEqual(cluster.printed().count("cannot listen"), 1, cluster.printed())
            mec = self.whole_again(cluster)
            self.assertEqual(engine_pids(mec), pids)
            after = [(path.read_bytes(), path.stat().st_mtime_ns) for path in furls]
            self.assertEqual(after, before)

    def test_28_the_disk_is_full(self) -> None:
        """A controller that dies on a full disk comes back on the full disk, for it rewrites nothing."""
        with small_disk("1m") as disk, Cluster(2, environ={"IPYTHONDIR": str(disk)}) as cluster:
            cluster.ipython_dir, made = disk, cluster.ipython_dir
            self.addCleanup(shutil.rmtree, made, ignore_errors=True)
            os.environ["IPYTHONDIR"] = str(disk)
            mec = cluster.mec()
            mec.push({"kept": 1})
            pids = engine_pids(mec)
            fill(disk / "filler")
            self.assertEqual(shutil.disk_usage(disk).free, 0)
            mec.execute("print(1)")
            kill(cluster.controller)
            seconds, mec = timed(self.whole_again, cluster)
            say(f"whole again after {seconds:.1f} s")
            self.assertEqual(engine_pids(mec), pids)

    def test_05_many_deaths_in_a_row(self) -> None:
        """Eight kills, each at once after the start: the pauses grow, and the engines are the same in the end."""
        with Cluster(2) as cluster:
            mec = cluster.mec()
            mec.push({"kept": 1})
            pids = engine_pids(mec)
            victim = 0
            for _ in range(8):
                until(lambda: cluster.controller not in (0, victim), "another controller")
                victim = cluster.controller
                osprocess.send_signal(victim, signal.SIGKILL)
            self.assertEqual(engine_pids(self.whole_again(cluster)), pids)
