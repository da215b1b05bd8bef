"""Gates: where a party with the right FURL registers and gets a link to the controller."""

from ipython1.kernel.tub.gate import Gate, Session, register

__all__ = [
    "Gate",
    "Session",
    "register",
]
