"""ipython1: add up results as they come, without keeping them."""

from ipython1.kernel.client import Cluster


def count(n):
    return len(str(2**n))


with Cluster(n=4) as cluster:
    print(sum(cluster.task().imap(count, range(500), ordered=False)))
