"""``ipcluster remove``: end some of the engines."""

from __future__ import annotations

import argparse

from ipython1.kernel.clusters.byhand import status_by_hand
from ipython1.kernel.clusters.cluster import connect_to
from ipython1.kernel.clusters.status import read_state
from ipython1.kernel.host.control import BlockingControl
from ipython1.kernel.host.security import ClusterFiles
from ipython1.kernel.scripts.arguments import OneLineParser, engine_ids
from ipython1.kernel.scripts.clusterwords import files_of, word_parser
from ipython1.kernel.watching.amounts import named_engines

LIMIT = 120.0
"""Seconds that engines may take to end."""

EXAMPLES = """\
Commands that wait for them fail, and tasks go to the other engines.

examples:
  ipcluster remove 3
  ipcluster remove 0-3,7
"""


def make_parser() -> OneLineParser:
    """The command line."""
    parser = word_parser("remove", EXAMPLES)
    parser.add_argument(
        "ids", nargs="+", type=engine_ids, metavar="IDS", help="ids of engines, such as 3 or 0-3,7"
    )
    return parser


def run(given: argparse.Namespace) -> int:
    """Do it.

    :raises KernelError: why it cannot be done.
    """
    ids = sorted({each for group in given.ids for each in group})
    files = files_of(given)
    if read_state(files.state) is None and status_by_hand(files) is not None:
        _remove_by_hand(files, ids)
    else:
        control = BlockingControl(connect_to(files))
        try:
            control.call("remove", LIMIT, ids=ids)
        finally:
            control.close()
    print(f"removed: {named_engines(ids)}")
    return 0


def _remove_by_hand(files: ClusterFiles, ids: list[int]) -> None:
    """Have a controller end engines; nobody else has started them."""
    from ipython1.kernel.clients.multiengineclient import MultiEngineClient

    client = MultiEngineClient(str(files.multiengine_furl), reconnect_timeout=0)
    client.kill(targets=ids)
