"""``ipcluster top``: watch engines and tasks, live in the terminal."""

from __future__ import annotations

import argparse

from ipython1.kernel.scripts import arguments
from ipython1.kernel.scripts.arguments import OneLineParser
from ipython1.kernel.scripts.clusterwords import word_parser
from ipython1.kernel.scripts.look import open_monitor, place_of

TEXT = """\
q ends it; other keys are shown.

examples:
  ipcluster top
  ipcluster top --once              print it once, also without a terminal
  ipcluster top --furl-file=FILE    a cluster whose monitor's FURL you have
"""

CONNECT_LIMIT = 10.0
"""Seconds that connecting to the controller may take."""


def make_parser() -> OneLineParser:
    """The command line."""
    parser = word_parser("top", TEXT)
    parser.add_argument("--once", action="store_true", help="print it once, and end")
    parser.add_argument(
        "--interval",
        type=interval,
        default=1.0,
        metavar="SECONDS",
        help="seconds between two looks (default: 1)",
    )
    parser.add_argument(
        "--furl-file",
        type=arguments.file,
        metavar="FILE",
        help="the FURL file of the controller's monitor (default: that of the cluster)",
    )
    return parser


def interval(text: str) -> float:
    """A time between looks."""
    value = arguments.seconds(text)
    if value < 0.1:
        raise argparse.ArgumentTypeError(f"{text!r} is too short; 0.1 is the least")
    return value


def run(given: argparse.Namespace) -> int:
    """Do it.

    :raises KernelError: if the controller cannot be asked.
    """
    from rich.console import Console

    from ipython1.kernel.watching import topscreen

    with open_monitor(place_of(given), CONNECT_LIMIT, None) as client:
        if given.once or not topscreen.is_terminal():
            topscreen.show_once(client, Console())
        else:
            topscreen.show_live(client, given.interval)
    return 0
