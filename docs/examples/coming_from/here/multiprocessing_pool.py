"""ipython1: a function for each item of a list."""

from ipython1.kernel.client import Cluster


def cube(x):
    return x**3


with Cluster(n=4) as cluster:
    tc = cluster.task()
    print(tc.map(cube, [1, 2, 3]))
    print(tc.map(pow, [2, 3], [5, 2]))
