"""What users ask of an adaptive cluster: how many engines, and when they come and go.

Light on imports, as the rest of a cluster's configuration.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ipython1.checks import check_bool, check_int, check_seconds

TARGET_DURATION: Final = 10.0
"""Seconds in which the engines are to be done with all tasks, by default."""

IDLE: Final = 60.0
"""Seconds after which an engine without work is ended, by default."""

MOST: Final = 100_000
"""Engines that an adaptive cluster can have."""


@dataclass(frozen=True, slots=True)
class Adaptation:
    """How a cluster adapts to its tasks.

    :ivar minimum: the engines that it has in any case.
    :ivar maximum: the engines that it has at most.
    :ivar target_duration: in how many seconds the engines are to be done with the tasks that wait and run.
    :ivar idle: for how many seconds an engine has no work before it is ended.
    :ivar keep_data: whether engines stay on which somebody has pushed or executed something.
    """

    minimum: int
    maximum: int
    target_duration: float = TARGET_DURATION
    idle: float = IDLE
    keep_data: bool = True

    @classmethod
    def checked(
        cls,
        minimum: object,
        maximum: object,
        target_duration: object = TARGET_DURATION,
        idle: object = IDLE,
        keep_data: object = True,
    ) -> Adaptation:
        """Check what a user gives.

        :raises TypeError: if something is not a number, or ``keep_data`` neither True nor False.
        :raises ValueError: if a number is outside its limits.
        """
        least = check_int("minimum", minimum, 0, MOST)
        most = check_int("maximum", maximum, 1, MOST)
        if least > most:
            raise ValueError(f"minimum must be at most maximum, but {least} is more than {most}")
        return cls(
            least,
            most,
            check_seconds("target_duration", target_duration, above_zero=True),
            check_seconds("idle", idle, above_zero=True),
            check_bool("keep_data", keep_data),
        )

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Adaptation:
        """From what :meth:`to_json` gave.

        :raises TypeError, ValueError: if it is something else.
        """
        return cls.checked(**content)

    def to_json(self) -> dict[str, Any]:
        """As a plain dict."""
        return dataclasses.asdict(self)

    @property
    def range_text(self) -> str:
        """How many engines there may be, as ``0 to 8 engines``."""
        if self.minimum == self.maximum:
            return f"{self.minimum} engine{'s' * (self.minimum != 1)}"
        return f"{self.minimum} to {self.maximum} engine{'s' * (self.maximum != 1)}"
