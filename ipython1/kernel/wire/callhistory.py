"""What the controller tells of calls that were made without waiting for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ipython1.kernel.basics.error import ProtocolError

RESULT_OF: Final = "result_of"
"""The method of a ``SUBMIT`` that asks for the outcomes of another command, which its payload names (JSON)."""

PENDING: Final = "pending"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"


@dataclass(frozen=True, slots=True)
class CallEntry:
    """A call that was made without waiting for it.

    :ivar id: names it for ever, for ``result_of``.
    :ivar call: what it is, shortened, such as ``execute('a=5')``.
    :ivar targets: the ids of its engines.
    :ivar state: ``'pending'``, ``'succeeded'``, or ``'failed'`` if any engine failed.
    :ivar submitted: when it was submitted, in seconds since the epoch.
    :ivar completed: when the last engine was done; None if it is pending.
    :ivar size: bytes of the results that the controller keeps; None if it keeps none, as the client has them.
    :ivar client: the uuid of its client, in hexadecimal.
    :ivar label: who that is: ``user@host``.
    """

    id: str
    call: str
    targets: tuple[int, ...]
    state: str
    submitted: float
    completed: float | None
    size: int | None
    client: str
    label: str

    @property
    def method(self) -> str:
        """The command's name, such as ``execute``."""
        return self.call.partition("(")[0]

    def pack(self) -> list[Any]:
        """It as a JSON value."""
        return [
            self.id,
            self.call,
            self.targets,
            self.state,
            self.submitted,
            self.completed,
            self.size,
            self.client,
            self.label,
        ]

    @classmethod
    def unpack(cls, value: Any) -> CallEntry:
        """:raises ProtocolError: if it is malformed."""
        try:
            call_id, call, targets, state, submitted, completed, size, client, label = value
            return cls(
                str(call_id),
                str(call),
                tuple(map(int, targets)),
                str(state),
                float(submitted),
                None if completed is None else float(completed),
                None if size is None else int(size),
                str(client),
                str(label),
            )
        except (TypeError, ValueError) as problem:
            raise ProtocolError(f"an entry of the history is malformed: {problem!r}") from None


def pack_call_id(client: str, number: int) -> str:
    """What names a call: its number, and the uuid of its client in hexadecimal."""
    return f"{number}@{client}"


def unpack_call_id(call_id: str) -> tuple[bytes, int]:
    """The uuid of a call's client, and its number.

    :raises ValueError: if it is not such a name.
    """
    number, _, client = call_id.partition("@")
    origin = bytes.fromhex(client)
    if len(origin) != 16:
        raise ValueError("a uuid has 16 bytes")
    return origin, int(number)
