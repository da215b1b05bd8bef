"""The MultiEngine interface: clients address engines explicitly, each by its id and with its own queue."""

from ipython1.kernel.controller.multiengine import IEngineMultiplexer, IMultiEngine, MultiEngine

__all__ = [
    "IEngineMultiplexer",
    "IMultiEngine",
    "MultiEngine",
]
