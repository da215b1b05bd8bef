"""A process that writes to a journal until it is killed, and says on standard output what is safe.

Arguments: the directory, a seed, and ``normal`` or ``full``.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred

from ipython1.kernel.controller.journal.journal import WritingJournal, open_journal
from ipython1.kernel.controller.journal.opening import JournalSettings
from ipython1.kernel.controller.journal.tests.support import (
    CLIENT,
    batch,
    client,
    command,
    submission,
)

reactor: Any = installed_reactor
SIZES = (10, 1000, 70_000, 300_000)


class Program:
    """Commands, submissions and results, some large.

    Lines say what is safe (``commanded``, ``submitted``, ``done``), or begun (``clear``).
    """

    def __init__(self, journal: WritingJournal, rng: random.Random) -> None:
        self.journal = journal
        self.rng = rng
        self.next = journal.recovered.next_task
        self.rows = [(row.first, row.number) for row in journal.recovered.submissions]
        self.done = list(journal.recovered.succeeded)
        self.commands = len(journal.recovered.commands)
        journal.release_recovered()

    def say(self, ticket: int, text: str) -> None:
        self.journal.when_safe(ticket, lambda: print(text, flush=True))

    def turn(self) -> None:
        """What one turn of the reactor may bring."""
        for _ in range(self.rng.randrange(4)):
            self.command()
        for _ in range(self.rng.randrange(1, 20)):
            kind = self.rng.random()
            if kind < 0.5 or not self.rows:
                self.submit()
            elif kind < 0.9 or not self.done:
                self.finish()
            else:
                task_id = self.done.pop(self.rng.randrange(len(self.done)))
                print(f"clear {task_id}", flush=True)
                self.journal.cleared([(task_id, task_id + 1)])
        reactor.callLater(self.rng.random() * 0.004, self.turn)

    def command(self) -> None:
        self.commands += 1
        ticket = self.journal.command(command(CLIENT, self.commands, [0]))
        self.say(ticket, f"commanded {self.commands}")

    def submit(self) -> None:
        first = self.next
        self.next += 1
        self.journal.lease_given(CLIENT, first, first + 1)
        data = bytes([first % 256]) * self.rng.choice(SIZES)
        ticket = self.journal.submission(submission(CLIENT, first, 1)._replace(bodies=data))
        self.rows.append((first, ticket))
        self.say(ticket, f"submitted {first} {len(data)}")

    def finish(self) -> None:
        first, number = self.rows.pop(self.rng.randrange(len(self.rows)))
        size = self.rng.choice(SIZES[:2])
        ticket = self.journal.results([batch(CLIENT, [first], (), size)], [number])
        self.done.append(first)
        self.say(ticket, f"done {first} {size}")


async def main() -> None:
    directory, seed, sync = sys.argv[1:]
    journal = await open_journal(JournalSettings(Path(directory), sync == "full"), reactor)
    assert not journal.recovered.lost, journal.recovered.lost
    journal.client_came(client(CLIENT))
    print("open", flush=True)
    Program(journal, random.Random(int(seed))).turn()


def begin() -> None:
    def failed(failure: Any) -> None:
        print(failure.getTraceback(), file=sys.stderr)
        reactor.stop()

    Deferred.fromCoroutine(main()).addErrback(failed)


if __name__ == "__main__":
    reactor.callWhenRunning(begin)
    reactor.run()
