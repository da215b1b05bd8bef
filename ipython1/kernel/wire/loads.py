"""How busy a controller and its engines are, for those who start and end engines."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """One engine.

    :ivar tasks: its outstanding tasks.
    :ivar commands: its commands that wait or run.
    :ivar idle: for how many seconds it has had neither; 0.0 while it has any.
    :ivar holds: whether somebody has pushed or executed something there since it started or was reset.
    :ivar draining: whether it is given no more tasks.
    """

    id: int
    tasks: int = 0
    commands: int = 0
    idle: float = 0.0
    holds: bool = False
    draining: bool = False


@dataclass(frozen=True, slots=True)
class ClusterLoad:
    """All of it.

    :ivar waiting: tasks that could run now and wait for an engine.
    :ivar running: tasks that run.
    :ivar seconds: the mean run time of recent tasks; 0.0 if it is not known.
    :ivar clients: connected clients besides the one that asks.
    :ivar quiet: for how many seconds nothing was asked, ran or ended.
    """

    waiting: int = 0
    running: int = 0
    seconds: float = 0.0
    clients: int = 0
    quiet: float = 0.0
    engines: tuple[EngineLoad, ...] = ()
