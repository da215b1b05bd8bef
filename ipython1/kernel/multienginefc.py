"""The Foolscap face of the MultiEngine interface."""

from ipython1.kernel.controller.multienginefc import (
    FCMultiEngine,
    IFCClientInterface,
    IFCMultiEngine,
    IFCSessions,
    MultiEngineSession,
    send_reply,
)

__all__ = [
    "FCMultiEngine",
    "IFCClientInterface",
    "IFCMultiEngine",
    "IFCSessions",
    "MultiEngineSession",
    "send_reply",
]
