"""ipython1: spread numbers over engines, work on the parts, and collect them."""

from ipython1.kernel.client import Cluster

with Cluster(n=4) as cluster:
    mec = cluster.multiengine()
    mec.scatter("numbers", range(16))
    mec.execute("squares = [n * n for n in numbers]")
    print(mec.gather("squares"))
    print(mec.apply(lambda: sum(squares)))
