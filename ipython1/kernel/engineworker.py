"""What code that runs on an engine can ask its engine for."""

from ipython1.kernel.engine.service import EngineService, Properties, properties

__all__ = [
    "EngineService",
    "Properties",
    "properties",
]
