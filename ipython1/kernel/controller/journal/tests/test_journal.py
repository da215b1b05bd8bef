"""The journal, held to a model of it."""

from __future__ import annotations

import os
import shutil
from typing import Any

from ipython1.kernel.controller.journal.interface import Journal
from ipython1.kernel.controller.journal.payloads import trailer_size
from ipython1.kernel.controller.journal.rows import INLINE, PayloadFile, Recovered, StoredResult
from ipython1.kernel.controller.journal.tests.memoryjournal import Disk, MemoryJournal
from ipython1.kernel.controller.journal.tests.support import (
    JournalCase,
    RandomUser,
    safe,
)


async def content(data: Any, journal: Journal) -> Any:
    return await journal.read_payload(data, 0, data.size) if isinstance(data, PayloadFile) else data


async def plain(recovered: Recovered, journal: Journal) -> dict[str, Any]:
    """What was recovered, in an order and a form that can be compared."""
    submissions = [
        row._replace(bodies=await content(row.bodies, journal), number=0)
        for row in recovered.submissions
    ]
    commands = [
        row._replace(payload=await content(row.payload, journal)) for row in recovered.commands
    ]
    return {
        "next": (recovered.next_task, recovered.next_engine),
        "engines": sorted(recovered.engines, key=repr),
        "clients": sorted(recovered.clients, key=repr),
        "leases": sorted(recovered.leases, key=repr),
        "functions": sorted(recovered.functions, key=repr),
        "submissions": submissions,
        "succeeded": recovered.succeeded.ranges(),
        "failed": recovered.failed.ranges(),
        "cleared": recovered.cleared.ranges(),
        "commands": commands,
        "outcomes": sorted(recovered.outcomes, key=repr),
        "lost": recovered.lost,
        "broken": recovered.broken_files,
    }


async def readings(journal: Journal, user: RandomUser) -> dict[str, Any]:
    """All that can be read."""
    results = {}
    for task_id, result in (await journal.fetch_results(user.all_tasks)).items():
        results[task_id] = StoredResult(
            result.client, result.head, await content(result.payload, journal)
        )
    outcomes = {}
    for key in user.keys:
        row = await journal.fetch_outcome(*key)
        if row is not None:
            outcomes[key] = row._replace(payload=await content(row.payload, journal))
    return {
        "results": results,
        "outcomes": outcomes,
        "commands": await journal.command_history(1000),
        "tasks": sorted(await journal.task_history(100_000), key=repr),
    }


SEEDS = int(os.environ.get("IPYTHON1_TEST_EXAMPLES", "5"))


class ModelTests(JournalCase):
    large = 100_000

    async def run_history(self, seed: int, large: int, steps: int) -> None:
        self.directory = self.directory.with_name(f"state{seed}")
        user = RandomUser(seed, large)
        model = MemoryJournal(at_once=True)
        journal = await self.opened()
        for turn in range(4):
            user.journals = [journal, model]
            tickets = [user.step() for _ in range(steps)]
            await safe(journal, tickets[-1][0])
            self.same(await readings(journal, user), await readings(model, user))
            if turn % 2:
                await journal.close()
                self.assertEqual(self.files(), large_ones(model.disk))
            else:
                copy = self.killed(turn)
                await journal.close()
                shutil.rmtree(self.directory)
                copy.rename(self.directory)
            model = MemoryJournal(model.disk, at_once=True)
            journal = await self.opened()
            self.assertEqual(journal.epoch, model.epoch)
            self.same(await plain(journal.recovered, journal), await plain(model.recovered, model))
            self.same(await readings(journal, user), await readings(model, user))
        await journal.close()

    def same(self, found: dict[str, Any], expected: dict[str, Any]) -> None:
        for name, value in expected.items():
            if isinstance(value, dict):
                self.assertEqual(sorted(found[name]), sorted(value), name)
            self.assertEqual(found[name], value, name)

    def files(self) -> list[int]:
        paths = (self.directory / "payloads").iterdir()
        return sorted(path.stat().st_size - trailer_size(self.large) for path in paths)

    async def test_it_keeps_what_the_model_keeps(self) -> None:
        for seed in range(SEEDS):
            await self.run_history(seed, 0, 60)

    async def test_large_data(self) -> None:
        for seed in range(SEEDS, SEEDS + 3):
            await self.run_history(seed, self.large, 60)


def large_ones(disk: Disk) -> list[int]:
    """The sizes of data that are large enough for a file."""
    data: list[Any] = [row.bodies or b"" for row in disk.submissions.values()]
    data += [result.payload for _, result in disk.results.values()]
    data += [row.payload for row in (*disk.commands.values(), *disk.outcomes.values())]
    return sorted(len(each) for each in data if len(each) > INLINE)
