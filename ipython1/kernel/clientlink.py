"""A client's end of its link with the controller."""

from ipython1.kernel.calls.clientlink import CallObserver, ClientEnd, EngineOutcome

__all__ = [
    "CallObserver",
    "ClientEnd",
    "EngineOutcome",
]
