"""Restarting on demand: an engine, or the controller alone."""

from __future__ import annotations

from typing import Any

from ipython1.daemon.processes import State
from ipython1.daemon.supervisor import ProcessSupervisor
from ipython1.kernel.basics.error import ClusterError, ResultNotCompleted
from ipython1.kernel.clusters.launchers import Launchers
from ipython1.kernel.clusters.machine import ClusterMachine
from ipython1.kernel.clusters.retirement import Retirement
from ipython1.kernel.clusters.waiting import Waiting
from ipython1.kernel.launchers.clusterconfig import ClusterConfig
from ipython1.kernel.launchers.failures import describe_failure
from ipython1.kernel.launchers.programs import CONTROLLER_KEY


class Restarts:
    """See the module's text.

    :param launchers: those of the engines.
    :param waiting: where to wait for what changes.
    :param retirement: ends the work of engines before.
    """

    def __init__(
        self,
        config: ClusterConfig,
        machine: ClusterMachine,
        supervisor: ProcessSupervisor,
        launchers: Launchers,
        waiting: Waiting,
        retirement: Retirement,
    ) -> None:
        self._config = config
        self._machine = machine
        self._supervisor = supervisor
        self._launchers = launchers
        self._waiting = waiting
        self._retirement = retirement

    async def restart_engine(self, engine_id: int, finish: float) -> None:
        """End an engine and start it again under its id; returns when it is usable.

        :param finish: seconds that it has to finish what it runs.
        :raises ClusterError: when it was started in a way that cannot do this, or does not come up.
        """
        unit = self._machine.engines.unit_of(self._machine.engines.checked_id(engine_id))
        job = self._machine.engines.job_of(engine_id)
        if job is not None:
            await self._launchers.of(job).restart(job)  # says why it cannot
        if unit is None:
            raise ClusterError(
                f"engine {engine_id} was not started as a separate process and cannot be restarted; "
                "remove it and add another engine"
            )
        known = self._supervisor.status().get(unit.key)
        if known is None:
            # A batch system has it: says why it cannot.
            await self._launchers.of(unit).restart(unit)
            return
        self._machine.engines.check_stays(unit)
        before = known.restarts
        await self._retirement.begin(unit.ids, finish)
        self._machine.engines.check_stays(unit)
        if self._machine.engines.units.get(unit.key) is not unit:
            raise ClusterError(f"engine {engine_id} was removed before it was restarted")
        self._machine.engines.forget_end(engine_id)
        await self._launchers.of(unit).restart(unit)

        def removed() -> bool:
            return unit.key not in self._machine.engines.units

        await self._again(unit.key, before, f"engine {engine_id} was removed", removed)

    async def forget_lost(self, count: int) -> None:
        """Forget engines that have ended unasked, so that the next ``count`` have their ids."""
        units = self._machine.engines.take_lost(count)
        try:
            for unit in units:
                await self._launchers.of(unit).remove(unit)
                self._machine.unit_removed(unit.key)
        finally:
            self._machine.engines.keep(units)

    async def restart_controller(self) -> None:
        """End the controller in good order and start it again; returns when it listens.

        Engines and clients wait for it: they lose nothing.

        :raises ClusterError: when the cluster has none, or it does not come up.
        """
        known = self._supervisor.status().get(CONTROLLER_KEY)
        if known is None:
            raise ClusterError("the controller was not started by this cluster: restart it by hand")
        self._supervisor.restart(CONTROLLER_KEY)
        try:
            await self._again(CONTROLLER_KEY, known.restarts, "the controller was stopped")
        except ResultNotCompleted:
            why = self._outage()
            limit = self._config.start_timeout
            raise ResultNotCompleted(
                f"the controller is not usable after {limit:g} s{why}; it is restarted while engines wait for it"
            ) from None

    def _outage(self) -> str:
        status = self._supervisor.status().get(CONTROLLER_KEY)
        if status is None or status.state is not State.WAITING:
            return ""
        return f": {describe_failure(status)}"

    async def _again(self, key: str, before: int, gone: str, removed: Any = lambda: False) -> None:
        """Wait until a process has been restarted and is usable, or has ended for good."""

        def settled() -> bool:
            status = self._supervisor.status().get(key)
            if status is None or removed():
                raise ClusterError(f"{gone} before it was usable again")
            return status.restarts > before and status.state in (State.RUNNING, State.ENDED)

        await self._waiting.until(settled, self._config.start_timeout or None)
        status = self._supervisor.status()[key]
        if status.state is State.ENDED:
            raise ClusterError(describe_failure(status))
