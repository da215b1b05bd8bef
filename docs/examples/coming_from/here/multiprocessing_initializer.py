"""ipython1: load something once in each engine."""

from ipython1.kernel.client import Cluster


def load(limit):
    global roots
    roots = {n * n: n for n in range(limit)}


def root(square):
    return roots.get(square)


with Cluster(n=4) as cluster:
    with cluster.task().executor(initializer=load, initargs=(100,)) as executor:
        print(list(executor.map(root, [49, 50, 6400])))
