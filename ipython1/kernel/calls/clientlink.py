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
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ipython1.kernel.basics.error import ConnectionError, EngineDied, MessageSizeError, from_wire
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.bulk import WritableBuffer, unpack_reference
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.link import FrameLink
from ipython1.kernel.wire.messages import Outcome
from ipython1.kernel.wire.payload import Buffers, split_inline, total_size

log = Logger()

CLOSED = "the client was closed"

ONLY_ONCE = frozenset(("interrupt", "kill"))
"""Questions that are not asked again, as something else may be meant by then."""


class CommandObserver(Protocol):
    """Observes one command; all methods are called in the reactor's thread."""

    def accepted(self, ids: Sequence[int]) -> None:
        """The command is in the queues of these engines."""

    def outcome(self, outcome: Outcome) -> None:
        """An engine is done."""

    def output(self, engine_id: int, stream: str, text: str) -> None:
        """The running command wrote something."""

    def failed(self, problem: Exception) -> None:
        """The command was refused or the connection was lost; no other method is called afterwards."""


@dataclass(frozen=True, slots=True)
class _Question:
    """A question that was not answered yet."""

    name: str
    args: dict[str, Any]
    answer: Deferred[Any]


@dataclass(slots=True)
class _SentCommand:
    """A command that was sent, and its outcomes so far.

    :ivar expected: the number of engines that it runs on, once known.
    :ivar outcomes: by engine; None while a large outcome is being received.
    """

    observer: CommandObserver
    expected: int | None = None
    outcomes: dict[int, Outcome | None] = field(default_factory=dict)


