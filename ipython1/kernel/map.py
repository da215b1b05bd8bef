"""Distributions: how a sequence is split into one part per engine, and reassembled."""

from ipython1.kernel.calls.map import (
    Block,
    Distribution,
    RoundRobin,
    get_distribution,
    register_distribution,
)

__all__ = [
    "Block",
    "Distribution",
    "RoundRobin",
    "get_distribution",
    "register_distribution",
]
