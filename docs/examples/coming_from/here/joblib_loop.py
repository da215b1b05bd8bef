"""ipython1: a loop over calls, on engines."""

from math import sqrt

import joblib
from joblib import Parallel, delayed

from ipython1.kernel import client

with client.Cluster(n=4) as cluster:
    client.register_joblib_backend(cluster.task())
    with joblib.parallel_config("ipython1"):
        print(Parallel(n_jobs=4)(delayed(sqrt)(n * n) for n in range(6)))
