"""The Foolscap face of the MultiEngine interface: unpacks frames, delegates, packs the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.components import registerAdapter
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from ipython1.kernel.basics.error import JournalError, KernelError, ProtocolError, to_wire
from ipython1.kernel.controller.command import Outcome
from ipython1.kernel.controller.multiengine import IMultiEngine, MultiEngine
from ipython1.kernel.tub.gate import Session
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.bulk import unpack_reference
from ipython1.kernel.wire.bulkrelay import BulkRelay
from ipython1.kernel.wire.callhistory import RESULT_OF, unpack_call_id
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.link import FrameLink
from ipython1.kernel.wire.payload import check_inline, split_inline

KILL_WAIT = 3.0
"""Seconds that engines have to end before their controller ends."""


def send_reply(link: FrameLink, number: int, answer: Any) -> None:
    """Answer question ``number``, however long the answer is."""
    link.send_bytes(frames.REPLY, number, b"", messages.pack_json(answer))


class IFCClientInterface(Interface):
    """What the controller's process needs of the Foolscap face of any client interface.

    The object itself may be a ``Gate`` target (see :mod:`ipython1.kernel.gate`) or any Foolscap ``Referenceable``.
    """


class IFCSessions(IFCClientInterface):
    """A face whose clients register at a gate and get a session each."""

    def accept(hello: messages.Hello) -> Session:
        """A session for the client that greets so."""


class IFCMultiEngine(IFCSessions):
    """The face of :class:`IMultiEngine`."""


@implementer(IFCMultiEngine)
class FCMultiEngine:
    """Adapts an :class:`IMultiEngine` to sessions with clients."""

    def __init__(self, multiengine: MultiEngine) -> None:
        self.multiengine = multiengine

    def accept(self, hello: messages.Hello) -> Session:
        hello.check_role(messages.MULTIENGINE)
        hello.check_versions("the client")
        return MultiEngineSession(self, hello)


class MultiEngineSession:
    """One connected client."""

    def __init__(self, face: FCMultiEngine, hello: messages.Hello) -> None:
        self._multiengine = face.multiengine
        self._uuid = hello.uuid
        self._origin = bytes.fromhex(hello.uuid)
        self._commands = self._multiengine.book.client(self._origin, hello.role, self._multiengine)
        self._link: FrameLink | None = None
        self._known = face.multiengine.controller.clients.came(hello)
        self._questions: dict[str, Callable[..., Any]] = {
            "get_ids": self._multiengine.get_ids,
            "resolve": lambda targets: [e.id for e in self._multiengine.resolve(targets)],
            "queue_status": self._multiengine.queue_status,
            "clear_queue": self._multiengine.clear_queue,
            "abort": self._abort,
            "withdraw": lambda number: self._multiengine.withdraw(self._origin, number),
            "interrupt": self._multiengine.interrupt,
            "kill": self._kill,
            "report": self._multiengine.report,
            "stacks": self._multiengine.stacks,
            "drain": self._multiengine.drain,
            "undrain": self._multiengine.undrain,
            "told_ended": self._multiengine.told_ended,
            "load": self._multiengine.load,
            "history": self._calls_made,
            "call": self._call_made,
        }
        self._history = self._multiengine.book.history(self._label_of)

    def attach(self, link: FrameLink) -> messages.Welcome:
        self._link = link
        link.bulk.relaying = True
        controller = self._multiengine.controller
        controller.clients.attached(self._uuid, link)
        self._commands.connected(self, self._known)
        controller.on_register_engine_do(self._engine_came, True)
        controller.on_unregister_engine_do(self._engine_went, True)
        return controller.welcome(self._known, ids=self._multiengine.get_ids())

    def opened(self) -> None:
        pass

    def link_lost(self, reason: str) -> None:
        link, self._link = self._link, None
        self._commands.went_away(self)
        controller = self._multiengine.controller
        controller.clients.left(self._uuid, link, reason)
        controller.on_register_engine_do_not(self._engine_came)
        controller.on_unregister_engine_do_not(self._engine_went)

    def _send(
        self, kind: int, ident: int, meta: Buffer = b"", payload: Buffer = b"", flags: int = 0
    ) -> None:
        if self._link is not None:
            self._link.send(kind, ident, meta, payload, flags)

    def _engine_came(self, engine_id: int) -> None:
        self._send(frames.ENGINES, engine_id, b"+")

    def _engine_went(self, engine_id: int) -> None:
        self._send(frames.ENGINES, engine_id, b"-")

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        if kind == frames.SUBMIT:
            self._submit(flags, ident, meta, payload)
        elif kind == frames.ASK:
            self._asked(ident, payload)
        elif kind == frames.TAKEN:
            self._commands.taken(ident, *messages.unpack_taken(meta))
        elif kind == frames.RESYNC:
            self._commands.resync(messages.Resync.unpack(payload))
        elif kind == frames.GOODBYE:
            reason = bytes(payload).decode(errors="replace")
            self._multiengine.controller.clients.goodbye(self._uuid, reason)
        else:
            raise ProtocolError(f"a client sent a frame of unknown kind {kind}")

    # -- commands

    def _submit(self, flags: int, number: int, meta: Buffer, payload: Buffer) -> None:
        assert self._link is not None
        relay: BulkRelay | None = None
        if flags & frames.BULK:
            relay = self._link.bulk.relay(unpack_reference(payload))
            payload = b""
        else:
            # Engines must not be bothered with what they cannot read.
            check_inline(payload)
        submission = messages.SubmitMeta.unpack(meta)
        if submission.method == RESULT_OF:
            self._commands.not_queued(number)
            Deferred.fromCoroutine(self._result_of(number, payload))
        else:
            self._commands.submit(number, submission, payload, relay)

    # -- what the client is told of its commands

    def accepted(self, number: int, ids: Sequence[int]) -> None:
        self._send(frames.ACCEPTED, number, messages.pack_ids(ids))

    def stored(self, number: int) -> None:
        self._send(frames.STORED, number)

    def resend(self, number: int) -> None:
        self._send(frames.RESEND, number)

    def refused(self, number: int, problem: KernelError) -> None:
        self._send(frames.REFUSED, number, b"", messages.pack_json(to_wire(problem)))

    def output(self, number: int, engine_id: int, stream: str, text: bytes) -> None:
        self._send(frames.OUTPUT, number, messages.pack_ids((engine_id,)) + stream.encode(), text)

    def outcome(self, number: int, outcome: Outcome, again: Callable[[], None]) -> None:
        meta = messages.OutcomeMeta(outcome.engine_id, outcome.status, outcome.error).pack()
        relay = outcome.relay
        if self._link is not None and relay is not None:
            over = partial(_once_more, relay, again)
            self._link.send_relayed(frames.OUTCOME, number, meta, relay, over)
        else:
            self._send(frames.OUTCOME, number, meta, outcome.payload)

    @property
    def has_room(self) -> bool:
        return self._link is not None and self._link.has_room

    def when_room(self, call: Callable[[], None]) -> None:
        if self._link is not None:
            self._link.when_room(call)

    # -- what was

    def _label_of(self, client: bytes) -> str:
        identity = self._multiengine.controller.clients.identity(client)
        return "" if identity is None else identity.label

    def _calls_made(self, limit: int, before: float | None = None) -> Deferred[list[Any]]:
        entries = Deferred.fromCoroutine(self._history.entries(limit, before))
        return entries.addCallback(lambda found: [entry.pack() for entry in found])

    def _call_made(self, call: str) -> Deferred[list[Any]]:
        entry = Deferred.fromCoroutine(self._history.entry(call))
        return entry.addCallback(lambda found: found.pack())

    async def _result_of(self, number: int, payload: Buffer) -> None:
        """Send the outcomes of another command as those of command ``number``."""
        try:
            call = str(messages.unpack_json(split_inline(payload)[0]))
            entry = await self._history.entry(call)
        except (KernelError, IndexError) as problem:
            known = (
                problem if isinstance(problem, KernelError) else ProtocolError("no call is named")
            )
            self.refused(number, known)
            return
        self.accepted(number, entry.targets)
        for engine_id in entry.targets:
            self._fetch(number, unpack_call_id(entry.id), engine_id)

    def _fetch(self, number: int, key: tuple[bytes, int], engine_id: int) -> None:
        fetched = partial(self._fetched, number, key, engine_id)
        self._multiengine.book.fetch_outcome(*key, engine_id, fetched)

    def _fetched(
        self, number: int, key: tuple[bytes, int], engine_id: int, outcome: Outcome | None
    ) -> None:
        if outcome is None:
            problem = JournalError("the controller's journal does not have this result any more")
            outcome = Outcome.refused(engine_id, problem)
        self.outcome(number, outcome, partial(self._fetch, number, key, engine_id))

    # -- questions

    def _asked(self, number: int, payload: Buffer) -> None:
        question = messages.unpack_json(payload)
        try:
            function = self._questions[question["name"]]
            answer = function(**question["args"])
        except KernelError as problem:
            self._answer_failed(number, problem)
        except (KeyError, TypeError) as problem:
            self._answer_failed(
                number, ProtocolError(f"the call cannot be understood: {problem!r}")
            )
        else:
            if isinstance(answer, Deferred):
                answer.addCallback(lambda value: self._answer(number, value))
                answer.addErrback(lambda failure: self._answer_failure(number, failure))
            else:
                self._answer(number, answer)

    def _answer(self, number: int, value: Any) -> None:
        if self._link is not None:
            send_reply(self._link, number, {"value": value})

    def _answer_failure(self, number: int, failure: Failure) -> None:
        self._answer_failed(number, failure.value)

    def _answer_failed(self, number: int, problem: BaseException | None) -> None:
        described = to_wire(problem or KernelError("the call failed"))
        self._send(frames.REPLY, number, b"", messages.pack_json({"error": described}))

    def _abort(self, number: int, targets: list[int] | None = None) -> int:
        return self._multiengine.abort(self._origin, number, targets)

    def _kill(self, targets: list[int] | None, controller: bool = False) -> list[int]:
        engines = self._multiengine.controller.engines
        ids = self._multiengine.kill(targets) if engines or not controller else []
        if controller:
            Deferred.fromCoroutine(self._stop_controller())
        return ids

    async def _stop_controller(self) -> None:
        controller = self._multiengine.controller
        await controller.all_gone(KILL_WAIT)
        controller.request_stop()


def _once_more(relay: BulkRelay, again: Callable[[], None], reason: str | None) -> None:
    """A receiver of a relay is done."""
    if reason is not None and relay.overran:
        again()


registerAdapter(FCMultiEngine, IMultiEngine, IFCMultiEngine)
