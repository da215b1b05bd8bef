"""Commands for engines, and how they ended, as the controller has them.

Both are sealed: the controller forwards their bytes and never looks into them, except for names and source that it
shows in queues.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from twisted.logger import Logger

from ipython1.core.texts import clip
from ipython1.kernel.basics.error import ProtocolError, to_wire
from ipython1.kernel.controller.commanddata import CommandData
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.bulkrelay import BulkRelay
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.payload import split_inline

log: Logger = Logger()

KEPT_HERE: Final = 4096
"""Bytes.  Arguments up to this stay in memory while their command waits."""


class Command:
    """What one engine has to do.

    :param origin: the uuid (16 bytes) of the client it comes from.
    :param number: unique for ever with ``origin``.
    :param method: the command's name, which the engine knows.
    :param data: its arguments, which it shares with the commands of the same call for other engines.
    :param stream: called with the name of a stream and text while the command runs, when output shall be streamed.
    :param confirms: whether whoever submitted it calls ``QueuedEngine.confirm`` when its outcome is safe; otherwise an
        outcome counts as safe when it comes.
    :ivar key: what names it for ever: ``(origin, number)``.
    :ivar on_outcome: called once with the first :class:`Outcome`.
    :ivar ended: whether that has come.
    :ivar begun: when it was sent to its engine last, in seconds of the controller's clock.
    :ivar transfer: the number of the bulk transfer that takes its data to the engine, if there is one.
    """

    __slots__ = (
        "begun",
        "confirms",
        "data",
        "ended",
        "key",
        "method",
        "on_outcome",
        "stream",
        "transfer",
    )

    def __init__(
        self,
        origin: bytes,
        number: int,
        method: str,
        data: CommandData,
        stream: Callable[[str, bytes], None] | None = None,
        confirms: bool = False,
    ) -> None:
        self.key: tuple[bytes, int] = (origin, number)
        self.method: str = method
        self.data: CommandData = data
        self.stream: Callable[[str, bytes], None] | None = stream
        self.confirms: bool = confirms
        self.on_outcome: Callable[[Outcome], object] | None = None
        self.ended: bool = False
        self.begun: float = 0.0
        self.transfer: int | None = None

    @property
    def origin(self) -> bytes:
        """The uuid of its client."""
        return self.key[0]

    @property
    def number(self) -> int:
        """The number that its client gave it."""
        return self.key[1]

    @property
    def size(self) -> int:
        """Bytes of its data that can wait elsewhere."""
        return self.data.size if self.data.can_return else 0

    @property
    def ready(self) -> bool:
        """Whether its data is here, or on its way through here to the engine."""
        return self.transfer is not None or self.data.payload is not None

    def meta(self) -> bytes:
        """The meta part of the frame that takes it to its engine."""
        return messages.CommandMeta(self.origin, self.method, self.stream is not None).pack()

    def frame(self) -> bytes:
        """That frame, for all engines the same, of a command whose arguments are here and small."""
        data = self.data
        if not data.frame:
            assert data.payload is not None
            data.frame = frames.pack_frame(frames.COMMAND, self.number, self.meta(), data.payload)
        return data.frame

    def end(self, outcome: Outcome) -> None:
        """Its first outcome is here."""
        self.ended = True
        if self.on_outcome is not None:
            try:
                self.on_outcome(outcome)
            except Exception:
                # Neither the engine nor its other commands can do anything about it.
                log.failure("what follows from the outcome of a command failed")


class Outcome(NamedTuple):
    """How a command ended on one engine.

    :ivar status: ``messages.OK``, ``messages.FAILED`` (the user's code raised) or ``messages.REFUSED`` (the
        kernel's error).
    :ivar payload: opaque, inline.
    :ivar relay: instead, the bulk transfer that brings it; a sink must be added in the same turn.
    :ivar error: name and message of the kernel's error.
    """

    engine_id: int
    status: int
    payload: Buffer = b""
    relay: BulkRelay | None = None
    error: tuple[str, str] | None = None

    @classmethod
    def refused(cls, engine_id: int, problem: BaseException) -> Outcome:
        """The kernel's own error."""
        return cls(engine_id, messages.REFUSED, error=to_wire(problem))


def describe(method: str, payload: Buffer | None) -> str:
    """``execute('a=5')`` or ``push(a, b)``: for people who look at a queue.

    :param payload: its arguments; None if they are not here.
    """
    if payload is None:
        return f"{method}(...)"
    try:
        head = messages.unpack_json(split_inline(payload)[0])
        if "source" in head:
            return f"{method}({clip(head['source'], 60)!r})"
        if "call" in head:
            return f"{method}({clip(head['call'], 60)})"
        names = head.get("names", head.get("keys")) or ()
        return f"{method}({clip(', '.join(names), 60)})"
    except (ProtocolError, LookupError, TypeError, AttributeError):
        # Pickled arguments, which nobody reads here; or a client of its own kind.
        return f"{method}(...)"
