"""How much a controller has to do, and which of its engines could be spared."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

READING: Final = frozenset(
    ("pull", "pull_function", "keys", "get_result", "get_properties", "has_properties")
)
"""The commands that leave nothing on an engine."""

RESET: Final = "reset"
"""The command that removes what others have left."""


def leaves_data(method: str, before: bool) -> bool:
    """Whether an engine holds something of users after a command.

    :param before: whether it did before.
    """
    return before if method in READING else method != RESET


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """One engine.

    :ivar id: its id.
    :ivar tasks: how many tasks it has, running or given ahead.
    :ivar commands: how many direct commands run or wait there.
    :ivar idle: seconds since it had either; 0.0 while it has any.
    :ivar holds: whether somebody has pushed or executed something there since it started or was reset.
    :ivar draining: whether it gets no more tasks.
    """

    id: int
    tasks: int
    commands: int
    idle: float
    holds: bool
    draining: bool


@dataclass(frozen=True, slots=True)
class ClusterLoad:
    """All engines of a controller, and what waits for them.

    :ivar waiting: the number of tasks that have not begun, and that any engine could run.
    :ivar running: the number of tasks that run.
    :ivar seconds: the mean run time of tasks such as those that wait; 0.0 if it is not known.
    :ivar clients: the number of connected clients besides the one that asks.
    :ivar quiet: seconds since a task or a direct command came, began or ended.
    :ivar engines: the engines, by id.
    """

    waiting: int
    running: int
    seconds: float
    clients: int
    quiet: float
    engines: tuple[EngineLoad, ...]

    def to_json(self) -> dict[str, Any]:
        """It in values of JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ClusterLoad:
        """What :meth:`to_json` gave.

        :raises KeyError, TypeError: if it is malformed.
        """
        engines = tuple(EngineLoad(**each) for each in value["engines"])
        return cls(**{**value, "engines": engines})
