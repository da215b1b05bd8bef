"""Loads of clusters that are idle but for what a test says."""

from __future__ import annotations

from collections.abc import Sequence

from ipython1.kernel.wire.loads import ClusterLoad, EngineLoad


def engine_load(
    engine_id: int,
    *,
    tasks: int = 0,
    commands: int = 0,
    idle: float = 0.0,
    holds: bool = False,
    draining: bool = False,
) -> EngineLoad:
    """Return that of an engine."""
    return EngineLoad(engine_id, tasks, commands, idle, holds, draining)


def cluster_load(
    *,
    waiting: int = 0,
    running: int = 0,
    seconds: float = 0.0,
    clients: int = 0,
    quiet: float = 0.0,
    engines: Sequence[EngineLoad] = (),
) -> ClusterLoad:
    """Return that of a cluster."""
    return ClusterLoad(waiting, running, seconds, clients, quiet, tuple(engines))
