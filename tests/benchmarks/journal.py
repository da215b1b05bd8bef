"""The controller's journal alone: how much it writes, how soon one call is safe, and how fast it opens.

Each step runs in a process of its own, so that the memory is the journal's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred

from ipython1.kernel.controller.journal.journal import WritingJournal, open_journal
from ipython1.kernel.controller.journal.opening import JournalSettings
from ipython1.kernel.controller.journal.rows import ResultBatch, SubmissionRow
from ipython1.kernel.wire.taskwire import DONE_HEAD
from tests.benchmarks.meters import resident_megabytes
from tests.benchmarks.workload import Clock, Plan

reactor: Any = installed_reactor
CLIENT = b"c" * 16
FRAME = 300
"""Tasks in a frame of submissions, and in one of results."""

ENGINES = 4
PAYLOAD = os.urandom(100)

STEPS = (
    ("latency", "one"),
    ("latency-full", "one"),
    ("normal", "two"),
    ("full", "three"),
    ("fill", "four"),
    ("reopen", "four"),
)
"""What is measured, and the journal that it uses."""


def measure(clock: Clock) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        for step, place in STEPS:
            directory = Path(temporary) / place / "state"
            command = [sys.executable, "-P", "-m", "tests.benchmarks.journal", step]
            subprocess.run([*command, str(directory), clock.plan.to_json()], check=step != "fill")


def safe(journal: WritingJournal, ticket: int) -> Deferred[None]:
    done: Deferred[None] = Deferred()
    journal.when_safe(ticket, lambda: done.callback(None))
    return done


def turn() -> Deferred[None]:
    """The next turn of the reactor."""
    done: Deferred[None] = Deferred()
    reactor.callLater(0, done.callback, None)
    return done


def frames(count: int) -> Iterator[tuple[SubmissionRow, list[ResultBatch]]]:
    """Submissions, and their results: engines had every fourth task each."""
    body = PAYLOAD * FRAME
    for first in range(0, count, FRAME * ENGINES):
        for start in range(first, first + FRAME * ENGINES, FRAME):
            row = SubmissionRow(CLIENT, start, start + FRAME - 1, FRAME, 1e9, body)
            engine = (start - first) // FRAME
            ids = range(first + engine, first + FRAME * ENGINES, ENGINES)
            now = time.time()
            parts = []
            for task_id in ids:
                parts.append(DONE_HEAD.pack(task_id, 100, 0, engine, 1, now, now, 0.001))
                parts.append(PAYLOAD)
            yield row, [ResultBatch(CLIENT, now, ids, (), parts)]


async def write(clock: Clock, directory: Path, count: int, sync: str) -> None:
    """As many tasks as possible: their submissions, then their results, which end the submissions."""
    journal = await open_journal(JournalSettings(directory, sync == "full"), reactor)
    prepared = list(frames(min(count, 120_000)))
    begun = time.perf_counter()
    busy = time.process_time()
    written = 0
    ticket = 0
    while written < count:
        over = []
        for row, batches in prepared:
            ticket = journal.submission(row)
            over.append(ticket)
            if len(over) == 8:  # the earliest of what is under way
                ticket = journal.results(batches, [over.pop(0)])
            else:
                ticket = journal.results(batches)
            written += FRAME
            while journal.overfull:
                await turn()
            if written >= count:
                break
        journal.submissions_over(over)
    await safe(journal, ticket)
    took = time.perf_counter() - begun
    name = "journal_tasks" if sync == "normal" else "journal_tasks_full"
    clock.write(name, [written / took])
    clock.write(f"{name}_cpu", [(time.process_time() - busy) * 1e6 / written])
    await journal.close()


async def latency(clock: Clock, directory: Path, sync: str, times: int) -> None:
    """How soon one call is safe when nothing else goes on."""
    journal = await open_journal(JournalSettings(directory, sync == "full"), reactor)
    row = SubmissionRow(CLIENT, 0, 0, 1, 1e9, PAYLOAD)
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        await safe(journal, journal.submission(row))
        found.append(time.perf_counter() - begun)
        await turn()
    name = "journal_safe" if sync == "normal" else "journal_safe_full"
    clock.write(name, [each * 1e6 for each in found])
    await journal.close()


async def fill(directory: Path, count: int) -> None:
    """Results that are kept."""
    journal = await open_journal(JournalSettings(directory), reactor)
    written = 0
    ticket = 0
    for _, batches in frames(count):
        ticket = journal.results(batches)
        while journal.overfull:
            await turn()
        written += FRAME
    await safe(journal, ticket)
    # The process is killed here: the log is read at the next start, too.
    os.kill(os.getpid(), 9)


async def reopen(clock: Clock, directory: Path, count: int) -> None:
    """Open a journal with results, and read some."""
    before = resident_megabytes(os.getpid())
    begun = time.perf_counter()
    journal = await open_journal(JournalSettings(directory), reactor)
    took = time.perf_counter() - begun
    held = len(journal.recovered.succeeded)
    assert held >= count and not journal.recovered.lost
    clock.write("journal_open", [took])
    clock.write("journal_memory", [resident_megabytes(os.getpid()) - before])
    begun = time.perf_counter()
    some = await journal.fetch_results(range(1000, 2000))
    assert len(some) == 1000
    clock.write("journal_fetch", [(time.perf_counter() - begun) * 1e3])
    begun = time.perf_counter()
    await safe(journal, journal.cleared([(0, held)]))
    clock.write("journal_clear", [time.perf_counter() - begun])
    await journal.close()


def run(work: Callable[[], Any]) -> None:
    """Run a coroutine in the reactor."""
    failed: list[Any] = []

    def begin() -> None:
        Deferred.fromCoroutine(work()).addErrback(failed.append).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    for failure in failed:
        failure.printTraceback()
        raise SystemExit(1)


def main(step: str, directory: Path, plan: Plan) -> None:
    """Run one step."""
    clock = Clock(plan, dict)
    count = plan.numbers.get("journal_results", 1_000_000)
    steps: dict[str, Callable[[], Any]] = {
        "normal": lambda: write(clock, directory, count, "normal"),
        "full": lambda: write(clock, directory, count, "full"),
        "latency": lambda: latency(clock, directory, "normal", 1000),
        "latency-full": lambda: latency(clock, directory, "full", 100),
        "fill": lambda: fill(directory, count),
        "reopen": lambda: reopen(clock, directory, count),
    }
    run(steps[step])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Plan.from_json(sys.argv[3]))
