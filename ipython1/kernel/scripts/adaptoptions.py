"""The options of ``ipcluster`` for clusters that adapt to their tasks, and for those that end when nobody uses them."""

from __future__ import annotations

import argparse
import re
from typing import Any, Final

from ipython1.kernel.launchers.adaptation import MOST, Adaptation
from ipython1.kernel.scripts import arguments

_NAMES: Final = ("adapt", "adapt_duration", "adapt_idle", "adapt_drop_data")


def add_adapt_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group("engines that come and go with the tasks")
    group.add_argument(
        "--adapt",
        type=engine_range,
        metavar="MIN:MAX",
        help="start engines when tasks wait and end those without work, between so many engines",
    )
    group.add_argument(
        "--adapt-duration",
        type=arguments.seconds,
        metavar="SECONDS",
        help="in how many seconds they are to be done with all tasks",
    )
    group.add_argument(
        "--adapt-idle",
        type=arguments.seconds,
        metavar="SECONDS",
        help="seconds without work after which an engine goes",
    )
    group.add_argument(
        "--adapt-drop-data",
        action="store_const",
        const=True,
        help="end engines, too, on which somebody has pushed or executed something",
    )
    parser.add_argument(
        "--idle-timeout",
        type=arguments.seconds,
        metavar="SECONDS",
        help="end the cluster when nobody has used it for so long; 0 for never",
    )


def adaptation(given: argparse.Namespace, section: dict[str, Any]) -> Adaptation | None:
    """Return what the command line and the ini file say; None for engines that do not come and go.

    :param section: the ini file's.
    :raises UsageError: if it does not fit together.
    """
    least, most = given.adapt or (section["minimum"], section["maximum"])
    duration = _chosen(given.adapt_duration, section["target_duration"])
    idle = _chosen(given.adapt_idle, section["idle"])
    keep = section["keep_data"] and not given.adapt_drop_data
    if most:
        try:
            return Adaptation.checked(least, most, duration, idle, keep)
        except ValueError as problem:
            raise arguments.UsageError(f"engines cannot come and go: {problem}") from None
    for name in _NAMES[1:]:
        if getattr(given, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise arguments.UsageError(f"{option} means nothing without --adapt=MIN:MAX")
    return None


def check_not_given(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Refuse these options for engines that are added to a cluster."""
    for name in ("idle_timeout", *_NAMES):
        if getattr(given, name) is not None:
            parser.error(f"--{name.replace('_', '-')} is for a new cluster, not for its engines")


def _chosen(value: Any, default: Any) -> Any:
    return default if value is None else value


def engine_range(text: str) -> tuple[int, int]:
    """How many engines there are at least and at most."""
    found = re.fullmatch(r"(?:(\d+):)?(\d+)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"must be two numbers like 0:8, not {text!r}")
    least, most = int(found[1] or 0), int(found[2])
    if not max(least, 1) <= most <= MOST:
        raise argparse.ArgumentTypeError(
            f"the second number must be at least the first, and from 1 to {MOST}, not {text!r}"
        )
    return least, most
