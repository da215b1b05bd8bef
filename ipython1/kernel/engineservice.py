"""Engines as the controller and its adapters see them."""

from ipython1.kernel.controller.engineservice import (
    Command,
    CommandQueue,
    IEngineBase,
    IEngineCore,
    IEngineProperties,
    IEngineQueued,
    IEngineSerialized,
    Outcome,
    QueuedEngine,
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
