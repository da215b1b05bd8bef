"""``ipcluster adapt``: have the engines of a running cluster come and go with its tasks, or not any more."""

from __future__ import annotations

import argparse

from ipython1.kernel.clusters.cluster import connect_to
from ipython1.kernel.host.control import BlockingControl
from ipython1.kernel.launchers.adaptation import IDLE, TARGET_DURATION, Adaptation
from ipython1.kernel.scripts import arguments
from ipython1.kernel.scripts.adaptoptions import engine_range
from ipython1.kernel.scripts.clusterwords import files_of, word_parser

TEXT = """\
Engines start when tasks wait, and those without work end; none that somebody
has pushed to or executed something on.

examples:
  ipcluster adapt 0:8
  ipcluster adapt 2:64 --idle=300
  ipcluster adapt off               the engines stay as they are
"""


def make_parser() -> arguments.OneLineParser:
    """The command line."""
    parser = word_parser("adapt", TEXT)
    parser.add_argument(
        "range",
        type=_range_or_off,
        metavar="MIN:MAX | off",
        help="how many engines there are at least and at most",
    )
    parser.add_argument(
        "--target-duration",
        type=arguments.seconds,
        default=TARGET_DURATION,
        metavar="SECONDS",
        help=f"in how many seconds they are to be done with all tasks (default: {TARGET_DURATION:g})",
    )
    parser.add_argument(
        "--idle",
        type=arguments.seconds,
        default=IDLE,
        metavar="SECONDS",
        help=f"seconds without work after which an engine ends (default: {IDLE:g})",
    )
    parser.add_argument(
        "--drop-data",
        action="store_true",
        help="end engines, too, that somebody has pushed to or executed something on",
    )
    return parser


def run(given: argparse.Namespace) -> int:
    """Do it.

    :raises KernelError: why it cannot be done.
    """
    want = None
    if given.range is not None:
        least, most = given.range
        try:
            want = Adaptation.checked(
                least, most, given.target_duration, given.idle, not given.drop_data
            )
        except ValueError as problem:
            make_parser().error(str(problem))
    control = BlockingControl(connect_to(files_of(given)))
    try:
        control.call("adapt", adaptation=None if want is None else want.to_json())
    finally:
        control.close()
    print("the engines stay as they are" if want is None else f"adapts: {want.range_text}")
    return 0


def _range_or_off(text: str) -> tuple[int, int] | None:
    return None if text == "off" else engine_range(text)
