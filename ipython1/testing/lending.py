"""Lends clusters of processes to tests, one after the other: each is started once and reset when it comes back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ipython1.kernel.basics.error import KernelError
from ipython1.testing.numbers import check_engines
from ipython1.testing.temporary import TemporaryCluster


class ClusterLender:
    """Keeps one cluster for each number of engines that was asked for.

    =============  =============================  ================================
    cluster        event                          becomes
    =============  =============================  ================================
    (none)         :meth:`lend`                   started, lent
    lent           :meth:`lend` of as many        an error: it is not for two
    lent           given back, reset              idle
    lent           given back, cannot be reset    stopped, forgotten
    idle           :meth:`lend`                   lent; if it has ended: forgotten,
                                                  and another one is started
    any            :meth:`close`                  stopped, forgotten
    =============  =============================  ================================
    """

    def __init__(self) -> None:
        self._idle: dict[int, TemporaryCluster] = {}
        self._lent: dict[int, TemporaryCluster] = {}

    @contextmanager
    def lend(self, n: int, fresh: bool = False) -> Iterator[TemporaryCluster]:
        """A context that has a cluster for itself.

        Meanwhile, clients of this process that name no cluster find this one.

        :param n: the number of engines.
        :param fresh: have engines in which no test has run anything.
        :raises ValueError: if ``n`` is not a whole number of 1 or more.
        :raises RuntimeError: if another test has a cluster of that size now.
        """
        check_engines(n, "engines")
        if n in self._lent:
            raise RuntimeError(
                f"the cluster of {n} engines is lent already; a test that needs two makes a TemporaryCluster"
            )
        cluster = self._take(n, fresh)
        self._lent[n] = cluster
        try:
            with cluster.as_default():
                yield cluster
        finally:
            if self._lent.pop(n, None) is not None:
                self._give_back(cluster)

    def _take(self, n: int, fresh: bool) -> TemporaryCluster:
        cluster = self._idle.pop(n, None)
        if cluster is not None and _is_usable(cluster):
            if fresh:
                cluster.reset(fresh=True)
            return cluster
        return TemporaryCluster(n).start()

    def _give_back(self, cluster: TemporaryCluster) -> None:
        try:
            cluster.reset()
        except KernelError:
            cluster.stop(force=True)
        except BaseException:
            cluster.stop()
            raise
        else:
            self._idle[cluster.n] = cluster

    def close(self) -> None:
        """Stop all clusters; those that are lent, too."""
        clusters = [*self._idle.values(), *self._lent.values()]
        self._idle.clear()
        self._lent.clear()
        for cluster in clusters:
            cluster.stop()


def _is_usable(cluster: TemporaryCluster) -> bool:
    """Whether an idle cluster still has its engines; if not, it is stopped."""
    try:
        if cluster.ids == list(range(cluster.n)):
            return True
    except KernelError:
        pass
    cluster.stop(force=True)
    return False


lender = ClusterLender()
"""That of this process.  What it keeps ends with the process at the latest."""
