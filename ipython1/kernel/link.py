"""Links: two parties that send each other frames."""

from ipython1.kernel.wire.link import (
    BatchTransport,
    CallSoon,
    FoolscapLink,
    FrameLink,
    FrameReceiver,
    ThreadOutbox,
    TurnFlusher,
)

__all__ = [
    "BatchTransport",
    "CallSoon",
    "FoolscapLink",
    "FrameLink",
    "FrameReceiver",
    "ThreadOutbox",
    "TurnFlusher",
]
