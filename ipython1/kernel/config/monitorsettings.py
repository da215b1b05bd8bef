"""The settings of those who only look."""

from __future__ import annotations

from ipython1.config import kinds
from ipython1.config.schema import Option, Section

MONITOR = Section(
    "monitor",
    "The Monitor interface of the controller.",
    (
        Option(
            "failures",
            kinds.BOOLEAN,
            True,
            "Whether those who may only look are told the errors and the tracebacks of tasks and commands that "
            "failed. These may contain values and lines of code. That something failed, when and where, is told in "
            "any case.",
        ),
    ),
)
