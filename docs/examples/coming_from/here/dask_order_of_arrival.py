"""ipython1: use each result as soon as it is there."""

import time

from ipython1.kernel.client import Cluster


def work(seconds):
    time.sleep(seconds)
    return seconds


with Cluster(n=4) as cluster:
    for seconds in cluster.task().map(work, [1.5, 0.1, 0.7], block=False).as_completed():
        print(seconds)
