"""Waiting until a cluster has enough engines."""

from __future__ import annotations

from collections.abc import Callable

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.clusters.machine import ClusterMachine, Phase
from ipython1.kernel.clusters.waiting import Waiting


async def wait_for_engines(
    machine: ClusterMachine,
    waiting: Waiting,
    may_come: Callable[[int], bool],
    count: int | None,
    timeout: float | None,
) -> None:
    """Wait for that many engines, or all that were asked for.

    :param may_come: whether there may be so many without anybody starting them by hand.
    :raises ClusterError: as soon as it is sure that they do not come.
    :raises ResultNotCompleted: when the time is over.
    """

    def wanted() -> int:
        return machine.engines.wanted if count is None else count

    def settled() -> bool:
        return machine.phase is not Phase.STARTING

    def enough() -> bool:
        return settled() and len(machine.engines.ids) >= wanted()

    def hopeless() -> bool:
        return settled() and not machine.more_to_come and not may_come(wanted())

    await waiting.until(lambda: enough() or hopeless(), timeout)
    if not enough():
        last = f"; {machine.engines.last_failure}" if machine.engines.last_failure else ""
        raise ClusterError(
            f"{len(machine.engines.ids)} engines are usable and no more are starting, "
            f"so {wanted()} cannot be reached{last}"
        )
