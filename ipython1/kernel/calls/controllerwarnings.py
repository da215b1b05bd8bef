"""What is wrong with the controller, as it has told a client; in the reactor's thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ipython1.kernel.calls.usercallbacks import guarded
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.frames import Buffer


class Warnings:
    """The lines that the controller told last, and who is told of a change."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._observers: list[Callable[[list[str]], None]] = []

    @property
    def lines(self) -> Sequence[str]:
        """What the controller told last; empty when all is well."""
        return self._lines

    def observe(self, call: Callable[[list[str]], None]) -> None:
        """Call ``call`` with the lines, now and when they have changed."""
        self._observers.append(call)
        call(self._lines)

    def received(self, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        """Handle a ``WARNINGS`` frame."""
        self.are(messages.unpack_json(payload))

    def are(self, lines: Sequence[str]) -> None:
        """The controller tells these."""
        if list(lines) == self._lines:
            return
        self._lines = list(lines)
        for call in list(self._observers):
            guarded(call, self._lines)
