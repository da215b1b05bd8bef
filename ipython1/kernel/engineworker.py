"""The services of an engine for code that runs on it."""

from ipython1.kernel.engine.service import EngineService, Properties, properties

__all__ = [
    "EngineService",
    "Properties",
    "properties",
]
