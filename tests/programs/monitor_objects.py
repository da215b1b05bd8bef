"""Monitors that belong to a program: of a blocking and of an asynchronous cluster object."""

from __future__ import annotations

import sys
import urllib.request

from twisted.internet.task import deferLater, react

from ipython1.kernel.asynccluster import AsyncCluster
from ipython1.kernel.client import Cluster
from ipython1.kernel.error import ClusterError


def is_served(url):
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status == 200
    except OSError:  # refused, or closed at this moment
        return False


def blocking():
    try:
        Cluster(n=1, cluster_id="other").monitor()
    except ClusterError as problem:
        assert "not started" in str(problem), problem
    cluster = Cluster.attach()
    monitor = cluster.monitor()
    assert cluster.monitor() is monitor
    assert is_served(monitor.url), monitor.url
    assert f'href="{monitor.url}"' in monitor._repr_html_()
    monitor.close()
    monitor.close()
    assert not is_served(monitor.url)
    assert "closed" in repr(monitor) and "href" not in monitor._repr_html_()
    with cluster.monitor() as again:
        assert is_served(again.url)
    last = cluster.monitor()
    assert is_served(last.url)
    cluster.close()
    assert not is_served(last.url), "it goes on without the cluster"
    print("blocking: well")


async def asynchronous(reactor):
    from twisted.internet.threads import deferToThread

    cluster = await AsyncCluster.attach()
    monitor = await cluster.monitor()
    assert await deferToThread(is_served, monitor.url)
    cluster.close()
    while await deferToThread(is_served, monitor.url):
        await deferLater(reactor, 0.05)
    print("asynchronous: well")


if sys.argv[1:] == ["leave"]:
    # It is not closed: it ends with this program.
    print(Cluster.attach().monitor().url)
else:
    blocking()
    react(asynchronous)
