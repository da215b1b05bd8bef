"""ipython1: functions that run somewhere else."""

from ipython1.kernel.client import Cluster


def square(x):
    return x * x


def fail():
    raise LookupError("nothing here")


with Cluster(n=4) as cluster:
    tc = cluster.task()
    calls = [tc.submit(square, n) for n in range(5)]
    print([call.result() for call in calls])
    try:
        tc.submit(fail).result()
    except LookupError as error:
        print("caught", f"{type(error).__name__}: {error}")
