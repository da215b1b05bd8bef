"""ipython1: calls to whichever engine is free, results as they come, and an error."""

import time

from ipython1.kernel.client import Cluster, CompositeError


def work(seconds):
    time.sleep(seconds)
    return seconds


with Cluster(n=4) as cluster:
    tc = cluster.task()
    for seconds in tc.map(work, [1.5, 0.1, 0.7], block=False).as_completed():
        print(seconds)
    try:
        tc.map(lambda x: 12 // x, [1, 0, 4])
    except CompositeError as error:
        # Besides, error.results has the values of the other items.
        print("failed:", type(error.exceptions[0]).__name__)
