"""What a party does with the frames that it gets, by their kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from twisted.logger import Logger

from ipython1.kernel.wire.frames import Buffer

log: Logger = Logger()

KindHandler: TypeAlias = Callable[[int, int, Buffer, Buffer], None]
"""Called with the flags, ident, meta part and payload of a frame."""


class FrameHandlers(dict[int, KindHandler]):
    """The handler of each kind of frame; a frame of any other kind is logged, and otherwise ignored.

    :param sender: who sends the frames, for the log.
    """

    def __init__(self, sender: str) -> None:
        super().__init__()
        self._sender = sender

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        """Handle a frame."""
        handler = self.get(kind)
        if handler is not None:
            handler(flags, ident, meta, payload)
        else:
            log.warn(
                "{sender} sent a frame of the unknown kind {kind}", sender=self._sender, kind=kind
            )
