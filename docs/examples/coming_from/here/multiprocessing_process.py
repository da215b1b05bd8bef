"""ipython1: a process that one talks to, without a loop of its own: it runs what it is sent."""

from ipython1.kernel.client import Cluster

with Cluster(n=1) as cluster:
    engine = cluster.multiengine()[0]
    for number in (1, 2, 3):
        print(engine.apply(lambda number: number * 10, number))