class ClientEnd:
    """A client's connection to one interface.

    :param origin: the client's uuid.
    :ivar reconnects: whether a link that is lost is made again; set by whoever does that.
    :ivar on_away: called with the reason when the link is lost, and is to be made again.
    :ivar on_back: called with the welcome when it is made again.
    :ivar on_lost: called with the reason when it is lost for good.
    :ivar others_wait: functions that say whether something waits for the controller that is not known here.
    """

    def __init__(self, origin: bytes) -> None:
        self.origin = origin
        self.reconnects = False
        self.welcome = messages.Welcome()
        self._link: FrameLink | None = None
        self._numbers = count(1)
        self._commands: dict[int, _SentCommand] = {}
        self._questions: dict[int, _Question] = {}
        self._loss: str | None = None
        self._away: str | None = None
        self._on_ids: list[Callable[[list[int]], None]] = []
        self.ids: frozenset[int] = frozenset()
        self.max_message = 0
        self.handlers: dict[int, Callable[[int, int, Buffer, Buffer], None]] = {}
        self.on_lost: list[Callable[[str], None]] = []
        self.on_away: list[Callable[[str], None]] = []
        self.on_back: list[Callable[[messages.Welcome], None]] = []
        self.others_wait: list[Callable[[], bool]] = []

    def attach(self, link: FrameLink, welcome: messages.Welcome) -> None:
        """Use ``link`` from now on, the first one or another one."""
        again, before = self._away is not None, self.welcome
        self.welcome = welcome
        self.max_message = welcome.max_message
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
        self._ask_again()
        for callback in list(self.on_back):
            _guarded(callback, welcome)

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
        link = self._link
        if link is not None:
            link.abort(CLOSED)
        self.give_up(CLOSED)

    def say_goodbye(self) -> None:
        """Tell the controller that this client leaves, so that it does not wait for it."""
        if self._link is not None:
            self._link.send(frames.GOODBYE, 0, b"", CLOSED.encode())
            self._link.flush()

    def _gone(self) -> ConnectionError:
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
        question = self._questions[number] = _Question(name, args, answer)
        self._send_question(number, question)
        return answer

    def _send_question(self, number: int, question: _Question) -> None:
        if self._link is not None:
            payload = messages.pack_json({"name": question.name, "args": question.args})
            self._link.send(frames.ASK, number, b"", payload)

    def _ask_again(self) -> None:
        for number, question in self._questions.items():
            self._send_question(number, question)

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
    ) -> int | None:
        """Send a command.

        :param observer: is notified of its progress.
        :param announce: whether the controller confirms that it is queued.  If False and ``targets`` are explicit, the
            observer is notified at once, which saves a message.
        :returns: its number, by which it can be aborted; None if it could not be sent.
        """
        try:
            link = self.link
            self.check_size(buffers)
        except (ConnectionError, MessageSizeError) as problem:
            observer.failed(problem)
            return None
        ids = None if targets is None else tuple(targets)
        announced = announce or ids is None
        meta = messages.SubmitMeta(method, ids, stream, announced).pack()
        number = next(self._numbers)
        command = self._commands[number] = _SentCommand(observer)
        if ids is not None and not announced:
            command.expected = len(ids)
            observer.accepted(ids)
        link.send_payload(frames.SUBMIT, number, meta, buffers)
        return number

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

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        handler = self.handlers.get(kind)
        if handler is not None:
            handler(flags, ident, meta, payload)
        elif kind == frames.OUTCOME:
            self._outcome(flags, ident, messages.OutcomeMeta.unpack(meta), payload)
        elif kind == frames.ACCEPTED:
            self._accepted(ident, messages.unpack_ids(meta))
        elif kind == frames.REFUSED:
            command = self._commands.pop(ident, None)
            if command is not None:
                command.observer.failed(from_wire(*messages.unpack_json(payload)))
        elif kind == frames.REPLY:
            self._reply(flags, ident, payload)
        elif kind == frames.OUTPUT:
            command = self._commands.get(ident)
            if command is not None:
                stream = bytes(meta[4:]).decode()
                text = bytes(payload).decode(errors="replace")
                command.observer.output(messages.unpack_ids(meta[:4])[0], stream, text)
        elif kind == frames.ENGINES:
            self._ids_are(self.ids | {ident} if meta == b"+" else self.ids - {ident})
        elif kind == frames.GOODBYE:
            self.reconnects = False
            if self._link is not None:
                self._link.abort(bytes(payload).decode(errors="replace"))
        else:
            log.warn("the controller sent a frame of the unknown kind {kind}", kind=kind)

    def _ids_are(self, ids: frozenset[int]) -> None:
        if ids != self.ids:
            # A new set, because other threads read it.
            self.ids = ids
            for callback in list(self._on_ids):
                _guarded(callback, sorted(ids))

    def _accepted(self, number: int, ids: Sequence[int]) -> None:
        command = self._commands.get(number)
        if command is not None:
            command.expected = len(ids)
            command.observer.accepted(ids)
            self._finish_if_complete(number, command)

    def _outcome(
        self, flags: int, number: int, meta: messages.OutcomeMeta, payload: Buffer
    ) -> None:
        command = self._commands.get(number)
        if command is None or meta.engine_id in command.outcomes:
            if flags & frames.BULK:
                self.link.bulk.drop(unpack_reference(payload), "no call waits for it")
            return
        if not flags & frames.BULK:
            error = None if meta.error is None else from_wire(*meta.error)
            buffers = split_inline(payload) if len(payload) else ()
            self._arrived(number, Outcome(meta.engine_id, meta.status, buffers, error))
            return
        command.outcomes[meta.engine_id] = None
        link = self.link

        def complete(parts: list[WritableBuffer] | None, reason: str) -> None:
            if link.lost:
                return  # link_lost fails the whole call
            if parts is None:
                problem = EngineDied(
                    f"engine {meta.engine_id} disconnected while its result was being sent: {reason}"
                )
                outcome = Outcome.refused(meta.engine_id, problem)
            else:
                outcome = Outcome(meta.engine_id, meta.status, parts)
            self._arrived(number, outcome)

        link.bulk.take(unpack_reference(payload), complete)

    def _arrived(self, number: int, outcome: Outcome) -> None:
        command = self._commands.get(number)
        if command is None:
            return
        command.outcomes[outcome.engine_id] = outcome
        command.observer.outcome(outcome)
        self._finish_if_complete(number, command)

    def _finish_if_complete(self, number: int, command: _SentCommand) -> None:
        outcomes = command.outcomes
        if len(outcomes) == command.expected and all(outcomes.values()):
            del self._commands[number]

    def _reply(self, flags: int, number: int, payload: Buffer) -> None:
        if not flags & frames.BULK:
            self._answered(number, messages.unpack_json(payload))
            return

        def complete(parts: list[WritableBuffer] | None, reason: str) -> None:
            # Parts are missing only if the link is lost, which fails the call.
            if parts is not None:
                self._answered(number, messages.unpack_json(parts[0]))

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
            _guarded(callback, reason)

    def give_up(self, reason: str) -> None:
        """The link is lost for good: everything that waits for an answer fails."""
        if self._loss is not None:
            return
        self._link = None
        self._away = None
        self._loss = reason
        problem = self._gone()
        commands, self._commands = self._commands, {}
        questions, self._questions = self._questions, {}
        for command in commands.values():
            command.observer.failed(problem)
        for question in questions.values():
            question.answer.errback(problem)
        for callback in list(self.on_lost):
            _guarded(callback, reason)


def _guarded(callback: Callable[[Any], None], value: Any) -> None:
    """Call a user's callback, whose errors must not end the connection."""
    try:
        callback(value)
    except KeyboardInterrupt:
        raise
    except BaseException:
        log.failure("a callback failed")
