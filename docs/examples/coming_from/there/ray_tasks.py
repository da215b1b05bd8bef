"""Ray: functions that run somewhere else."""

import ray

ray.init(num_cpus=4, log_to_driver=False, logging_level="ERROR")


@ray.remote
def square(x):
    return x * x


@ray.remote
def fail():
    raise LookupError("nothing here")


print(ray.get([square.remote(n) for n in range(5)]))
try:
    ray.get(fail.remote())
except LookupError as error:
    print("caught", str(error).splitlines()[-1])
