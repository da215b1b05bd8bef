"""The Foolscap face of the registry of engines."""

from ipython1.kernel.controller.enginefc import EngineSession, FCEngines

__all__ = [
    "EngineSession",
    "FCEngines",
]
