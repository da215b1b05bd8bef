"""A client's end of its link with the controller, in the reactor's thread.

:class:`ClientEnd` numbers commands and questions, and assigns the answers to them.

===========  ==================================================  ==================================================
state        event                                               becomes
===========  ==================================================  ==================================================
new          ``attach``                                          connected
connected    the link is lost, and is to be made again           away: what waits for an answer goes on waiting
connected    the link is lost for good, ``close``                lost: what waits for an answer fails
away         ``attach``, to the same controller's state          connected: what was not answered is asked again
away         ``attach``, to another state; ``give_up``;          lost
             ``close``
===========  ==================================================  ==================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall

from ipython1.kernel.basics.error import (
    ClientClosed,
    ConnectionError,
    KernelError,
    MessageSizeError,
    from_wire,
)
from ipython1.kernel.calls.controllerwarnings import Warnings
from ipython1.kernel.calls.sentcommands import (
    Arrived,
    CommandObserver,
    Question,
    SentCommand,
    SentCommands,
    no_memory,
)
from ipython1.kernel.calls.usercallbacks import guarded
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.bulk import RefusedHere, WritableBuffer, unpack_reference
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.handlers import FrameHandlers
from ipython1.kernel.wire.link import FrameLink
from ipython1.kernel.wire.messages import Outcome
from ipython1.kernel.wire.payload import Buffers, split_inline, total_size

CLOSED = "the client was closed"

TAKEN_AFTER: Final = 0.05
"""Seconds for which outcomes are collected before the controller hears that they are here."""

RESYNC_ROWS: Final = 5_000
"""Commands that one frame tells of when the controller is back; fit into one."""

ONLY_ONCE = frozenset(("interrupt", "kill", "resync"))
"""Questions that are not asked again, as something else may be meant by then."""


class ClientEnd:
    """A client's connection to one interface.

    :param origin: the client's uuid.
    :ivar reconnects: whether a link that is lost is made again; set by whoever does that.
    :ivar closed: whether it was closed from this side before anything else ended it.
    :ivar call_later: the reactor's; without it, all is sent at once.
    :ivar handlers: what is done with each kind of frame.
    :ivar on_away: called with the reason when the link is lost, and is to be made again.
    :ivar on_back: called with the welcome when it is made again.
    :ivar on_lost: called with the reason when it is lost for good.
    :ivar warnings: what is wrong with the controller.
    :ivar settle_first: called when the link is made again; other questions wait until its Deferred has fired.
    :ivar others_wait: functions that say whether something waits for the controller that is not known here.
    """

    def __init__(self, origin: bytes) -> None:
        self.origin = origin
        self.reconnects: bool = False
        self.welcome: messages.Welcome = messages.Welcome()
        self._link: FrameLink | None = None
        self._numbers = count(1)
        self._commands = SentCommands()
        self._has_submitted = False
        self._taken = Arrived()
        self._taken_call: IDelayedCall | None = None
        self._questions: dict[int, Question] = {}
        self._loss: str | None = None
        self.closed: bool = False
        self._away: str | None = None
        self._on_ids: list[Callable[[list[int]], None]] = []
        self.ids: frozenset[int] = frozenset()
        self.max_message: int = 0
        self.warnings: Warnings = Warnings()
        self.call_later: Callable[[float, Callable[[], None]], IDelayedCall] | None = None
        self.handlers: FrameHandlers = FrameHandlers("the controller")
        self.handlers.update(
            {
                frames.OUTCOME: self._outcome,
                frames.ACCEPTED: self._accepted,
                frames.REFUSED: self._refused,
                frames.STORED: lambda flags, ident, meta, payload: self._commands.stored(ident),
                frames.RESEND: self._resend,
                frames.REPLY: self._reply,
                frames.OUTPUT: self._output,
                frames.ENGINES: self._engines_changed,
                frames.GOODBYE: self._controller_leaves,
                frames.WARNINGS: self.warnings.received,
            }
        )
        self.frame_received: Callable[[int, int, int, Buffer, Buffer], None] = (
            self.handlers.frame_received
        )
        self.on_lost: list[Callable[[str], None]] = []
        self.on_away: list[Callable[[str], None]] = []
        self.on_back: list[Callable[[messages.Welcome], None]] = []
        self.others_wait: list[Callable[[], bool]] = []
        self.settle_first: Callable[[], Deferred[None]] | None = None
        self._settling = False

    def attach(self, link: FrameLink, welcome: messages.Welcome) -> None:
        """Use ``link`` from now on, the first one or another one."""
        again, before = self._away is not None, self.welcome
        self.welcome = welcome
        self.max_message = welcome.max_message
        self.warnings.are(welcome.extra.get("warnings", ()))
        if not link.lost:
            self._link = link
        elif not again:
            return
        if not again:
            self.ids = self.ids.union(welcome.extra.get("ids", ()))
            return
        if welcome.instance != before.instance:
            link.abort(CLOSED)
            self.give_up("it was started anew, without the state of the one before")
            return
        self._away = None
        self._ids_are(frozenset(welcome.extra.get("ids", ())))
        self._resync()
        self._settle_and_ask()
        for callback in list(self.on_back):
            guarded(callback, welcome)

    def _settle_and_ask(self) -> None:
        """Ask again what was not answered, after what has to be settled first."""
        link = self._link

        def settled(result: object) -> None:
            if self._link is link:
                self._settling = False
                self._ask_again()

        self._settling = True
        (succeed(None) if self.settle_first is None else self.settle_first()).addBoth(settled)

    @property
    def connected(self) -> bool:
        """Whether the link is connected."""
        return self._link is not None

    @property
    def usable(self) -> bool:
        """Whether calls can be made: the link is connected, or will be made again."""
        return self._loss is None

    @property
    def away(self) -> str | None:
        """Why the link was lost, while it is to be made again; None otherwise."""
        return self._away

    @property
    def waiting(self) -> bool:
        """Whether something waits for the controller."""
        if self._commands or self._questions:
            return True
        return any(waits() for waits in self.others_wait)

    def check(self) -> None:
        """Check that calls can be made.

        :raises ConnectionError: if the link is lost for good.
        """
        if self._loss is not None:
            raise self._gone()

    @property
    def link(self) -> FrameLink:
        """The link.

        :raises ConnectionError: if it is lost, for good or not.
        """
        if self._link is None:
            raise self._gone()
        return self._link

    def close(self) -> None:
        """Close the link from this side, for good."""
        self.reconnects = False
        self.closed = self.closed or self._loss is None
        link = self._link
        if link is not None:
            link.abort(CLOSED)
        self.give_up(CLOSED)

    def say_goodbye(self) -> None:
        """Tell the controller that this client leaves, so that it does not wait for it."""
        self.closed = self.closed or self._loss is None
        if self._link is not None:
            self._send_taken()
            self._link.send(frames.GOODBYE, 0, b"", CLOSED.encode())
            self._link.flush()

    def _gone(self) -> ConnectionError:
        if self.closed:
            return ClientClosed(f"{CLOSED} by its close(); create a new client")
        return ConnectionError(
            f"the controller is gone ({self._loss or self._away or CLOSED}); calls in progress are lost to this "
            "client. Restart the controller if it ended, and create a new client"
        )

    # -- sending

    def ask(self, name: str, **args: Any) -> Deferred[Any]:
        """Ask the controller itself a question, with JSON values; it also answers while engines are busy."""
        answer: Deferred[Any] = Deferred()
        if self._loss is not None:
            answer.errback(self._gone())
            return answer
        number = next(self._numbers)
        question = self._questions[number] = Question(name, args, answer)
        self._send_question(number, question)
        return answer

    def _send_question(self, number: int, question: Question) -> None:
        if self._link is not None and (not self._settling or question.name in ONLY_ONCE):
            payload = messages.pack_json({"name": question.name, "args": question.args})
            self._link.send(frames.ASK, number, b"", payload)

    def _ask_again(self) -> None:
        for number, question in self._questions.items():
            self._send_question(number, question)

    def read_until(self, over: Callable[[], bool], timeout: float | None = None) -> None:
        """See :meth:`FrameLink.read_until <ipython1.kernel.wire.link.FrameLink.read_until>`."""
        link = self._link
        if link is not None:
            link.read_until(over, timeout)

    def resolve(self, targets: Sequence[int] | None) -> list[int] | None:
        """Return the ids of ``targets`` (None: all); None if only the controller can tell, or the link is lost."""
        if self._link is None or not self.ids:
            return None
        if targets is None:
            return sorted(self.ids)
        return list(targets) if self.ids.issuperset(targets) else None

    def submit(
        self,
        method: str,
        buffers: Buffers,
        targets: Sequence[int] | None,
        observer: CommandObserver,
        stream: bool = False,
        announce: bool = True,
        keep: bool = False,
    ) -> int | None:
        """Send a command; while the controller is away, it is sent when it is back.

        :param observer: is notified of its progress.
        :param announce: whether the controller confirms that it is queued.  If False and ``targets`` are explicit, the
            observer is notified at once, which saves a message.
        :param keep: whether the controller is to go on with it, and to keep its outcomes, if this client is gone.
        :returns: its number, by which it can be aborted; None if it could not be sent.
        """
        try:
            self.check()
            self.check_size(buffers)
        except (ConnectionError, MessageSizeError) as problem:
            observer.failed(problem)
            return None
        ids = None if targets is None else tuple(targets)
        announced = announce or ids is None
        number = next(self._numbers)
        meta = messages.SubmitMeta(method, ids, stream, announced, keep)
        command = SentCommand(number, meta, buffers, observer)
        self._commands.add(command)
        if ids is not None and not announced:
            command.runs_on(ids)
            observer.accepted(ids)
        self._send_command(command)
        return number

    def _send_command(self, command: SentCommand) -> None:
        """Send a command, for the first time or again."""
        if self._link is not None and command.buffers is not None:
            self._has_submitted = command.was_sent = True
            meta = command.meta_again.pack()
            self._link.send_payload(frames.SUBMIT, command.number, meta, command.buffers)

    def _resync(self) -> None:
        """Tell the controller, which is back, what this client lacks; and what it did not hear yet."""
        if self._link is None:
            return
        self._taken.clear()
        if self._has_submitted:
            rows = self._commands.to_resync()
            for start in range(0, max(1, len(rows)), RESYNC_ROWS):
                part = tuple(rows[start : start + RESYNC_ROWS])
                resync = messages.Resync(part, start + RESYNC_ROWS < len(rows))
                self._link.send(frames.RESYNC, 0, b"", resync.pack())
        for command in self._commands.unsent():
            self._send_command(command)

    def _resend(self, flags: int, number: int, meta: Buffer, payload: Buffer) -> None:
        """The controller needs the data of a command again."""
        command = self._commands.get(number)
        if command is None:
            return
        if command.buffers is not None:
            self._send_command(command)
            return
        self._commands.take_out(number)
        command.observer.failed(
            KernelError("the controller has lost the data of this call; what it did is not known")
        )
        self.ask("abort", number=number).addErrback(lambda failure: None)

    def check_size(self, buffers: Buffers) -> None:
        """Check the size of a command.

        :raises MessageSizeError: if it exceeds the controller's limit.
        """
        size = total_size(buffers)
        if self.max_message and size > self.max_message:
            raise MessageSizeError.too_large(
                "the object", size, self.max_message, "send it in parts"
            )

    def on_ids_changed(self, callback: Callable[[list[int]], None]) -> None:
        """Call ``callback`` with the sorted ids of all engines when they change."""
        self._on_ids.append(callback)

    def remove_ids_callback(self, callback: Callable[[list[int]], None]) -> None:
        """Remove a callback that was added with :meth:`on_ids_changed`."""
        self._on_ids.remove(callback)

    # -- receiving

    def _engines_changed(self, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        self._ids_are(self.ids | {ident} if meta == b"+" else self.ids - {ident})

    def _controller_leaves(self, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        self.reconnects = False
        if self._link is not None:
            self._link.abort(bytes(payload).decode(errors="replace"))

    def _output(self, flags: int, number: int, meta: Buffer, payload: Buffer) -> None:
        command = self._commands.get(number)
        if command is not None:
            stream = bytes(meta[4:]).decode()
            text = bytes(payload).decode(errors="replace")
            command.observer.output(messages.unpack_ids(meta[:4])[0], stream, text)

    def _ids_are(self, ids: frozenset[int]) -> None:
        if ids != self.ids:
            # A new set, because other threads read it.
            self.ids = ids
            for callback in list(self._on_ids):
                guarded(callback, sorted(ids))

    def _accepted(self, flags: int, number: int, meta: Buffer, payload: Buffer) -> None:
        command = self._commands.accepted(number, messages.unpack_ids(meta))
        if command is not None and command.ids is not None:
            command.observer.accepted(command.ids)
            self._commands.finish_if_complete(command)

    def _refused(self, flags: int, number: int, meta: Buffer, payload: Buffer) -> None:
        command = self._commands.take_out(number)
        if command is not None:
            command.observer.failed(from_wire(*messages.unpack_json(payload)))

    def _outcome(self, flags: int, number: int, meta: Buffer, payload: Buffer) -> None:
        told = messages.OutcomeMeta.unpack(meta)
        engine_id = told.engine_id
        if not flags & frames.BULK:
            error = None if told.error is None else from_wire(*told.error)
            buffers = split_inline(payload) if len(payload) else ()
            self._arrived(number, Outcome(engine_id, told.status, buffers, error))
            return
        link = self.link
        if not self._commands.arriving(number, engine_id):
            link.bulk.drop(unpack_reference(payload), "no call waits for it")
            return

        def complete(parts: list[WritableBuffer] | None, reason: str) -> None:
            if parts is not None:
                self._arrived(number, Outcome(engine_id, told.status, parts))
                # The engine needs not keep it any longer, and that matters before its next command.
                self._send_taken()
            elif isinstance(reason, RefusedHere):
                self._arrived(number, Outcome.refused(engine_id, no_memory(engine_id, reason)))
            else:
                self._commands.did_not_arrive(number, engine_id)  # it will come again

        transfer = unpack_reference(payload)
        link.bulk.take(transfer, complete)
        incoming, command = link.bulk.incoming(transfer), self._commands.get(number)
        if incoming is not None and command is not None:
            command.observer.outcome_begins(engine_id, incoming)

    def _arrived(self, number: int, outcome: Outcome) -> None:
        self._tell_taken(number, outcome.engine_id)
        command = self._commands.arrived(number, outcome)
        if command is not None:
            command.observer.outcome(outcome)
            self._commands.finish_if_complete(command)

    def _tell_taken(self, number: int, engine_id: int) -> None:
        """Tell the controller soon that an outcome is here."""
        self._taken.add(number, engine_id)
        if self.call_later is None:
            self._send_taken()
        elif self._taken_call is None:
            self._taken_call = self.call_later(TAKEN_AFTER, self._taken_is_due)

    def _taken_is_due(self) -> None:
        self._taken_call = None
        self._send_taken()

    def _send_taken(self) -> None:
        if self._link is not None and self._taken:
            for engine_ids, first, count in self._taken.take():
                self._link.send(frames.TAKEN, first, messages.pack_taken(engine_ids, count))

    def _reply(self, flags: int, number: int, meta: Buffer, payload: Buffer) -> None:
        if not flags & frames.BULK:
            self._answered(number, messages.unpack_json(payload))
            return

        def complete(parts: list[WritableBuffer] | None, reason: str) -> None:
            if parts is not None:
                self._answered(number, messages.unpack_json(parts[0]))
            elif isinstance(reason, RefusedHere):
                waiting = self._questions.pop(number, None)
                if waiting is not None:
                    waiting.answer.errback(no_memory(None, reason))

        self.link.bulk.take(unpack_reference(payload), complete)

    def _answered(self, number: int, answer: dict[str, Any]) -> None:
        waiting = self._questions.pop(number, None)
        if waiting is None:
            return
        if "error" in answer:
            waiting.answer.errback(from_wire(*answer["error"]))
        else:
            waiting.answer.callback(answer["value"])

    def link_lost(self, reason: str) -> None:
        self._link = None
        if self._loss is not None or self._away is not None:
            return
        if not self.reconnects:
            self.give_up(reason)
            return
        self._away = reason
        for number, question in list(self._questions.items()):
            if question.name in ONLY_ONCE:
                del self._questions[number]
                question.answer.errback(
                    ConnectionError(
                        f"the connection was lost before the controller answered ({reason}); "
                        f"whether it did the {question.name} is not known: look, and try again"
                    )
                )
        for callback in list(self.on_away):
            guarded(callback, reason)

    def give_up(self, reason: str) -> None:
        """The link is lost for good: everything that waits for an answer fails."""
        if self._loss is not None:
            return
        self._link = None
        self._away = None
        self._loss = reason
        if self._taken_call is not None:
            self._taken_call.cancel()
            self._taken_call = None
        problem = self._gone()
        commands = self._commands.take_all()
        questions, self._questions = self._questions, {}
        for command in commands:
            command.observer.failed(problem)
        for question in questions.values():
            question.answer.errback(problem)
        for callback in list(self.on_lost):
            guarded(callback, reason)
