"""Engines as the controller and its adapters see them."""

from ipython1.kernel.controller.queuedengine import (
    Command,
    CommandQueue,
    IEngineQueued,
    Outcome,
    QueuedEngine,
)
from ipython1.kernel.objects.engineinterfaces import (
    IEngineBase,
    IEngineCore,
    IEngineProperties,
    IEngineSerialized,
)

__all__ = [
    "Command",
    "CommandQueue",
    "IEngineBase",
    "IEngineCore",
    "IEngineProperties",
    "IEngineQueued",
    "IEngineSerialized",
    "Outcome",
    "QueuedEngine",
]
