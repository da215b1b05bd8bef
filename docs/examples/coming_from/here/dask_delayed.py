"""ipython1: a graph of delayed calls, run by engines."""

import dask

from ipython1.kernel.client import Cluster


@dask.delayed
def read(n):
    return list(range(n))


@dask.delayed
def mean(numbers):
    return sum(numbers) / len(numbers)


@dask.delayed
def largest(means):
    return max(means)


with Cluster(n=4) as cluster:
    result = largest([mean(read(n)) for n in (3, 9, 6)])
    with cluster.task().executor(retries=2) as executor:
        print(result.compute(pool=executor))
