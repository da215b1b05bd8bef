"""Writes of whole items, where Foolscap writes token by token.

Each write to a TLS connection becomes a record of its own, which costs 22 bytes, an encryption and a system call here,
and a read and a run through the decoder on the other side; an item of Foolscap's has dozens of tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Gathered:
    """Stands in for a transport while an item is written to it; :meth:`flush` passes all of it on at once.

    Whatever else is asked of the transport meanwhile finds everything written that came before.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._parts: list[bytes] = []
        self.write: Callable[[bytes], None] = self._parts.append

    def flush(self) -> None:
        """Write what has been gathered."""
        if self._parts:
            whole = b"".join(self._parts)
            self._parts.clear()
            self._transport.write(whole)

    def __getattr__(self, name: str) -> Any:
        self.flush()
        return getattr(self._transport, name)
