"""Serialization of objects, in engines and clients."""

from ipython1.kernel.objects.serialize import IUnSerialized, UnSerialized, dumps, loads

__all__ = [
    "IUnSerialized",
    "UnSerialized",
    "dumps",
    "loads",
]
