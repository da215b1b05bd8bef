"""What engines say of how commands ended, and those who want to know."""

from __future__ import annotations

from typing import Final, Protocol

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.controller.command import Command
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.failurenotes import Note, unpack_note

_STATUSES: Final = (messages.OK, messages.FAILED, messages.REFUSED, messages.UNRECEIVED)


class CommandWatch(Protocol):
    """Is told what becomes of commands that are sent."""

    def turn(self) -> None:
        """There is something new to see."""

    def began(self, command: Command) -> None:
        """A command is sent."""

    def ended(
        self,
        command: Command,
        status: int,
        error: tuple[str, str] | None = None,
        note: Note | None = None,
    ) -> None:
        """It is over.

        :param note: what its engine tells of a failure, also of some items of a map.
        """


class NoWatch:
    """Nobody looks."""

    def turn(self) -> None:
        pass

    def began(self, command: Command) -> None:
        pass

    def ended(
        self,
        command: Command,
        status: int,
        error: tuple[str, str] | None = None,
        note: Note | None = None,
    ) -> None:
        pass


def unpack_outcome(meta: bytes) -> tuple[bytes, int, tuple[str, str] | None, Note | None]:
    """The origin, the status, the error and the note of an engine's outcome.

    :raises ProtocolError: if it is malformed.
    """
    after = messages.ORIGIN_SIZE + 1
    if len(meta) < after:
        raise ProtocolError("an engine's outcome is cut short")
    status = meta[messages.ORIGIN_SIZE]
    if status not in _STATUSES:
        raise ProtocolError(f"an engine's outcome has the unknown status {status}")
    error = note = None
    if len(meta) > after and status in (messages.OK, messages.FAILED):
        note = unpack_note(meta[after:])
    elif len(meta) > after:
        try:
            name, message = messages.unpack_json(meta[after:])
        except (TypeError, ValueError) as problem:
            raise ProtocolError(f"an engine's outcome is malformed: {problem}") from None
        error = (str(name), str(message))
    return meta[: messages.ORIGIN_SIZE], status, error, note
