"""ipython1: functions whose arguments are the results of others."""

from ipython1.kernel.client import Cluster


def square(x):
    return x * x


def total(*numbers):
    return sum(numbers)


with Cluster(n=4) as cluster:
    tc = cluster.task()
    squares = tc.map(square, range(10))
    halves = [tc.submit(total, *squares[:5]), tc.submit(total, *squares[5:])]
    first, second = (half.result() for half in halves)
    print([first, second])
    print(tc.submit(total, first, second).result())
