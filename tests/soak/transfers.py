"""Large transfers while their senders and receivers are killed: contents are right, and no memory is left.

``python -m tests.soak.transfers --transfers 10000`` runs until users have made so many.  Meanwhile engines, users and
the controller are killed at random.  Afterwards no process has shared memory mapped or open any more.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from ipython1.daemon import osprocess
from ipython1.kernel.host.sharedmemory import SHOWN
from ipython1.kernel.wire import sharing
from ipython1.testing.processes import shared_here
from tests.faults.common import Cluster, engine_pids, files_of, until

INI = """[task]
kill_limit = 1000
[cluster]
restart_engines = 1000
"""

ENGINES = 4
USERS = 2
LARGEST = 12 * 2**20


def use(seed: str) -> None:
    """Be a user: push and pull arrays for ever, and print how many came as they were."""
    import numpy

    from ipython1.kernel import client
    from ipython1.kernel.error import CompositeError, KernelError

    rng = random.Random(seed)
    mec = client.MultiEngineClient()
    while True:
        size = rng.randrange(300_000, LARGEST)
        array = numpy.frombuffer(rng.randbytes(4096) * (size // 4096 + 1), "u1").copy()
        array[: size // 2] += rng.randrange(256)
        try:
            ids = mec.get_ids()
            if not ids:
                continue
            targets = rng.choice(([rng.choice(ids)], ids))
            name = f"a{seed}"
            mec.push({name: array}, targets=targets)
            back = mec.pull(name, targets=targets)
        except (KernelError, CompositeError):
            continue  # somebody was killed
        good = sum(bool(numpy.array_equal(each, array)) for each in back)
        # In one piece, as others write to the same file.
        os.write(sys.stdout.fileno(), b"%d %d\n" % (2 * good, len(back) - good))


class Users:
    """The users' processes."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self._cluster = cluster
        self._seed = seed
        self._count = 0
        self.living: list[subprocess.Popen[str]] = []
        self._output = Path(cluster.ipython_dir) / "transfers.txt"

    def fill(self) -> None:
        """Have the dead replaced."""
        self.living = [each for each in self.living if each.poll() is None]
        while len(self.living) < USERS:
            self._count += 1
            command = [sys.executable, "-P", "-m", "tests.soak.transfers", "--user"]
            with self._output.open("a") as output:
                each = subprocess.Popen(
                    [*command, f"{self._seed}_{self._count}"],
                    env=self._cluster.environ,
                    stdout=output,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            self.living.append(each)

    def count(self) -> tuple[int, int]:
        """Good and wrong transfers so far."""
        if not self._output.exists():
            return 0, 0
        # The last line of one that was killed may be cut short.
        rows = [line.split() for line in self._output.read_text().splitlines()]
        good = [(int(row[0]), int(row[1])) for row in rows if len(row) == 2]
        return sum(each[0] for each in good), sum(each[1] for each in good)

    def kill(self, each: subprocess.Popen[str]) -> None:
        each.kill()
        each.wait()

    def end(self) -> None:
        for each in self.living:
            self.kill(each)


def left(pids: list[int]) -> dict[int, tuple[int, int]]:
    """Bytes of shared memory that processes have mapped, and how often they have some open; only where there is any."""
    found = {}
    for pid in pids:
        opened = sum(SHOWN in what for what in files_of(pid).values())
        mapped = shared_here(pid)
        if opened or mapped:
            found[pid] = (mapped, opened)
    return found


def soak(transfers: int, seed: int, pause: float = 0.5) -> str:
    """Make so many transfers with kills between them; returns what happened.

    :raises AssertionError: if a content was wrong, or memory is left.
    """
    rng = random.Random(seed)
    kills = {"engine": 0, "user": 0, "controller": 0}
    begun = time.monotonic()
    with Cluster(ENGINES, ini=INI) as cluster:
        users = Users(cluster, seed)
        try:
            while users.count()[0] < transfers:
                users.fill()
                time.sleep(rng.uniform(0.2, 1.8) * pause)
                if rng.random() < 0.7:
                    # On a slow machine all would be killed before they have made a transfer.
                    made = users.count()[0]
                    until(lambda made=made: users.count()[0] > made, "transfers go on", 60)
                victim = rng.choices(list(kills), (6, 3, 1))[0]
                if _kill(victim, rng, cluster, users):
                    kills[victim] += 1
        finally:
            users.end()
        good, wrong = users.count()
        if wrong:
            raise AssertionError(f"{wrong} arrays came back with wrong contents")
        until(lambda: len(cluster.mec().get_ids()) == ENGINES, "all engines are back", 60)
        pids = [cluster.controller, *engine_pids(cluster.mec()).values()]
        until(
            lambda: not left(pids), f"no shared memory is left in {left(pids)}", sharing.IDLE + 20
        )
    seconds = time.monotonic() - begun
    killed = ", ".join(f"{count} {name}s" for name, count in kills.items())
    return f"{good} transfers in {seconds:.0f} s, all as they were sent; killed {killed}; no shared memory left"


def _kill(victim: str, rng: random.Random, cluster: Cluster, users: Users) -> bool:
    if victim == "user":
        users.kill(rng.choice(users.living))
        return True
    pids = [cluster.controller] if victim == "controller" else cluster.engine_processes()
    return bool(pids) and osprocess.send_signal(rng.choice(pids), signal.SIGKILL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transfers", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=2008)
    parser.add_argument("--user", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.user:
        use(options.user)
    print(soak(options.transfers, options.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
