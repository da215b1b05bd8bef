"""``@parallel``: a function that maps itself over its arguments."""

from ipython1.kernel.calls.parallelfunction import (
    IMultiEngineParallelDecorator,
    IParallelFunction,
    ParallelFunction,
)

__all__ = [
    "IMultiEngineParallelDecorator",
    "IParallelFunction",
    "ParallelFunction",
]
