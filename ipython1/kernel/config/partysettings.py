"""The settings of a controller for those who connect to it, and for whom it connects to."""

from __future__ import annotations

from ipython1.config import kinds
from ipython1.config.schema import Option

_SECONDS = kinds.number(0, unit="seconds")

UPSTREAM = Option(
    "upstream",
    kinds.TEXT,
    "",
    "Be a gateway: the FURL file for engines of the controller that the engines of this one are to serve, too.",
)

GRACES = (
    Option(
        "engine_grace",
        _SECONDS,
        10.0,
        "How long an engine whose connection is lost may take to come back. Its commands and tasks fail or go to "
        "others after that, or as soon as its process is known to be dead.",
    ),
    Option(
        "restart_grace",
        _SECONDS,
        60.0,
        "The same, after the controller itself was started again.",
    ),
    Option(
        "client_grace",
        _SECONDS,
        86400.0,
        "How long a client whose connection is lost may take to come back and find its calls going on. Its "
        "tasks and their results do not depend on that.",
    ),
)
