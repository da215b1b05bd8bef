"""The MultiEngine interface: engines are explicit, each with its id and its queue."""

from ipython1.kernel.controller.multiengine import IEngineMultiplexer, IMultiEngine, MultiEngine

__all__ = [
    "IEngineMultiplexer",
    "IMultiEngine",
    "MultiEngine",
]
