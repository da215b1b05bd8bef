"""Whether engines on other hosts can reach a cluster's controller."""

from __future__ import annotations

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.host.addresses import is_loopback
from ipython1.kernel.host.security import ClusterFiles, read_furl
from ipython1.kernel.launchers.clusterconfig import ClusterConfig, option_of, title_of
from ipython1.kernel.launchers.clusterfile import cluster_hosts
from ipython1.kernel.launchers.places import all_here

_OR_SSH = "; or have ssh carry the connections of the new engines (tunnel)"


def start_again(config: ClusterConfig, n: int) -> str:
    """Return how to start a cluster again so that its controller listens for other hosts, too.

    :param config: what it was started with.
    :param n: the number of engines that it shall have.
    """
    if config.owned:
        return f"Cluster({n}, {config.kind!r}, client_ip='::')"
    return f"ipcluster {config.kind} -n {n} --client-ip=::{option_of(config.cluster_id)}"


def check_reachable(config: ClusterConfig, files: ClusterFiles, again: str) -> None:
    """Check that new engines can reach the controller.

    A controller that listens for its own host only was asked for, if not in so many words; opening it for other hosts
    is left to whoever started it.

    :param config: how the engines are to be started.
    :param again: how to start the controller again so that they can.
    :raises ClusterError: if they cannot; with what to do.
    """
    if all_here(config) or _through_ssh(config):
        return
    hosts = [host for host, _ in read_furl(files.engine_furl).hints]
    if not all(map(is_loopback, hosts)):
        return
    raise ClusterError(
        f"engines of kind {config.kind!r} may run on other hosts, but the controller of {title_of(files.cluster_id)} "
        f"listens at {hosts[0]}, for this host only; stop it, and start it again for other hosts, too: "
        f"{again}{_OR_SSH if config.kind == 'ssh' else ''}"
    )


def _through_ssh(config: ClusterConfig) -> bool:
    """Return whether ssh carries the connections of all engines, to an address of this host."""
    if config.kind != "ssh":
        return False
    return config.ssh.tunnel or all(host.tunnel for host in cluster_hosts(config).engines)
