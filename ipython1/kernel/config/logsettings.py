"""The settings of log files, which all sections of processes have."""

from __future__ import annotations

from ipython1.config import kinds
from ipython1.config.schema import Option

LOG_LEVELS = ("debug", "info", "warn", "error", "critical")

MIB = 1024**2

LOGGING = (
    Option(
        "log_level",
        kinds.choice(*LOG_LEVELS),
        "info",
        "The lowest severity of messages that are logged.",
    ),
    Option(
        "log_size",
        kinds.SIZE,
        5 * MIB,
        "The size at which the log file is rotated; the last three rotated files are kept.",
    ),
)
