"""joblib: many calls with the same large array."""

import numpy as np
from joblib import Parallel, delayed


def row_sum(data, row):
    return float(data[row].sum())


data = np.arange(4_000_000.0).reshape(4, -1)
print(Parallel(n_jobs=4)(delayed(row_sum)(data, row) for row in range(4)))
