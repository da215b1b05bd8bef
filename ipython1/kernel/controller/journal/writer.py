"""The thread that writes the journal.

It takes all that waits, writes it in one transaction, tells the reactor, and takes what has come meanwhile: under load
many calls share a commit, and a single call when nothing else goes on is written at once.  Only calls that are safe
already, because the intake has them, gather for a moment.  Between commits it answers questions.  A commit that fails
is tried again each second; what comes behind it waits.

================  ===============================================  ==================================================
state             it has                                           it ends with
================  ===============================================  ==================================================
idle              nothing to do                                    a call, a question, the end
writing           a plan, made of calls that were waiting          the commit and its marks; or a failure
in trouble        a plan that could not be written, or a piece     success, when it tries again after a second; the
                  of a payload file                                end, after one more attempt
ended             nothing; all files are closed                    --
================  ===============================================  ==================================================
"""

from __future__ import annotations

import sqlite3
import threading
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from ipython1.kernel.controller.journal.payloads import PayloadFiles
from ipython1.kernel.controller.journal.plan import Effects, Plan
from ipython1.kernel.controller.journal.store import Store

MOST: Final = 8 * 1024 * 1024
"""Bytes of calls that share a commit, about."""

RETRY: Final = 1.0
"""Seconds after which what failed is tried again."""

SYNC_EVERY: Final = 1.0
"""Seconds between two syncs, while something is written."""

NOTED_FOR: Final = 0.05
"""Seconds for which calls gather before they are written, if the intake has all that wait."""

LOOK_EVERY: Final = 600.0
"""Seconds after which an idle writer looks for results that are too old."""


class Entry(NamedTuple):
    """A call that waits: it adds to a plan, or does something to payload files.

    :ivar noted: whether the intake has it, so that it is safe.
    """

    ticket: int
    size: int
    noted: bool
    add: Callable[[Plan], None] | None = None
    act: Callable[[PayloadFiles], None] | None = None


class Question(NamedTuple):
    """Something to be read, and who is told the answer or the failure; both are called in the writer's thread."""

    read: Callable[[Store], Any]
    answer: Callable[[Any], None]
    fail: Callable[[BaseException], None]


class Reports:
    """What the writer tells; all of it is called in its thread, or in the one that syncs."""

    def safe(self, ticket: int, size: int) -> None:
        """All up to ``ticket`` is safe; ``size`` bytes of calls were written in all."""
        raise NotImplementedError

    def trouble(self, text: str) -> None:
        """Why nothing can be written; empty when it can again."""
        raise NotImplementedError

    def dropped(self, ranges: list[tuple[int, int]]) -> None:
        """Results of these tasks were dropped."""
        raise NotImplementedError

    def complain(self, text: str) -> None:
        """Something that those who run the controller should know."""
        raise NotImplementedError

    def ended(self) -> None:
        """Nothing will follow."""
        raise NotImplementedError


