"""ipython1: an object that stays on one engine."""

from ipython1.kernel.client import Cluster


class Counter:
    n = 0

    def add(self, by):
        self.n += by
        return self.n


with Cluster(n=2) as cluster:
    home = cluster.multiengine()[0]
    home["counter"] = Counter()
    print([home.apply(lambda by: counter.add(by), by) for by in (1, 2, 3)])
    print(home.apply(lambda: counter.n))
