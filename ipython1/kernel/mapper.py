"""Mappers: objects with a ``map`` method, created once with all options."""

from ipython1.kernel.calls.mapper import IMapper, IMultiEngineMapperFactory, MultiEngineMapper

__all__ = [
    "IMapper",
    "IMultiEngineMapperFactory",
    "MultiEngineMapper",
]
