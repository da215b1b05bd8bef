"""Whether engines on other hosts can reach a cluster's controller."""

from __future__ import annotations

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.host.addresses import is_loopback
from ipython1.kernel.host.security import ClusterFiles, read_furl
from ipython1.kernel.launchers.clusterconfig import ClusterConfig, option_of, title_of
from ipython1.kernel.launchers.places import all_here


def check_reachable(config: ClusterConfig, files: ClusterFiles, started_by: str) -> None:
    """Check that new engines can reach the controller.

    A controller that listens for its own host only was asked for, if not in so many words; opening it for other hosts
    is left to whoever started it.

    :param config: how the engines are to be started.
    :param started_by: the command that has started the controller, with what it must be told again.
    :raises ClusterError: if they cannot; with what to do.
    """
    if all_here(config):
        return
    hosts = [host for host, _ in read_furl(files.engine_furl).hints]
    if not all(map(is_loopback, hosts)):
        return
    raise ClusterError(
        f"engines of kind {config.kind!r} may run on other hosts, but the controller of {title_of(files.cluster_id)} "
        f"listens at {hosts[0]}, for this host only; stop it, and start it again for other hosts, too: "
        f"{started_by} --client-ip=::{option_of(files.cluster_id)}"
    )
