"""The processes of the controller's host, as it sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ipython1.kernel.controller.parties import Identity

if TYPE_CHECKING:
    from tests.simulator.world import World

HOST = "simulated|host|0"


class Pids:
    """The processes of the controller's host, as the controller watches them."""

    def __init__(self, world: World) -> None:
        self._world = world

    def started(self, pid: int, host: str) -> float:
        return float(pid) if host == HOST else 0.0

    def watch(self, identity: Identity, on_dead: Callable[[], None], /) -> Callable[[], None]:
        if identity.host != HOST:
            return lambda: None
        watcher = self._world.controller.process
        watching = [True]

        def dead() -> None:
            watcher.callLater(0, lambda: watching and on_dead())

        process = self._world.processes[identity.pid]
        if process.dead:
            dead()
        else:
            process.on_death.append(dead)
        return watching.clear
