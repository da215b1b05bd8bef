"""ipython1: results one by one, calls that one does not wait for, and a limit on the wait."""

import time

from ipython1.kernel.client import Cluster


def square(x):
    return x * x


with Cluster(n=4) as cluster:
    tc = cluster.task()
    print(sorted(tc.imap(square, range(5), ordered=False)))
    print(tc.submit(square, 20).result(timeout=30))
    slow = tc.submit(time.sleep, 60)
    try:
        slow.result(timeout=0.5)
    except TimeoutError:
        print("not done yet")
