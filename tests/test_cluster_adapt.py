"""Clusters whose engines come and go with the tasks, and clusters that end when nobody uses them."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests.test_ipcluster import LIMIT, IpclusterCase, until

PROGRAM = Path(__file__).parent / "programs" / "adapting.py"

ASYNCHRONOUS = """
import asyncio
from ipython1.kernel.client import AsyncCluster

async def main():
    async with AsyncCluster(n=0) as cluster:
        await cluster.adapt(1, 2)
        print(await cluster.wait_for_engines(1))
        await cluster.adapt(None)
        print((await cluster.status()).scaling)

asyncio.run(main())
"""


class AdaptTests(IpclusterCase):
    def test_engines_come_with_the_tasks_and_go_when_they_are_idle(self) -> None:
        done = self.run_to_end([self.python, str(PROGRAM), str(self.directory / "ran")])
        self.assertEqual(
            done.stdout.splitlines(),
            [
                "results True",
                "from 0 to 3 to 0",
                "results True",
                "ran once True",
                "the data [17]",
                "nothing is kept",
                "by hand 21 1 None",
            ],
        )
        self.nothing_is_left()

    def test_from_asyncio(self) -> None:
        self.assertEqual(self.run_python(ASYNCHRONOUS), "[0]\nNone\n")

    def test_the_command_tells_what_it_does(self) -> None:
        process = self.start("--adapt=1:2")
        self.assertIn("the cluster is up: 1 engine (0).\n", self.printed)
        self.assertIn(
            "  adapts to its tasks: 1 to 2 engines, one goes after 60 s without work\n",
            self.run_ipcluster("status").stdout,
        )
        self.assertEqual(self.run_ipcluster("adapt", "2:3").stdout, "adapts: 2 to 3 engines\n")
        until(lambda: self.status().ids == (0, 1))
        status = self.run_ipcluster("status", "--json").stdout
        self.assertEqual(json.loads(status)["ids"], [0, 1])
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(LIMIT), 0)
        out = process.stdout.read()  # type: ignore[union-attr]
        self.assertIn("ipcluster: starting 1 engine: at least 2 engines\n", out)
        self.nothing_is_left()

    def test_a_cluster_that_nobody_uses_ends(self) -> None:
        process = self.start_program(self.command("--adapt=0:2", "--idle-timeout=1"))
        out, _ = process.communicate(timeout=LIMIT)
        self.assertEqual(process.returncode, 0)
        self.assertIn("the cluster is up: no engines yet; they come with the tasks.\n", out)
        self.assertIn("ipcluster: nobody has used the cluster for 1 s, so it ends\n", out)
        self.nothing_is_left()
