"""The commands of one client in the controller: what it has submitted, and where it has been told to go on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Final, Protocol, TypeAlias

from ipython1.kernel.basics.error import EngineDied, JournalError, KernelError
from ipython1.kernel.controller.clientoutcomes import ClientOutcomes
from ipython1.kernel.controller.command import KEPT_HERE, Outcome
from ipython1.kernel.controller.commanddata import CommandData
from ipython1.kernel.controller.commandkeeper import CommandKeeper
from ipython1.kernel.controller.commandstore import CommandHead
from ipython1.kernel.controller.journal.rows import CommandRow, OutcomeNote, PayloadFile
from ipython1.kernel.controller.queuedengine import QueuedEngine
from ipython1.kernel.controller.submissions import At, ClientFace, Share, Submission
from ipython1.kernel.wire.bulkrelay import BulkRelay
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.messages import Resync, SubmitMeta

MOST_REFUSED: Final = 1000
"""Refusals that a client may not have heard of; of more, the oldest are forgotten."""

LATER: Final = "it is fetched when its turn is near"

OnOutput: TypeAlias = Callable[[int, str, bytes], None]


class Multiplexer(Protocol):
    """Queues commands on engines; see ``IEngineMultiplexer``."""

    def submit(
        self,
        origin: bytes,
        number: int,
        submission: SubmitMeta,
        payload: Buffer,
        relay: BulkRelay | None,
        on_outcome: Callable[[Outcome], None],
        on_output: OnOutput,
    ) -> Sequence[int]:
        """Queue a command; returns the ids of its engines."""

    def engine(self, engine_id: int) -> QueuedEngine | None:
        """The engine of this id, if there is one."""

    def go_on(self) -> None:
        """Have all engines look whether they can go on."""

    def forget_strangers(self, origin: bytes, but: Collection[int]) -> None:
        """A client will not name any commands that only engines know, but these."""


class ClientCommands:
    """One client's commands.

    ==========  ==================================================  ==================================================
    a client    event                                               becomes
    ==========  ==================================================  ==================================================
    (new)       :meth:`connected`                                   present
    (new)       it was there before the controller's restart        unsynced: nothing of it is sent to engines
    present     :meth:`went_away`                                   away: what is queued goes on
    away,       :meth:`resync`: it says which outcomes it lacks     present; what the controller does not know is asked
    unsynced                                                        for, and nothing later of it is sent before it comes
    any         :meth:`gone`                                        gone: what was to be kept goes on
    ==========  ==================================================  ==================================================

    :param origin: its uuid.
    :param multiplexer: queues its commands.
    :param now: the time in seconds since the epoch.
    :param synced: whether it was never here before.
    :param highest: the highest number of its commands that was here before.
    :ivar is_gone: whether it will not come back.
    """

    def __init__(
        self,
        origin: bytes,
        multiplexer: Multiplexer,
        keeper: CommandKeeper,
        now: Callable[[], float],
        synced: bool = True,
        highest: int = 0,
    ) -> None:
        self.origin = origin
        self._multiplexer = multiplexer
        self._keeper = keeper
        self._now = now
        self._face: ClientFace | None = None
        self._synced = synced
        self._highest = highest
        self._submissions: dict[int, Submission] = {}
        self._expected: dict[int, Sequence[int]] = {}
        self._called_off: dict[int, Callable[[], object]] = {}
        self._listed: set[int] = set()
        self._resent: set[int] = set()
        self._refused: dict[int, KernelError] = {}
        self._outcomes = ClientOutcomes(keeper, self._progress)
        self.is_gone: bool = False

    # -- rules for the queues of engines

    def may_go(self, number: int) -> bool:
        """Whether a command may be sent to an engine."""
        if not self._synced or number in self._called_off:
            return False
        return not (self._expected and number > min(self._expected))

    def may_claim(self, number: int) -> bool:
        """Whether the client may still come and name a command that only its engine knows."""
        return not self._synced or number in self._expected

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing of it here."""
        return not self._submissions

    def data(self, number: int) -> CommandData | None:
        """The arguments of a command that is not done."""
        submission = self._submissions.get(number)
        return None if submission is None else submission.data

    # -- the client comes and goes

    def connected(self, face: ClientFace, known: bool) -> None:
        """It is reached through ``face``.

        :param known: whether it was here before, so that it will say with :meth:`resync` what it lacks.
        """
        self._face = face
        self.is_gone = False
        self._listed = set()
        if not known:
            self._synced = True
            self._outcomes.face = face

    def went_away(self, face: ClientFace) -> None:
        """Its link is lost."""
        if self._face is face:
            self._face = None
            self._resent.clear()
            for submission in self._submissions.values():
                submission.data.not_coming()
            self._outcomes.went_away(self._all())
            # What it was sending did not all come, and others need not wait for that.
            self._multiplexer.go_on()

    def gone(self) -> None:
        """It will not come back."""
        self._face = None
        self.is_gone = self._synced = True
        self._expected.clear()
        self._called_off.clear()
        self._outcomes.went_away(())
        for submission in self._all():
            submission.wanted = submission.safe
            if submission.kept != submission.safe or not submission.meta.keep:
                self._give_up(submission)
        self._outcomes.gone(self._all())
        self._multiplexer.forget_strangers(self.origin, ())
        self._multiplexer.go_on()

    def _give_up(self, submission: Submission) -> None:
        """A command was not to be kept, or nobody was told that it is; where it runs it goes on."""
        self._keeper.give_up(submission)
        submission.data.unwanted = True
        for share in submission.shares.values():
            if share.at is At.NOWHERE and share.engine is not None:
                share.engine.commands.remove_one(submission.key, "its client is gone")

    def resync(self, told: Resync) -> None:
        """It says which outcomes it lacks, in one or several parts."""
        face = self._face
        assert face is not None
        self._outcomes.face = face
        for number, has, has_data in told.commands:
            self._listed.add(number)
            submission = self._submissions.get(number)
            if submission is not None:
                self._resync_one(submission, has)
            elif number in self._refused:
                # It stays refused, as later ones have gone out since.
                face.refused(number, self._refused[number])
            elif has_data:
                self._expected[number] = tuple(has)
                self._resend(number)
            else:
                face.refused(number, _not_known())
        if not told.more:
            self._resynced()

    def _resync_one(self, submission: Submission, has: Iterable[int]) -> None:
        for engine_id in has:
            if engine_id in submission.shares:
                self._outcomes.taken(submission, submission.shares[engine_id])
        self._acknowledge(submission)
        if submission.kept and not submission.safe and not self._keeper.is_keeping(submission):
            self._resend(submission.number)
        submission.data.ask()
        for share in submission.shares.values():
            self._outcomes.tell(submission, share)

    def _resynced(self) -> None:
        """All that it lacks is known."""
        listed, self._listed = self._listed, set()
        self._refused = {key: why for key, why in self._refused.items() if key in listed}
        for submission in self._all():
            if submission.number not in listed:
                # It has everything, as it does not ask for it.
                for share in submission.shares.values():
                    self._outcomes.taken(submission, share)
        self._synced = True
        self._multiplexer.forget_strangers(self.origin, self._expected.keys())
        self._multiplexer.go_on()

    # -- commands

    def submit(
        self,
        number: int,
        meta: SubmitMeta,
        payload: Buffer,
        relay: BulkRelay | None,
    ) -> None:
        """It submits a command, or sends one again that was asked for."""
        if self._face is not None and self._outcomes.face is None:
            self.resync(Resync())  # it had nothing here before
        submission = self._submissions.get(number)
        if self._resent:
            self._resent.discard(number)
        taken = self._expected.pop(number, None) if self._expected else None
        if submission is not None:
            self._came_again(submission, payload, relay)
        elif taken is None and number <= self._highest:
            if relay is not None:
                relay.refuse("it was received before")
        else:
            self._highest = max(self._highest, number)
            try:
                self._begin(number, meta, payload, relay, taken)
            except KernelError as problem:
                self._submissions.pop(number, None)
                self._refuse(number, problem)
        if relay is not None:
            relay.refuse(LATER if submission is None else "it was received before")
        if taken is not None:
            self._call_off_now(number)
            self._multiplexer.go_on()

    def _call_off_now(self, number: int) -> None:
        """Call a command off that is in the queues again; it is not sent before that."""
        call_off = self._called_off.get(number)
        if call_off is not None:
            call_off()
            del self._called_off[number]

    def _refuse(self, number: int, problem: KernelError) -> None:
        """Refuse a command for good, also if its client does not hear of it now."""
        self._refused[number] = problem
        if len(self._refused) > MOST_REFUSED:
            del self._refused[next(iter(self._refused))]
        if self._face is not None:
            self._face.refused(number, problem)

    def _begin(
        self,
        number: int,
        meta: SubmitMeta,
        payload: Buffer,
        relay: BulkRelay | None,
        taken: Sequence[int] | None,
    ) -> None:
        """Put a command into the queues.

        :param taken: the engines whose outcomes the client has, if it was here before.
        """
        kept = meta.keep and self._keeper.keeps
        if kept and self._keeper.trouble:
            raise JournalError(f"the controller cannot keep this call now: {self._keeper.trouble}")
        size = len(payload) if relay is None else relay.size
        data = CommandData(size, None if relay else payload, coming=relay is not None)
        submission = Submission((self.origin, number), meta, data, self._now(), kept=kept)
        data.fetch_with(partial(self._fetch, submission))
        self._submissions[number] = submission
        lost: Sequence[int] = ()
        if taken is None:
            self._queue(submission, payload, relay, ())
        else:
            lost = self._lost(set(meta.targets or ()).difference(taken))
            self._queue(submission, payload, relay, {*lost, *taken})
        if kept:
            data.can_return = relay is not None
            self._keep(submission, payload, relay)
        if lost:
            self._fail(submission, lost)
        for engine_id in submission.shares.keys() & taken if taken else ():
            self._outcomes.taken(submission, submission.shares[engine_id])
        if meta.announce and not kept:
            self._acknowledge(submission)
        if size > KEPT_HERE:
            self._settle(submission)

    def _lost(self, targets: Iterable[int]) -> Sequence[int]:
        """Those engines of a command that was here before which are not there any more."""
        return [each for each in targets if self._multiplexer.engine(each) is None]

    def _fail(self, submission: Submission, lost: Sequence[int]) -> None:
        for engine_id in lost:
            problem = EngineDied(f"engine {engine_id} died while the controller was started again")
            self._came(submission, Outcome.refused(engine_id, problem))

    def _queue(
        self,
        submission: Submission,
        payload: Buffer,
        relay: BulkRelay | None,
        without: Collection[int],
    ) -> None:
        """Put a command into the queues of its engines, but of these."""
        meta, targets = submission.meta, submission.meta.targets
        if targets is not None:
            submission.targets = targets
            if without:
                targets = tuple(each for each in targets if each not in without)
                meta = meta.to(targets)
        if targets or targets is None:
            ids = self._multiplexer.submit(
                self.origin,
                submission.number,
                meta,
                payload,
                relay,
                partial(self._came, submission),
                partial(self._output, submission.number),
            )
            submission.targets = submission.targets or tuple(ids)
        for engine_id in submission.targets:
            self._share(submission, engine_id)

    def _came_again(self, submission: Submission, payload: Buffer, relay: BulkRelay | None) -> None:
        if submission.data.wanted:
            submission.data.came(None if relay else payload, relay)
        else:
            submission.data.not_coming()  # who wanted them is away, and asks again when it is back
        if submission.kept and not submission.safe and not self._keeper.is_keeping(submission):
            self._keep(submission, payload, relay)

    def _keep(self, submission: Submission, payload: Buffer, relay: BulkRelay | None) -> None:
        """Put a command into the journal; its client sends once more what does not come whole."""
        resend = partial(self._resend, submission.number)
        self._keeper.keep(submission, payload, relay, partial(self._safe, submission), resend)

    def _fetch(self, submission: Submission) -> None:
        """An engine needs the arguments of a command, which are not here."""
        if submission.safe and submission.file is not None:
            self._keeper.fetch_data(submission)
        elif self._outcomes.face is None or self._keeper.is_keeping(submission):
            submission.data.not_coming()  # it is asked again when the client is back, or all is in the journal
        else:
            self._resend(submission.number)

    def _resend(self, number: int) -> None:
        """Have the client send a command again, unless it has been asked."""
        if self._outcomes.face is not None and number not in self._resent:
            self._resent.add(number)
            self._outcomes.face.resend(number)

    def _safe(self, submission: Submission) -> None:
        """A command is in the journal."""
        submission.safe = True
        submission.data.can_return = submission.file is not None
        self._acknowledge(submission)
        self._settle(submission)
        submission.data.ask()
        self._progress(submission)

    def _settle(self, submission: Submission) -> None:
        """Do not hold large arguments here for engines whose turn is far."""
        data = submission.data
        if data.size > KEPT_HERE and not data.near:
            data.let_go()

    def _acknowledge(self, submission: Submission) -> None:
        """Tell the client what has become of a command, unless it has to be safe first; see :meth:`_safe`."""
        face, number = self._outcomes.face, submission.number
        if face is None or (submission.kept and not submission.safe):
            return
        if submission.meta.announce:
            face.accepted(number, submission.targets)
        if submission.kept:
            face.stored(number)

    def not_queued(self, number: int) -> None:
        """A command of this number came, and is not one for engines."""
        self._highest = max(self._highest, number)
        if self._expected.pop(number, None) is not None:
            self._called_off.pop(number, None)
            self._multiplexer.go_on()

    def call_off(self, number: int, call_off: Callable[[], object]) -> bool:
        """Call ``call_off`` when a command that is still expected has come; False if it is not.

        Only then is known which engines have begun it already.
        """
        if number not in self._expected:
            return False
        self._called_off[number] = call_off
        return True

    def recover(self, row: CommandRow, head: CommandHead, notes: Sequence[OutcomeNote]) -> None:
        """Take over a command from the journal, with what is known of its outcomes."""
        file = row.payload if isinstance(row.payload, PayloadFile) else None
        payload = row.payload if isinstance(row.payload, bytes) else None
        data = CommandData(len(payload or b"") if file is None else file.size, payload)
        data.label, data.known_before = row.method, True
        meta = head.meta.to(row.targets)
        key = (self.origin, row.number)
        submission = Submission(key, meta, data, row.submitted, row.targets, kept=True, safe=True)
        submission.file, submission.sizes = file, head.sizes
        data.fetch_with(partial(self._fetch, submission))
        data.can_return = file is not None
        self._submissions[row.number] = submission
        for note in notes:
            at = At.CLIENT if note.size is None else At.JOURNAL
            share = self._share(submission, note.engine_id)
            share.at, share.status = at, note.status
            submission.open -= at is At.CLIENT
        over = {note.engine_id for note in notes}
        lost = self._lost([each for each in row.targets if each not in over])
        self._queue(submission, payload or b"", None, over.union(lost))
        self._fail(submission, lost)

    # -- outcomes

    def _output(self, number: int, engine_id: int, stream: str, text: bytes) -> None:
        if self._outcomes.face is not None:
            self._outcomes.face.output(number, engine_id, stream, text)

    def _share(self, submission: Submission, engine_id: int) -> Share:
        share = submission.shares.get(engine_id)
        if share is None:
            engine = self._multiplexer.engine(engine_id)
            share = submission.shares[engine_id] = Share(engine_id, engine)
            submission.open += 1
        return share

    def _came(self, submission: Submission, outcome: Outcome) -> None:
        self._outcomes.came(submission, self._share(submission, outcome.engine_id), outcome)

    def taken(self, first: int, engine_ids: Iterable[int], count: int = 1) -> None:
        """The client has some engines' outcomes of so many commands."""
        for number in range(first, first + count):
            submission = self._submissions.get(number)
            if submission is None:
                continue
            for engine_id in engine_ids:
                share = submission.shares.get(engine_id)
                if share is not None:
                    self._outcomes.taken(submission, share)

    def engine_changed(self, engine: QueuedEngine) -> None:
        """An engine is back, or gone."""
        self._outcomes.engine_changed(engine, self._all())

    def _progress(self, submission: Submission) -> None:
        """A submission may be done, or over."""
        if submission.kept and not submission.safe:
            return
        if submission.is_done or (self.is_gone and submission.is_over):
            self._submissions.pop(submission.number, None)
            self._keeper.over(submission)

    def _all(self) -> list[Submission]:
        return list(self._submissions.values())


def _not_known() -> KernelError:
    return KernelError(
        "the controller has neither this call nor its results any more; what it did is not known (see history())"
    )
