"""What a task that is being stopped ends with: the controller tells the engine, and the engine tells it back.

A controller that is started again knows nothing of a stop that was under way.  The engine that had to let go of the run
does: it keeps the verdict as the result of that run until it is safe.
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.messages import pack_json, unpack_json


class Verdict(NamedTuple):
    """Why a run is stopped.

    :ivar name: the name of one of the kernel's errors.
    :ivar message: its message.
    :ivar final: whether the task ends with it; otherwise a retry may follow.
    """

    name: str
    message: str
    final: bool

    def pack(self) -> bytes:
        """It as bytes."""
        return pack_json(list(self))

    @classmethod
    def unpack(cls, data: Buffer) -> Verdict | None:
        """What :meth:`pack` packed; None for anything else, as an engine's user may have sent it."""
        if not len(data):
            return None
        with suppress(ProtocolError):
            fields = unpack_json(data)
            if isinstance(fields, list) and list(map(type, fields)) == [str, str, bool]:
                return cls(*fields)
        return None
