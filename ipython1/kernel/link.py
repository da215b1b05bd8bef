"""Links between two parties that send each other frames."""

from ipython1.kernel.tub.foolscaplink import FoolscapLink
from ipython1.kernel.wire.link import (
    BatchTransport,
    CallSoon,
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
