"""ipython1: send a large array to the engines once, and use it in many tasks."""

import numpy as np

from ipython1.kernel.client import Cluster


def column_sum(column):
    return float(matrix[:, column].sum())


with Cluster(n=4) as cluster:
    cluster.multiengine()["matrix"] = np.ones((1000, 1000))
    print(cluster.task().map(column_sum, range(5)))
