"""The settings of clusters that adapt to their tasks, and of those that end when nobody uses them."""

from __future__ import annotations

from ipython1.config import kinds
from ipython1.config.schema import Option, Section
from ipython1.kernel.launchers.adaptation import IDLE, MOST, TARGET_DURATION

_SECONDS = kinds.number(0, unit="seconds")

IDLE_TIMEOUT = Option(
    "idle_timeout",
    _SECONDS,
    0.0,
    "Seconds after which a cluster ends that nobody uses: no client is connected, and nothing waits or runs. "
    "0 means never.",
)

ADAPT = Section(
    "adapt",
    "Engines that come when tasks wait, and go when they have no work.",
    (
        Option("minimum", kinds.integer(0, MOST), 0, "The engines that there are in any case."),
        Option(
            "maximum",
            kinds.integer(0, MOST),
            0,
            "The engines that there are at most; 0 means that their number does not adapt to the tasks.",
        ),
        Option(
            "target_duration",
            _SECONDS,
            TARGET_DURATION,
            "In how many seconds the engines are to be done with all tasks.",
        ),
        Option("idle", _SECONDS, IDLE, "Seconds without work after which an engine goes."),
        Option(
            "keep_data",
            kinds.BOOLEAN,
            True,
            "Whether engines stay on which somebody has pushed or executed something.",
        ),
    ),
)
