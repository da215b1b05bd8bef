"""Ray: store a large array once, and use it in many tasks."""

import numpy as np
import ray

ray.init(num_cpus=4, log_to_driver=False, logging_level="ERROR")


@ray.remote
def column_sum(matrix, column):
    return float(matrix[:, column].sum())


matrix = ray.put(np.ones((1000, 1000)))
print(ray.get([column_sum.remote(matrix, column) for column in range(5)]))
