"""Mappers: objects with ``map``, made once with all options."""

from ipython1.kernel.calls.mapper import IMapper, IMultiEngineMapperFactory, MultiEngineMapper

__all__ = [
    "IMapper",
    "IMultiEngineMapperFactory",
    "MultiEngineMapper",
]
