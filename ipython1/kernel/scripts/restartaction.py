"""``ipcluster restart``: restart the controller, or engines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ipython1.core.texts import compress_ids
from ipython1.kernel.basics.error import ClusterError, KernelError
from ipython1.kernel.clusters.byhand import status_by_hand
from ipython1.kernel.clusters.status import ClusterStatus, connect_to, read_state
from ipython1.kernel.host.control import BlockingControl
from ipython1.kernel.host.security import ClusterFiles
from ipython1.kernel.launchers.clusterconfig import option_of, title_of
from ipython1.kernel.scripts.arguments import OneLineParser, engine_ids
from ipython1.kernel.scripts.clusterwords import add_finish, files_of, word_parser
from ipython1.kernel.watching.amounts import named_engines

TEXT = """\
A controller keeps what it has for others: engines keep their data, and calls and tasks go on. A restarted engine has
its id, and an empty namespace; before, it finishes what it runs, within a limit, and what runs longer goes to another
engine if it is a task.

examples:
  ipcluster restart                 the controller
  ipcluster restart engines         those that have ended
  ipcluster restart engines 0-3,7   these, also if they run
  ipcluster restart engines all     all
"""


def make_parser() -> OneLineParser:
    """The command line."""
    parser = word_parser("restart", TEXT)
    parser.add_argument(
        "what",
        nargs="?",
        choices=("controller", "engines"),
        default="controller",
        metavar="controller | engines",
        help="default: the controller",
    )
    parser.add_argument(
        "ids",
        nargs="*",
        type=_which,
        metavar="IDS",
        help="ids of engines, such as 3 or 0-3,7, or all (default: those that have ended)",
    )
    add_finish(parser)
    return parser


def _which(text: str) -> list[int] | None:
    return None if text == "all" else engine_ids(text)


def run(given: argparse.Namespace) -> int:
    """Do it.

    :raises KernelError: why it cannot be done.
    """
    if given.ids and given.what != "engines":
        make_parser().error("ids can be given for engines only: ipcluster restart engines IDS")
    files = files_of(given)
    if read_state(files.state) is None and status_by_hand(files) is not None:
        raise ClusterError(
            f"{title_of(files.cluster_id)} was started by hand, so ipcluster cannot restart it: end it with "
            f"'ipcluster stop{option_of(files.cluster_id)}', and start it again, as before or with 'ipcluster -n 4'"
        )
    control = BlockingControl(connect_to(files))
    try:
        if given.what == "controller":
            control.call("restart_controller", None)
            print(f"the controller of {title_of(files.cluster_id)} is restarted")
            return 0
        ids = _chosen(ClusterStatus.from_json(control.call("status")), given.ids, files)
        return _restart_engines(control, ids, given.finish)
    finally:
        control.close()


def _chosen(
    status: ClusterStatus, given: Sequence[list[int] | None], files: ClusterFiles
) -> list[int]:
    known = [engine.id for engine in status.engines]
    if None in given:
        return known
    if given:
        ids = sorted({each for group in given for each in group or ()})
        missing = [each for each in ids if each not in known]
        if missing:
            # A restart empties the engines; nobody wants that of half of a list that is wrong.
            raise ClusterError(
                f"there is no engine {compress_ids(missing)} in {title_of(files.cluster_id)}; there are: "
                f"{compress_ids(known) or 'none'}; nothing was restarted"
            )
        return ids
    lost = [engine.id for engine in status.engines if engine.state == "ended"]
    if not lost:
        raise ClusterError(
            "no engine has ended; to restart engines that run, say which: "
            f"ipcluster restart engines {compress_ids(known) or 'all'}{option_of(files.cluster_id)}"
        )
    return lost


def _restart_engines(control: BlockingControl, ids: Sequence[int], finish: float) -> int:
    """Restart engines, one after the other; a failure does not keep the others from it."""
    done = []
    for engine_id in ids:
        try:
            control.call("restart", None, engine=engine_id, within=finish)
        except KernelError as problem:
            print(f"ipcluster: {problem}", file=sys.stderr)
        else:
            done.append(engine_id)
    if done:
        print(f"restarted: {named_engines(done)}")
    return 0 if len(done) == len(ids) else 1
