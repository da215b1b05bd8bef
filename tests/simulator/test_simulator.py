"""Simulated histories keep all promises, and one seed is one history."""

from __future__ import annotations

import os
import subprocess
import sys

from twisted.trial import unittest

SEEDS = int(os.environ.get("IPYTHON1_TEST_SEEDS", "150"))


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the simulator in a process of its own, in which sets have the same order each time."""
    path = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run(
        [sys.executable, "-P", "-m", "tests.simulator", *arguments],
        env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


class SimulatorTests(unittest.SynchronousTestCase):
    def test_histories(self) -> None:
        """Set ``IPYTHON1_TEST_SEEDS`` to try more."""
        done = simulate("--seeds", str(SEEDS))
        self.assertEqual(done.returncode, 0, done.stdout[-20_000:] + done.stderr[-2000:])

    def test_a_seed_is_a_history(self) -> None:
        stories = {simulate("--seed", "7").stdout for _ in range(2)}
        self.assertEqual(len(stories), 1)
        self.assertIn("controller", stories.pop())


class PlantTests(unittest.SynchronousTestCase):
    """A bug that is planted in one of the machines is found; so the histories look where such bugs are."""

    def found(self, plant: str) -> None:
        done = simulate("--plant", plant, "--seeds", "150")
        self.assertEqual(done.returncode, 0, done.stdout[-2000:] + done.stderr[-2000:])

    def test_links(self) -> None:
        self.found("links")

    def test_journal(self) -> None:
        self.found("journal")

    def test_reconnection(self) -> None:
        self.found("reconnection")

    def test_results(self) -> None:
        self.found("results")

    def test_tasks(self) -> None:
        self.found("tasks")

    def test_commands(self) -> None:
        self.found("commands")

    def test_graphs(self) -> None:
        self.found("graphs")

    def test_aborts(self) -> None:
        self.found("aborts")
