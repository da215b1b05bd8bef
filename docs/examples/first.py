"""Estimate pi: throw random points at a square, on all engines."""

import random

from ipython1.kernel import client

POINTS = 200_000


def hits(seed):
    """How many random points of a square lie in the quarter of a circle."""
    throw = random.Random(seed).random
    return sum(throw() ** 2 + throw() ** 2 < 1 for _ in range(POINTS))


tc = client.TaskClient()
found = tc.map(hits, range(40))
print(f"pi is about {4 * sum(found) / (POINTS * len(found)):.3f}")