class Writer:
    """The thread, which begins at once, and another one that syncs unless each commit is synced.

    :param store: used by nobody else from now on, except its intake, :meth:`Store.sync` and the reading of payload
        files; when it is to end, its intake too is its own.
    """

    def __init__(self, store: Store, reports: Reports, sync_each: bool) -> None:
        self._store = store
        self._reports = reports
        self._wake = threading.Condition()
        self._waiting: deque[Entry] = deque()
        self._questions: deque[Question] = deque()
        self._closing = False
        self._plan = Plan()
        self._effects: Effects | None = None
        self._written = 0
        self._taken = 0
        self._trouble = ""
        self._syncer = None if sync_each else Syncer(store, reports)
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    # -- other threads

    def put(self, entry: Entry) -> None:
        """Have something written; tickets must rise."""
        with self._wake:
            self._waiting.append(entry)
            if self._due() or len(self._waiting) == 1:
                self._wake.notify()

    def ask(self, question: Question) -> None:
        """Have something read, when the commit under way is done, and what was put before is written, if it can be."""
        with self._wake:
            self._questions.append(question)
            self._wake.notify()

    def close(self) -> None:
        """Write what waits, then end."""
        with self._wake:
            self._closing = True
            self._wake.notify()

    # -- the thread

    def _run(self) -> None:
        while self._wait():
            asked = len(self._questions)
            self._step()  # which writes what is older than these questions
            self._answer(asked)
        self._end()

    def _wait(self) -> bool:
        """Wait until there is something to do; tell whether there will be more."""
        with self._wake:
            if self._trouble:
                self._wake.wait_for(lambda: self._questions or self._closing, RETRY)
            else:
                if not (self._due() or self._waiting):
                    self._wake.wait(LOOK_EVERY if self._store.kept else None)
                if self._waiting:
                    self._wake.wait_for(self._due, NOTED_FOR)
            return not (self._closing and (self._trouble or not self._waiting))

    def _due(self) -> bool:
        """Whether somebody waits; what waits before a call that is noted is noted too."""
        waiting = bool(self._waiting) and not self._waiting[-1].noted
        return waiting or bool(self._questions) or self._closing

    def _answer(self, asked: int) -> None:
        for _ in range(asked):
            question = self._questions.popleft()
            try:
                answer = question.read(self._store)
            except BaseException as problem:
                question.fail(problem)
            else:
                question.answer(answer)

    def _step(self) -> None:
        """Write what waits."""
        try:
            self._gather()
            if self._plan.ticket:
                self._commit()
            self._keep_house()
        except Exception as problem:
            self._failed(problem)
        else:
            self._say_trouble("")

    def _gather(self) -> None:
        """Add what waits to the plan."""
        plan = self._plan
        while self._waiting and plan.size < MOST and self._effects is None:
            entry = self._waiting[0]
            if entry.act is not None:
                try:
                    entry.act(self._store.files)
                except OSError:
                    if plan.ticket:
                        break  # what came before it can be written
                    raise
            elif entry.add is not None:
                entry.add(plan)
            self._waiting.popleft()
            plan.ticket = entry.ticket
            plan.size += entry.size

    def _commit(self) -> None:
        plan = self._plan
        if not plan.empty:
            if self._effects is None:
                self._effects = self._store.write(plan)
            self._store.mark()
            self._follow(self._effects)
        self._plan, self._effects = Plan(), None
        self._taken += plan.size
        self._reports.safe(plan.ticket, self._taken)
        if self._syncer is not None:
            self._syncer.due.set()

    def _follow(self, effects: Effects) -> None:
        self._store.files.remove(effects.files)
        if effects.dropped:
            self._reports.dropped(effects.dropped)

    def _keep_house(self) -> None:
        while (effects := self._store.tidy()) is not None:
            self._follow(effects)
            self._store.mark()
            if (self._waiting or self._questions) and not self._store.behind:
                break  # the rest next time
        if self._store.log_is_long:
            self._store.checkpoint()

    def _failed(self, problem: Exception) -> None:
        if not isinstance(problem, OSError | sqlite3.Error):
            self._reports.complain(f"a mistake in the journal: {_traceback(problem)}")
        self._say_trouble(str(problem) or type(problem).__name__)

    def _say_trouble(self, text: str) -> None:
        if text != self._trouble:
            self._trouble = text
            self._reports.trouble(text)

    def _end(self) -> None:
        self._step()
        while self._waiting and not self._trouble:
            self._step()
        self._answer(len(self._questions))
        tickets = [self._plan.ticket, *[entry.ticket for entry in self._waiting]]
        left = sum(ticket > self._store.intake.ticket for ticket in tickets)
        if left:
            self._reports.complain(
                f"the journal ends without the last {left:,} calls, which nobody was told are safe: {self._trouble}"
            )
        if self._syncer is not None:
            self._syncer.stop()
        try:
            self._store.close()
        except Exception as problem:
            self._reports.complain(f"the journal was not closed in order: {problem}")
        self._reports.ended()


def _traceback(problem: BaseException) -> str:
    """What happened, and where."""
    return "".join(traceback.format_exception(problem)).strip()


class Syncer:
    """A thread that syncs what was written, each second while anything is."""

    def __init__(self, store: Store, reports: Reports) -> None:
        self.due: threading.Event = threading.Event()
        self._stopped = threading.Event()
        self._store = store
        self._reports = reports
        self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, without another sync."""
        self._stopped.set()
        self.due.set()
        self._thread.join()

    def _run(self) -> None:
        failed = False
        while True:
            self.due.wait()
            if self._stopped.wait(SYNC_EVERY):
                return
            self.due.clear()
            try:
                self._store.sync()
            except OSError as problem:
                if not failed:
                    self._reports.complain(f"the journal cannot be synced to the disk: {problem}")
                failed = True
                self.due.set()
            else:
                failed = False
