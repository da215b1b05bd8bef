"""ipython1: many calls with the same large array."""

import numpy as np

from ipython1.kernel.client import Cluster


def row_sum(row):
    return float(data[row].sum())


data = np.arange(4_000_000.0).reshape(4, -1)
with Cluster(n=4) as cluster:
    cluster.multiengine().push({"data": data})
    print(cluster.task().map(row_sum, range(4)))
