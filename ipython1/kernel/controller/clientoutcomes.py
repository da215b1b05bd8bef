"""The outcomes of one client's commands, from when they come until the client has them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from ipython1.kernel.basics.error import EngineDied, JournalError
from ipython1.kernel.controller.command import Outcome
from ipython1.kernel.controller.commandkeeper import CommandKeeper
from ipython1.kernel.controller.queuedengine import QueuedEngine
from ipython1.kernel.controller.submissions import At, ClientFace, Share, Submission

# Each look-up in an enumeration takes longer than a comparison.
NOWHERE, ENGINE, HERE, JOURNAL, CLIENT = At

MOST_HELD: Final = 64 * 2**20
"""Bytes of outcomes that are held in memory for one client; what is more stays at its engine, or in the journal."""

FEW: Final = 256 * 1024
"""Bytes of outcomes that are sent without asking whether there is room, if the client has all others."""


class ClientOutcomes:
    """Passes outcomes on to their client, and holds them until the client has them; see :class:`Share`.

    Large ones stay at their engines, and pass through here; those that are to be kept go into the journal if the
    client does not take them soon.

    :param on_progress: called when a submission may be done, or over.
    :ivar face: the client, while it listens.
    """

    def __init__(self, keeper: CommandKeeper, on_progress: Callable[[Submission], None]) -> None:
        self._keeper = keeper
        self._on_progress = on_progress
        self._held = 0
        self._backlog: deque[tuple[Submission, Share]] = deque()
        self._waits_for_room = False
        self.face: ClientFace | None = None

    # -- what comes

    def came(self, submission: Submission, share: Share, outcome: Outcome) -> None:
        """An outcome comes from its engine."""
        share.status = outcome.status
        if share.at is CLIENT or not submission.wanted:
            if outcome.relay is not None:
                outcome.relay.refuse("nobody waits for it")
            self._let_go(submission, share)
        elif outcome.relay is not None:
            share.at = ENGINE
            self._pass_on(submission, share, outcome)
        elif self._held + len(outcome.payload) > MOST_HELD and self._is_at_engine(
            submission, share
        ):
            share.at = ENGINE
            self.tell(submission, share)
        else:
            self._hold(submission, share, outcome)

    def _pass_on(self, submission: Submission, share: Share, outcome: Outcome) -> None:
        """A large outcome begins to come."""
        assert outcome.relay is not None
        if self.face is not None:
            share.told, share.relay = True, outcome.relay
            self.face.outcome(submission.number, outcome, partial(self._again, submission, share))
        elif submission.kept:
            share.busy = True
            ended = partial(self._saved, submission, share)
            self._keeper.keep_large_outcome(submission, share, outcome.relay, ended)
        else:
            outcome.relay.refuse("its client is away")

    def _hold(self, submission: Submission, share: Share, outcome: Outcome) -> None:
        share.at, share.outcome = HERE, outcome
        self._held += len(outcome.payload)
        if not self._keeper.keeps:
            self._confirm(submission, share)
        if submission.kept:
            share.busy = True
            self._keeper.keep_outcome(submission, share, partial(self._saved, submission, share))
        self.tell(submission, share)

    def _saved(self, submission: Submission, share: Share, good: bool) -> None:
        """An outcome is safe in the journal, or could not be written."""
        share.busy = False
        if good and share.at in (HERE, ENGINE):
            self._release(share)
            share.at = JOURNAL
            self._confirm(submission, share)
            self.tell(submission, share)
            self._on_progress(submission)
        elif share.at is ENGINE:
            self._again(submission, share)

    def _again(self, submission: Submission, share: Share) -> None:
        """A large outcome did not come whole; where it comes from still has it."""
        share.told, share.relay = False, None
        self.tell(submission, share)
        if self.face is None:
            self._save(submission, share)

    @staticmethod
    def _is_at_engine(submission: Submission, share: Share) -> bool:
        return share.engine is not None and share.engine.commands.has_ended(submission.key)

    # -- what goes to the client

    def tell(self, submission: Submission, share: Share) -> None:
        """Pass an outcome on to the client, if it is there and listens."""
        if share.told or self.face is None or share.at in (NOWHERE, CLIENT):
            return
        if self._backlog or not self._may_tell(share):
            self._backlog.append((submission, share))
            self._wait_for_room()
        else:
            self._tell_now(submission, share)

    def _may_tell(self, share: Share) -> bool:
        assert self.face is not None
        if self._held < FEW and share.at is HERE:
            return True
        return self.face.has_room and (share.at is HERE or self._held <= MOST_HELD // 2)

    def _wait_for_room(self) -> None:
        if self.face is not None and not self._waits_for_room and not self.face.has_room:
            self._waits_for_room = True
            self.face.when_room(partial(self._there_is_room, self.face))

    def _there_is_room(self, face: ClientFace) -> None:
        if self.face is face:
            self._waits_for_room = False
            self._go_on()

    def _go_on(self) -> None:
        backlog = self._backlog
        while backlog and self.face is not None and self._may_tell(backlog[0][1]):
            submission, share = backlog.popleft()
            if not share.told:
                self._tell_now(submission, share)
        if backlog:
            self._wait_for_room()

    def _tell_now(self, submission: Submission, share: Share) -> None:
        assert self.face is not None
        if share.at is ENGINE:
            self._fetch_from_engine(submission, share)
        elif share.at is HERE and share.outcome is not None:
            share.told = True
            again = partial(self._again, submission, share)
            self.face.outcome(submission.number, share.outcome, again)
        elif share.at is JOURNAL:
            share.told = True
            fetched = partial(self._fetched, submission, share, self.face)
            self._keeper.fetch_outcome(*submission.key, share.engine_id, fetched)

    def _fetched(
        self, submission: Submission, share: Share, face: ClientFace, outcome: Outcome | None
    ) -> None:
        """An outcome was read in the journal."""
        if self.face is not face or share.at is not JOURNAL:
            if outcome is not None and outcome.relay is not None:
                outcome.relay.refuse("its client is away")
            return
        if outcome is None:
            problem = JournalError("the controller's journal does not have this outcome any more")
            outcome = Outcome.refused(share.engine_id, problem)
        face.outcome(submission.number, outcome, partial(self._again, submission, share))

    def _fetch_from_engine(self, submission: Submission, share: Share) -> None:
        engine = share.engine
        if engine is None or not engine.alive or not self._is_at_engine(submission, share):
            problem = EngineDied(
                f"engine {share.engine_id} finished this command, and died before its result was fetched"
            )
            self._hold(submission, share, Outcome.refused(share.engine_id, problem))
        else:
            engine.commands.reclaim(submission.key, partial(self.came, submission, share))

    def taken(self, submission: Submission, share: Share) -> None:
        """The client has an outcome."""
        if share.at is CLIENT:
            return
        if share.at is NOWHERE and share.engine is not None:
            share.engine.commands.forget(submission.key)
        if submission.kept:
            self._keeper.outcome_taken(submission, share)
        self._let_go(submission, share)
        if self._backlog:
            self._go_on()

    # -- the client and the engines

    def went_away(self, submissions: Iterable[Submission]) -> None:
        """The client's link is lost."""
        self.face = None
        self._waits_for_room = False
        self._backlog.clear()
        for submission in submissions:
            for share in submission.shares.values():
                share.told, share.relay = False, None
                self._save(submission, share)

    def gone(self, submissions: Iterable[Submission]) -> None:
        """The client will not come back; :meth:`went_away` was called."""
        for submission in submissions:
            for share in list(submission.shares.values()):
                if not submission.wanted and share.at not in (NOWHERE, CLIENT):
                    self._let_go(submission, share)
            self._on_progress(submission)

    def _save(self, submission: Submission, share: Share) -> None:
        """Have an outcome that is at its engine come into the journal."""
        if submission.kept and share.at is ENGINE and not share.busy:
            self._fetch_from_engine(submission, share)

    def engine_changed(self, engine: QueuedEngine, submissions: Iterable[Submission]) -> None:
        """An engine is back, or gone: what it had and did not come whole is fetched again."""
        for submission in submissions:
            for share in submission.shares.values():
                if share.engine is not engine or share.at is not ENGINE or share.busy:
                    continue
                if share.told and share.relay is not None and share.relay.whole:
                    continue
                self._again(submission, share)

    # -- one outcome

    def _let_go(self, submission: Submission, share: Share) -> None:
        """Nobody needs an outcome any more."""
        self._release(share)
        was_at_engine = share.at is ENGINE
        if share.at is not CLIENT:
            share.at = CLIENT
            submission.open -= 1
        if share.engine is not None:
            share.engine.commands.confirm(submission.key, at_once=was_at_engine)
        self._on_progress(submission)

    def _release(self, share: Share) -> None:
        outcome = share.outcome
        if outcome is not None:
            self._held -= len(outcome.payload)
        share.outcome = share.relay = None

    def _confirm(self, submission: Submission, share: Share) -> None:
        if share.engine is not None:
            share.engine.commands.confirm(submission.key)
