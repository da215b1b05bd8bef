"""Run a soak, and tell how it went; ``scripts/soak`` runs this."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from ipython1.daemon import osprocess
from tests.faults.common import Cluster, open_files, rss, until
from tests.soak.audit import Audit, audit
from tests.soak.killer import CLIENT, CONTROLLER, ENGINE, Killer, Rates

INI = """[task]
kill_limit = 1000
[cluster]
restart_engines = 1000
"""

FINISH = 300.0
"""Seconds that users have to get all outcomes when nothing is killed any more."""


class Users:
    """The users' processes; a killed one has a successor.

    :ivar dead: names of those that were killed.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._seed = seed
        self._living: dict[str, subprocess.Popen[str]] = {}
        self._count = 0
        self.dead: set[str] = set()

    def start(self) -> None:
        name = f"u{self._count}"
        self._count += 1
        command = [sys.executable, "-P", "-m", "tests.soak.user", name, f"{self._seed} {name}"]
        self._living[name] = subprocess.Popen(
            [*command, str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )

    def pids(self) -> list[int]:
        return [each.pid for each in self._living.values()]

    def replace_dead(self) -> None:
        """Start a new user for each that was killed."""
        for name, process in list(self._living.items()):
            if process.poll() is not None:
                assert process.stdin is not None
                process.stdin.close()
                del self._living[name]
                self.dead.add(name)
                self.start()

    def finish(self) -> list[str]:
        """Let them end; returns the names of those that did not end well."""
        for process in self._living.values():
            assert process.stdin is not None
            process.stdin.close()
        failed = []
        end = time.monotonic() + FINISH
        for name, process in self._living.items():
            try:
                status = process.wait(max(1.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                status = -1
            if status:
                failed.append(f"{name} (status {status})")
        return failed

    def kill(self) -> None:
        for process in self._living.values():
            process.kill()
            process.wait()


class Soak:
    """One run."""

    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        self.given = given
        self.folder = folder
        (folder / "runs").touch()
        self.users = Users(folder, given.seed)
        self.cluster = Cluster(given.engines, given.option or (), ini=INI)

    def run(self) -> int:
        """:returns: the exit status."""
        with self.cluster as cluster:
            print(f"seed {self.given.seed}; the cluster's files: {cluster.ipython_dir}", flush=True)
            before = self._measure()
            killer = Killer(self._rates(), Random(self.given.seed), self._choose)
            try:
                for _ in range(self.given.users):
                    self.users.start()
                with killer:
                    self._watch(killer)
                failed = self.users.finish()
            finally:
                self.users.kill()
            told = self._audit(killer)
            told.wrong += [f"user {name} did not end well" for name in failed]
            self._report(killer, told, before, self._measure())
        return 0 if told.clean else 1

    def _rates(self) -> Rates:
        given = self.given
        kills = {
            CONTROLLER: given.controller_kills,
            ENGINE: given.engine_kills,
            CLIENT: given.client_kills,
        }
        stops = {
            CONTROLLER: given.controller_stops,
            ENGINE: given.engine_stops,
            CLIENT: given.client_stops,
        }
        return Rates(kills, stops)

    def _choose(self, kind: str) -> Sequence[int]:
        if kind == CLIENT:
            return self.users.pids()
        if kind == CONTROLLER:
            pid = self._controller()
            return [pid] if osprocess.is_alive(pid) else []
        return self.cluster.engine_processes()

    def _controller(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            return self.cluster.controller
        return 0

    def _watch(self, killer: Killer) -> None:
        begin = time.monotonic()
        end = begin + 60 * self.given.minutes
        told = begin
        while (now := time.monotonic()) < end:
            self.users.replace_dead()
            if now - told >= self.given.progress:
                told = now
                kills = {kind: len(pids) for kind, pids in killer.killed.items()}
                runs = (self.folder / "runs").stat().st_size // 80
                size = rss(self._controller())
                print(
                    f"{now - begin:5.0f} s  killed {kills}  about {runs} runs  controller {size:.0f} MB",
                    flush=True,
                )
            assert self.cluster.process is not None
            if self.cluster.process.poll() is not None:
                raise AssertionError("ipcluster has ended:\n" + self.cluster.printed()[-3000:])
            time.sleep(0.1)
        self.users.replace_dead()

    def _audit(self, killer: Killer) -> Audit:
        tc = self.cluster.tc()

        def fetch(task_id: int) -> object:
            result = tc.get_task_result(task_id, block=True)
            result.raise_exception()
            return result.result

        return audit(self.folder, self.users.dead, set(killer.killed[ENGINE]), fetch)

    def _measure(self) -> tuple[float, int, int]:
        """Memory of the controller in MB, its open files, and the size of its files in KB, when it is at rest."""
        pid = until(
            lambda: osprocess.is_alive(self._controller()) and self._controller(), "a controller"
        )
        mec = self.cluster.mec()
        mec.get_ids()
        mec.close()
        time.sleep(1.0)
        files = [
            path.stat().st_size for path in self.cluster.ipython_dir.rglob("*") if path.is_file()
        ]
        return rss(pid), open_files(pid), sum(files) // 1024

    def _report(
        self,
        killer: Killer,
        told: Audit,
        before: tuple[float, int, int],
        after: tuple[float, int, int],
    ) -> None:
        for title, names in (
            ("lost", told.lost),
            ("duplicated", told.duplicated),
            ("wrong", told.wrong),
        ):
            for name in names[:20]:
                print(f"{title.upper()}: {name[:300]}")
        kills = ", ".join(f"{len(pids)} {kind}s" for kind, pids in killer.killed.items())
        stops = ", ".join(f"{killer.stopped[kind]} {kind}s" for kind in killer.killed)
        print(f"killed {kills}; stopped {stops}")
        print(
            f"the controller: {before[0]:.0f} MB and {before[1]} files before, {after[0]:.0f} MB and {after[1]} files "
            f"after; the cluster's directory: {before[2]} KB before, {after[2]} KB after"
        )
        print(told)
        print("clean" if told.clean else "NOT CLEAN", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--engines", type=int, default=3)
    parser.add_argument("--users", type=int, default=2)
    rates = (("controller", 20, 4), ("engine", 50, 10), ("client", 3, 3))
    for kind, kills, stops in rates:
        parser.add_argument(f"--{kind}-kills", type=float, default=kills, help="per minute")
        parser.add_argument(f"--{kind}-stops", type=float, default=stops, help="per minute")
    parser.add_argument("--option", action="append", help="a further option of ipcluster")
    parser.add_argument("--progress", type=float, default=5.0, help="seconds between two lines")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ipython1-soak-"))
    try:
        return Soak(given, folder).run()
    finally:
        if os.environ.get("IPYTHON1_SOAK_KEEP"):
            print(f"the notes are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
