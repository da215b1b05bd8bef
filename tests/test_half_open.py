"""A network that breaks without a word: each side notices in time, whatever the connection is doing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.testbeds import testbed

DEAD_AFTER = 6
"""Seconds, so that the test is short; what is tested is in proportion to it."""

FAR = """
import socket, time
from ipython1.kernel.host import sockets
listener = socket.create_server(("0.0.0.0", 5555))
print("listening", flush=True)
kept = []
while True:
    accepted, _ = listener.accept()
    sockets.tune(accepted, {dead_after})
    kept.append(accepted)
"""

NEAR = """
import json, os, select, socket, sys, time
from ipython1.kernel.host import sockets
dead_after = {dead_after}
connections, watches = {{}}, {{}}
for name in ("idle", "sending", "full"):
    connection = connections[name] = socket.create_connection(("{address}", 5555))
    sockets.tune(connection, dead_after)
    connection.setblocking(False)
    watches[name] = sockets.PeerWatch(connection, dead_after)
# The other side reads nothing, so its window is closed when this ends.
time.sleep(0.3)
for _ in range(3):
    try:
        while True:
            connections["full"].send(bytes(65536))
    except BlockingIOError:
        time.sleep(0.3)

ended, cut = {{}}, None
until = time.monotonic() + 20 * dead_after
print("connected", flush=True)
while len(ended) < 3 and time.monotonic() < until:
    if select.select([0], [], [], dead_after / 6)[0] and cut is None:
        os.read(0, 100)
        cut = time.monotonic()
        connections["sending"].send(b"x")
    now = time.monotonic()
    for name, watch in watches.items():
        gone = not watch.look(now) or connections[name].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if gone and name not in ended:
            ended[name] = None if cut is None else now - cut
print(json.dumps(ended), flush=True)
"""


class HalfOpenTests(TestCase):
    def start(self, host: str, program: str) -> subprocess.Popen[str]:
        command = self.netns.hosts[host].command(sys.executable, "-c", program)
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
        self.addCleanup(self.end, process)
        return process

    def end(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.communicate()

    def test_silence_is_noticed_when_idle_when_sending_and_when_the_other_side_does_not_read(
        self,
    ) -> None:
        """And before, the connection to the side that does not read stays open for longer than silence may last."""
        self.netns = testbed("netns", count=2)
        far = self.start("host1", FAR.format(dead_after=DEAD_AFTER))
        assert far.stdout is not None
        far.stdout.readline()
        address = self.netns.hosts["host1"].address
        near = self.start("host0", NEAR.format(dead_after=DEAD_AFTER, address=address))
        assert near.stdin is not None and near.stdout is not None
        self.assertEqual(near.stdout.readline(), "connected\n")
        with self.assertRaises(subprocess.TimeoutExpired):
            near.wait(2 * DEAD_AFTER)
        self.cable("0")
        self.addCleanup(self.cable, "3")
        near.stdin.write("cut\n")
        near.stdin.flush()
        ended = json.loads(near.stdout.readline())
        self.assertEqual(set(ended), {"idle", "sending", "full"})
        for name, after in ended.items():
            self.assertIsNotNone(after, f"{name} was cut before the network was")
            if name != "full" or self.asks_often():
                self.assertLess(after, 1.5 * DEAD_AFTER, name)

    def cable(self, state: str) -> None:
        switch = self.netns.hosts["switch"]
        subprocess.run(
            switch.command("bridge", "link", "set", "dev", "host1", "state", state), check=True
        )

    def asks_often(self) -> bool:
        """Whether this kernel probes a closed window often; else that is noticed late."""
        release = Path("/proc/sys/kernel/osrelease").read_text()
        return tuple(int(part) for part in release.split(".")[:2]) >= (6, 15)
