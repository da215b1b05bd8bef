"""A client's end of its link with the controller."""

from ipython1.kernel.calls.clientlink import ClientEnd
from ipython1.kernel.calls.sentcommands import CommandObserver as CallObserver
from ipython1.kernel.wire.messages import Outcome as EngineOutcome

__all__ = [
    "CallObserver",
    "ClientEnd",
    "EngineOutcome",
]
