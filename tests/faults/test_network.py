"""Faults 18, 20 and 21: half-open, resetting, slow and lossy connections."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.common import (
    LONG,
    SOON,
    Cluster,
    FaultCase,
    Ledger,
    Tally,
    Witness,
    engine_behind,
    limit,
    open_files,
    results_of,
    say,
    timed,
    until,
)
from tests.proxy import Proxy
from tests.testbeds import RunningTestbed, testbed


def port() -> int:
    from ipython1.kernel import client

    found: int = client.default_mec_address[1]
    return found


class BrokenConnections(FaultCase):
    @limit(150)
    def test_20_resets(self) -> None:
        """A client's and an engine's connections are reset every second: nothing is lost, run twice, or leaked."""
        seconds = 60 if LONG else 5
        with Cluster(1) as cluster, Ledger() as ledger:
            with Proxy(port()) as near, Proxy(port()) as far, Witness(cluster, 0):
                from ipython1.kernel import client

                with engine_behind(cluster, far) as (_, engine), contextlib.ExitStack() as closing:
                    address = ("127.0.0.1", near.port)
                    tc = closing.enter_context(client.TaskClient(address))
                    mec = client.MultiEngineClient(address)
                    closing.callback(mec.close)
                    mec.push({"kept": 5, "done": []})
                    files = open_files(cluster.controller)
                    near.reset_every(1.0)
                    far.reset_every(0.85)
                    ids: list[int] = []
                    calls = []
                    end = time.monotonic() + seconds
                    while time.monotonic() < end:
                        ids += tc.run_many([ledger.task(len(ids) + n, 0.01) for n in range(20)])
                        calls.append(mec.execute(f"done.append({len(calls)})", block=False))
                        time.sleep(0.1)
                    near.reset_every(0)
                    far.reset_every(0)
                    tc.barrier(ids, timeout=SOON)
                    for each in calls:
                        each.get_result(timeout=SOON)
                    results = results_of(tc, ids)
                    self.assertEqual([each for each in results if isinstance(each, Exception)], [])
                    done = [number for number, _ in results]
                    Tally.of(range(len(ids)), range(len(ids)), done).check()
                    self.assertEqual(ledger.runs(), dict.fromkeys(range(len(ids)), 1))
                    self.assertEqual(mec.pull("done"), [list(range(len(calls)))] * 2)
                    self.assertEqual(mec.pull("kept"), [5, 5])
                    self.assertIn(engine, mec.get_ids())
                    say(f"{near.accepted} + {far.accepted} connections, {len(ids)} tasks")
                    until(lambda: open_files(cluster.controller) <= files + 1, "files are closed")

    @limit(150)
    def test_20_everybody_at_once(self) -> None:
        """256 engines (or as many as the short form has) reconnect at once after the controller's death."""
        count = 256 if LONG else 12
        with Cluster(count, ["--restart-engines=0"]) as cluster:
            mec = cluster.mec()
            mec.execute("import os; kept = os.getpid()")
            pids = mec.pull("kept")
            old = cluster.controller
            os.kill(old, 9)
            took, told = timed(lambda: until(lambda: len(mec.get_ids()) == count, "all are back"))
            again, found = timed(mec.pull, "kept")
            say(f"{count} engines: all back after {took:.1f} s, and used after {again:.1f} s more")
            self.assertEqual(found, pids)
            self.assertLess(took + again, 15)
            self.assertTrue(told)


@contextlib.contextmanager
def hosts(count: int) -> Iterator[RunningTestbed]:
    """Hosts with a network of their own, which are gone afterwards."""
    bed = testbed("netns", count=count)
    try:
        yield bed
    finally:
        bed.down()


class Hosts:
    """A controller on host0, engines on host1 and host2, a client on host3."""

    def __init__(self, bed: RunningTestbed, folder: Path) -> None:
        self.bed = bed
        self.folder = folder
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> Hosts:
        self.start("host0", "ipcontroller")
        furls = self.folder / "host0" / "security"
        until(lambda: (furls / "ipcontroller-tc.furl").exists(), "the controller's FURLs")
        for host in ("host1", "host2", "host3"):
            (self.folder / host / "security").mkdir(parents=True, mode=0o700)
            for path in furls.glob("*.furl"):
                shutil.copy2(path, self.folder / host / "security")
        for host in ("host1", "host2"):
            self.start(host, "ipengine")
        return self

    def __exit__(self, *exc_info: object) -> None:
        if exc_info[0] is not None:
            for path in self.folder.glob("host*/log/*.log"):
                print(f"== {path}", *path.read_text().splitlines()[-30:], sep="\n", flush=True)
        self.stack.close()

    def popen(self, host: str, *command: str) -> subprocess.Popen[str]:
        (self.folder / host).mkdir(exist_ok=True, mode=0o700)
        process = subprocess.Popen(
            self.bed.hosts[host].command(*command),
            env={**os.environ, "IPYTHONDIR": str(self.folder / host)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.stack.callback(process.communicate)
        self.stack.callback(process.kill)
        return process

    def start(self, host: str, program: str) -> None:
        self.popen(host, sys.executable, "-P", "-m", f"ipython1.kernel.scripts.{program}")

    def user(self, code: str, host: str = "host3") -> subprocess.Popen[str]:
        """A client's program on a host."""
        head = "import time\nfrom ipython1.kernel import client\n"
        return self.popen(host, sys.executable, "-P", "-c", head + code)

    def frames_to(self, host: str, pass_: bool) -> None:
        """Lose every frame to and from a host without an error, or let them pass again."""
        state = "3" if pass_ else "0"
        command = ("bridge", "link", "set", "dev", host, "state", state)
        subprocess.run(self.bed.hosts["switch"].command(*command), check=True)


class Networks(FaultCase):
    """These need network namespaces; where they cannot be made, the tests are skipped and say so."""

    @limit(180)
    def test_21_loss_and_delay(self) -> None:
        """5 % loss and 200 ms delay, or a slow late link where the kernel has no netem: slower, and correct."""
        code = """
mec, tc = client.MultiEngineClient(timeout=30), client.TaskClient(timeout=30)
while len(mec.get_ids()) < 2: time.sleep(0.05)
import hashlib
data = bytes(range(256)) * 8000
mec.push({"data": data})
mec.execute("import hashlib; digest = hashlib.sha256(data).hexdigest()")
assert mec.pull("digest") == [hashlib.sha256(data).hexdigest()] * 2
assert mec.pull("data") == [data] * 2
def square(x): return x * x
assert tc.map(square, range(500)) == [n * n for n in range(500)]
mec.execute("done = []")
for each in [mec.execute(f"done.append({n})", block=False) for n in range(50)]: each.get_result(timeout=60)
assert mec.pull("done") == [list(range(50))] * 2
print("correct", flush=True)
"""
        with hosts(4) as bed, Hosts(bed, Path(os.environ["TMPDIR"])) as cluster:
            netem = bed.environ["TESTBED_NETEM"] == "yes"
            kind = (
                "netem delay 200ms loss 5%" if netem else "tbf rate 20mbit burst 32kb latency 400ms"
            )
            switch = bed.hosts["switch"]
            for host in ("host1", "host3"):
                command = ("tc", "qdisc", "add", "dev", host, "root", *kind.split())
                subprocess.run(switch.command(*command), check=True)
            begin = time.monotonic()
            process = cluster.user(code)
            assert process.stdout is not None
            self.assertEqual(process.stdout.readline(), "correct\n")
            say(f"with {kind}: {time.monotonic() - begin:.1f} s")
