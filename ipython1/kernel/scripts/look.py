"""Looking at a controller, for the words that show what it does."""

from __future__ import annotations

import argparse
import os
import threading
from typing import TYPE_CHECKING, NamedTuple

from ipython1.kernel.basics.error import ClusterError, KernelError
from ipython1.kernel.host.logs import shown
from ipython1.kernel.host.security import (
    ClusterFiles,
    furl_file_of_environment,
    furl_of_environment,
)
from ipython1.kernel.launchers.clusterconfig import option_of, title_of
from ipython1.kernel.scripts.clusterwords import files_of
from ipython1.kernel.tub import tubs

if TYPE_CHECKING:
    from ipython1.kernel.clients.monitorclient import MonitorClient
    from ipython1.kernel.wire.monitoring import News

MONITOR_FURL = "ipcontroller-monitor.furl"


def place_of(given: argparse.Namespace) -> str:
    """Return the FURL, or the FURL file, of the controller that a command line is about.

    :raises ClusterError: if there is none.
    """
    if given.furl_file is not None:
        return str(given.furl_file)
    if given.ipython_dir is None and not given.cluster_id:
        furl = furl_of_environment("monitor")
        if furl is not None:
            return str(furl)
        named = furl_file_of_environment("monitor")
        if named is not None:
            return str(named)
    return str(monitor_furl(files_of(given)))


def monitor_furl(files: ClusterFiles) -> os.PathLike[str]:
    """Return the file with the FURL of a controller's monitor.

    :raises ClusterError: if it is missing.
    """
    path = files.security_file(MONITOR_FURL)
    if not path.exists():
        raise ClusterError(
            f"there is no {title_there(files)} ({path.name} is missing); "
            f"start one with: ipcluster -n 4{option_of(files.cluster_id)}"
        )
    return path


def title_there(files: ClusterFiles) -> str:
    """Return what a cluster is called, without an article, and where its files are."""
    return f"{title_of(files.cluster_id).removeprefix('the ')} in {files.dirs.ipython_dir}"


class Looked(NamedTuple):
    """A look at a controller.

    :ivar news: all that it tells; None if it does not.
    :ivar why: why it does not, if that is worth a line.
    """

    news: News | None
    why: str


def look(files: ClusterFiles, limit: float) -> Looked:
    """Look at a controller once, if it answers.

    :param limit: seconds that each of connecting and asking may take.
    """
    if not files.security_file(MONITOR_FURL).exists():
        return Looked(None, "the controller offers no monitor")
    found = Looked(None, f"the controller did not answer within {limit:g} s")

    def ask() -> None:
        nonlocal found
        try:
            with open_monitor(str(monitor_furl(files)), limit, 0.0) as client:
                found = Looked(client.news(0), "")
        except KernelError as problem:
            found = Looked(None, shown(str(problem)))

    # The answer, too, may take too long.  Modules are not left to the thread; see connect_blocking.
    tubs.preload()
    thread = threading.Thread(target=ask, name="ipython1-look", daemon=True)
    thread.start()
    thread.join(2 * limit)
    return found


def open_monitor(place: str, timeout: float, reconnect_timeout: float | None) -> MonitorClient:
    """Connect to a controller, only to look at it.

    :param timeout: seconds that this may take.
    :param reconnect_timeout: seconds for which to wait for a controller that is out of reach; None for the usual.
    :raises KernelError: if that fails.
    """
    from ipython1.kernel.clients.monitorclient import MonitorClient

    return MonitorClient(place, timeout, reconnect_timeout=reconnect_timeout)
