"""``ipcluster remove``: end some of the engines."""

from __future__ import annotations

import argparse

from ipython1.core.texts import compress_ids
from ipython1.kernel.clusters.cluster import connect_to
from ipython1.kernel.host.control import BlockingControl
from ipython1.kernel.scripts.arguments import OneLineParser, engine_ids
from ipython1.kernel.scripts.clusterwords import files_of, word_parser

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
    control = BlockingControl(connect_to(files_of(given)))
    try:
        control.call("remove", LIMIT, ids=ids)
    finally:
        control.close()
    what = "engine" if len(ids) == 1 else "engines"
    print(f"removed: {what} {compress_ids(ids)}")
    return 0
