"""Foolscap's Tubs as this kernel uses them: creating one, listening, connecting."""

from ipython1.kernel.tub.tubs import START_ONE, close, connect, listen, make_tub, register

__all__ = [
    "START_ONE",
    "close",
    "connect",
    "listen",
    "make_tub",
    "register",
]
