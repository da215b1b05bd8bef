"""``ipcluster stop``: end a cluster, or tidy up after one that was killed."""

from __future__ import annotations

import argparse

from ipython1.kernel.basics.error import ClusterError, ConnectionError, ResultNotCompleted
from ipython1.kernel.clusters.byhand import status_by_hand, stop_by_hand
from ipython1.kernel.clusters.force import end_by_force, tidy_up
from ipython1.kernel.clusters.presence import ipcluster_is_silent
from ipython1.kernel.clusters.status import ClusterStatus, connect_to, read_state, wait_until_gone
from ipython1.kernel.host.control import BlockingControl
from ipython1.kernel.host.security import ClusterFiles
from ipython1.kernel.launchers.clusterconfig import option_of, title_of
from ipython1.kernel.scripts.arguments import OneLineParser
from ipython1.kernel.scripts.clusterwords import files_of, word_parser
from ipython1.kernel.scripts.look import title_there

STOP_LIMIT = 90.0

ANSWER_LIMIT = 10.0
"""Seconds that an ``ipcluster`` may take to answer a simple question before it is said to be stuck."""

TEXT = """\
Its engines have some seconds to exit. A controller and engines that were started by hand are ended, too.

examples:
  ipcluster stop
  ipcluster stop --cluster-id=mine
  ipcluster stop --force            kill all of it, even if it is stuck
"""


def make_parser() -> OneLineParser:
    """The command line."""
    parser = word_parser("stop", TEXT)
    parser.add_argument(
        "--force", action="store_true", help="kill everything at once, even what is stuck"
    )
    return parser


def run(given: argparse.Namespace) -> int:
    """Do it.

    :raises KernelError: why it cannot be done.
    """
    files = files_of(given)
    name = title_of(files.cluster_id)
    state = read_state(files.state)
    if state is None:
        return _stop_by_hand(files, name, given.force)
    if not state.is_here:
        raise ClusterError(
            f"{name} runs on {state.host}; stop it there: ssh {state.host} ipcluster stop{option_of(files.cluster_id)}"
        )
    if given.force:
        killed = end_by_force(files, state)
        print(f"{name} is ended by force: {killed} processes were killed")
    elif state.is_alive:
        _ask_to_stop(files, state, name)
        wait_until_gone(files, STOP_LIMIT)
        print(f"{name} is stopped")
    else:
        tidy_up(files, state)
        jobs = f" (jobs {', '.join(state.jobs)} cancelled)" if state.jobs else ""
        print(f"{name} was gone already; tidied up{jobs}")
    return 0


def _stop_by_hand(files: ClusterFiles, name: str, force: bool) -> int:
    if status_by_hand(files) is None:
        raise ClusterError(f"there is no {title_there(files)}")
    ended = stop_by_hand(files, _ask_controller_to_stop, force)
    how = " by force" if force else ""
    what = "1 process that was" if ended == 1 else f"{ended} processes that were"
    print(f"{name} is ended{how}: {what} started by hand")
    return 0


def _ask_controller_to_stop(files: ClusterFiles, limit: float) -> None:
    """Have a controller end, with all of its engines."""
    from ipython1.kernel.clients.multiengineclient import MultiEngineClient

    client = MultiEngineClient(str(files.multiengine_furl), limit, reconnect_timeout=0)
    client.kill(controller=True)


def _ask_to_stop(files: ClusterFiles, state: ClusterStatus, name: str) -> None:
    try:
        if not state.is_stopped:
            BlockingControl(connect_to(files)).call("stop", ANSWER_LIMIT)
            return
    except ConnectionError:
        return
    except ResultNotCompleted:
        pass
    raise ClusterError(
        f"{name} cannot be stopped: {ipcluster_is_silent(state.pid, state.is_stopped)}"
    )
