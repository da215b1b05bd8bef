"""Puts commands and their outcomes into the journal, and gets them out again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from ipython1.kernel.basics.error import JournalError
from ipython1.kernel.controller.command import Outcome, describe
from ipython1.kernel.controller.commandstore import (
    CommandHead,
    FileSink,
    FileSource,
    OutcomeHead,
)
from ipython1.kernel.controller.journal.interface import Journal
from ipython1.kernel.controller.journal.rows import (
    INLINE,
    CommandRow,
    Data,
    OutcomeNote,
    OutcomeRow,
    PayloadFile,
)
from ipython1.kernel.controller.submissions import At, Share, Submission
from ipython1.kernel.wire.bulkrelay import BulkRelay
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.spool import Spool

log: Logger = Logger()

LAZY: Final = 0.1
"""Seconds that a client has to take a small outcome before it is written; also, until it is written that it has one.

What is not written when a controller dies, the client says when it comes back.
"""

Ended = Callable[[bool], None]
"""Called with whether something is safe in the journal now."""


class CommandKeeper:
    """Keeps commands in the journal until their clients have all outcomes.

    :param role: the interface whose clients' commands these are.
    :param now: the time in seconds since the epoch.
    """

    def __init__(
        self, journal: Journal, role: str, clock: IReactorTime, now: Callable[[], float]
    ) -> None:
        self._journal = journal
        self._role = role
        self._clock = clock
        self._now = now
        self._spool = Spool()
        self._coming: dict[Submission, FileSink | None] = {}
        self._lazy: list[tuple[Submission, Share, Ended]] = []
        self._taken: list[OutcomeNote] = []
        self._over: list[Submission] = []
        self._lazy_call: Any = None

    @property
    def keeps(self) -> bool:
        """Whether anything is kept."""
        return self._journal.keeps

    @property
    def trouble(self) -> str:
        """Why nothing can be written now, for people."""
        return self._journal.trouble

    # -- commands

    def is_keeping(self, submission: Submission) -> bool:
        """Whether a command is on its way into the journal."""
        return submission in self._coming

    def keep(
        self,
        submission: Submission,
        payload: Buffer,
        relay: BulkRelay | None,
        on_safe: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        """Write a command, or what a relay brings of it.

        :param on_safe: called when it is safe.
        :param on_lost: called instead if the relay does not bring all of it.
        """
        if relay is not None:
            sizes = relay.sizes
            sink = FileSink(
                self._journal,
                lambda file, reason: self._file_ended(submission, sizes, file, on_safe, on_lost),
            )
            self._coming[submission] = sink
            relay.attach(sink)
            return
        self._coming[submission] = None
        data = self._file_of(payload)
        submission.file = data if isinstance(data, PayloadFile) else None
        self._write(submission, data, on_safe)

    def _file_of(self, payload: Buffer) -> Data:
        if len(payload) <= INLINE:
            return bytes(payload)
        writer = self._journal.new_payload()
        writer.add(bytes(payload))
        return writer.finish()

    def _file_ended(
        self,
        submission: Submission,
        sizes: bytes,
        file: PayloadFile | None,
        on_safe: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        if file is None:
            self._coming.pop(submission, None)
            on_lost()
            return
        submission.file, submission.sizes = file, sizes
        self._write(submission, file, on_safe)

    def _write(self, submission: Submission, data: Data, on_safe: Callable[[], None]) -> None:
        label = submission.data.label or describe(submission.meta.method, submission.data.payload)
        submission.data.label = label
        head = CommandHead(self._role, submission.meta, submission.sizes)
        row = CommandRow(
            submission.origin,
            submission.number,
            submission.targets,
            label,
            head.pack(),
            data,
            submission.submitted,
        )

        def safe() -> None:
            if submission in self._coming:
                del self._coming[submission]
                on_safe()

        self._journal.when_safe(self._journal.command(row), safe)

    def give_up(self, submission: Submission) -> None:
        """A command that is not in the journal yet shall not be."""
        sink = self._coming.get(submission)
        if sink is not None:
            del self._coming[submission]
            sink.give_up()

    def fetch_data(self, submission: Submission) -> None:
        """Have the arguments of a command come out of the journal."""
        assert submission.file is not None
        data = submission.data
        if submission.sizes:
            source = self._source(submission.file, submission.sizes)
            self._clock.callLater(0, self._begin, source, data.came)
            return
        file = submission.file
        reading = self._journal.read_payload(file, 0, file.size)
        reading.addCallbacks(data.came, partial(self._not_read, data.not_coming))

    def _source(self, file: PayloadFile, sizes: bytes) -> FileSource:
        return FileSource(self._journal, file, sizes, self._spool, self._clock)

    @staticmethod
    def _begin(source: FileSource, came: Callable[[None, BulkRelay], None]) -> None:
        came(None, source.relay)
        source.relay.refuse("nobody waits for it any more")
        source.begin()

    @staticmethod
    def _not_read(then: Callable[[], None], failure: Failure) -> None:
        failure.trap(JournalError)
        log.error("{problem}", problem=failure.value)
        then()

    def over(self, submission: Submission) -> None:
        """All engines are done with a command, and its client has all outcomes or will not come back."""
        if submission.kept:
            self._over.append(submission)
            self._write_soon()

    # -- outcomes

    def keep_outcome(self, submission: Submission, share: Share, ended: Ended) -> None:
        """Write an outcome that is here, unless its client takes it very soon."""
        self._lazy.append((submission, share, ended))
        self._write_soon()

    def _write_soon(self) -> None:
        if self._lazy_call is None:
            self._lazy_call = self._clock.callLater(LAZY, self._write_lazy)

    def _write_lazy(self) -> None:
        self._lazy_call = None
        self._write_outcomes()
        taken, self._taken = self._taken, []
        for note in taken:
            self._journal.outcome_taken(note)
        over, self._over = self._over, []
        for submission in over:
            self._journal.command_over(submission.origin, submission.number)

    def _write_outcomes(self) -> None:
        lazy, self._lazy = self._lazy, []
        for submission, share, ended in lazy:
            outcome = share.outcome
            if share.at is not At.HERE or outcome is None:
                continue
            head = OutcomeHead(outcome.error)
            self._write_outcome(submission, share, head, self._file_of(outcome.payload), ended)

    def _write_outcome(
        self, submission: Submission, share: Share, head: OutcomeHead, data: Data, ended: Ended
    ) -> None:
        row = OutcomeRow(
            submission.origin,
            submission.number,
            share.engine_id,
            share.status,
            head.pack(),
            data,
            self._now(),
        )
        self._journal.when_safe(self._journal.outcome(row), lambda: ended(True))

    def keep_large_outcome(
        self, submission: Submission, share: Share, relay: BulkRelay, ended: Ended
    ) -> None:
        """Write what a relay brings."""
        head = OutcomeHead(None, relay.sizes)

        def file_ended(file: PayloadFile | None, reason: str) -> None:
            if file is None:
                ended(False)
            else:
                self._write_outcome(submission, share, head, file, ended)

        relay.attach(FileSink(self._journal, file_ended))

    def outcome_taken(self, submission: Submission, share: Share) -> None:
        """The client has an outcome."""
        note = OutcomeNote(
            submission.origin,
            submission.number,
            share.engine_id,
            share.status,
            self._now(),
            None,
        )
        self._taken.append(note)
        self._write_soon()

    def fetch_outcome(
        self,
        origin: bytes,
        number: int,
        engine_id: int,
        call: Callable[[Outcome | None], None],
    ) -> None:
        """Call ``call`` with an outcome that is in the journal, or with None; a sink is added to its relay at once."""
        fetching = self._journal.fetch_outcome(origin, number, engine_id)
        fetching.addCallback(self._read_outcome, call)
        fetching.addErrback(partial(self._not_read, lambda: call(None)))

    def _read_outcome(
        self, row: OutcomeRow | None, call: Callable[[Outcome | None], None]
    ) -> Deferred[None] | None:
        if row is None:
            call(None)
            return None
        head = OutcomeHead.of(row)
        outcome = partial(Outcome, row.engine_id, row.status, error=head.error)
        file = row.payload
        if isinstance(file, bytes):
            call(outcome(payload=file))
        elif not head.sizes:
            reading = self._journal.read_payload(file, 0, file.size)
            return reading.addCallback(lambda payload: call(outcome(payload=payload)))
        else:
            source = self._source(file, head.sizes)
            call(outcome(relay=source.relay))
            source.relay.refuse("nobody waits for it")
            source.begin()
        return None
