"""kill -9 at any moment loses nothing that was said to be safe."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

from ipython1.kernel.controller.journal.opening import JournalSettings, open_store
from ipython1.kernel.controller.journal.rows import PayloadFile, SubmissionRow
from ipython1.kernel.controller.journal.store import Store
from ipython1.kernel.controller.journal.taskreading import fetch_results
from ipython1.kernel.controller.journal.tests import writing_program
from ipython1.kernel.controller.journal.tests.support import JournalCase, payload_of
from ipython1.kernel.controller.journal.tests.writing_program import SIZES

KILLS = int(os.environ.get("IPYTHON1_TEST_EXAMPLES", "4"))


def run_and_kill(directory: Path, seed: int, sync: str) -> list[str]:
    """What a program said was safe before it was killed."""
    root = str(Path(writing_program.__file__).parents[5])
    program = subprocess.Popen(
        [sys.executable, writing_program.__file__, str(directory), str(seed), sync],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
        text=True,
    )
    assert program.stdout is not None
    with program, program.stdout:
        first = program.stdout.readline()
        assert first == "open\n", first
        rng = random.Random(seed)
        lines = [program.stdout.readline() for _ in range(int(rng.random() ** 3 * 500))]
        program.kill()
        return lines + program.stdout.readlines()  # each was written at once


class KillTests(JournalCase):
    def check(self, lines: list[str]) -> int:
        """Open the journal, and look for all that was ever safe; returns how many times it was opened."""
        for line in lines:
            word, *numbers = line.split()
            known = {
                "commanded": self.commanded,
                "submitted": self.submitted,
                "done": self.done,
                "clear": self.cleared,
            }[word]
            known[int(numbers[0])] = int(numbers[-1])
        store, recovered = open_store(JournalSettings(self.directory))
        try:
            self.assertEqual((recovered.lost, recovered.broken_files), ("", ()))
            commands = [row.number for row in recovered.commands]
            self.assertEqual(commands, list(range(1, len(commands) + 1)))
            self.assertGreaterEqual(len(commands), max(self.commanded, default=0))
            waiting = {row.first: row for row in recovered.submissions}
            self.assertGreater(recovered.next_task, max(self.submitted, default=-1))
            results = fetch_results(
                store.db, range(recovered.next_task), store.tasks.results.partly
            )
            self.assertEqual(set(results), set(recovered.succeeded))
            self.assertFalse(waiting.keys() & results.keys())
            missing = self.submitted.keys() - waiting.keys() - results.keys() - self.cleared.keys()
            missing |= self.done.keys() - results.keys() - self.cleared.keys()
            self.assertFalse(missing, "these were safe")
            for task_id, row in waiting.items():
                self.assertNotIn(task_id, self.done)
                size = self.submitted.get(task_id)
                self.assertIn(self.data(store, row), [(task_id % 256, size or s) for s in SIZES])
            for task_id, result in results.items():
                size = self.done.get(task_id) or len(result.payload)
                self.assertEqual(result.payload, payload_of(task_id, size))
            bodies = [row.bodies for row in waiting.values()]
            names = {data.name for data in bodies if isinstance(data, PayloadFile)}
            self.assertEqual(names, {path.name for path in store.files.directory.iterdir()})
            return store.state.epoch
        finally:
            store.close()

    def data(self, store: Store, row: SubmissionRow) -> tuple[int, int]:
        bodies = row.bodies
        if isinstance(bodies, PayloadFile):
            bodies = store.files.read(bodies, 0, bodies.size)
        assert bodies is not None
        self.assertEqual(len(set(bodies)), 1)
        return bodies[0], len(bodies)

    def test_nothing_safe_is_lost(self) -> None:
        for sync in ("normal", "full"):
            self.directory = self.directory.with_name(sync)
            self.commanded: dict[int, int] = {}
            self.submitted: dict[int, int] = {}
            self.done: dict[int, int] = {}
            self.cleared: dict[int, int] = {}
            for seed in range(KILLS):
                epoch = self.check(run_and_kill(self.directory, seed, sync))
                self.assertEqual(epoch, 2 * seed + 2)
            self.assertTrue(self.commanded)
            self.assertTrue(self.submitted)
