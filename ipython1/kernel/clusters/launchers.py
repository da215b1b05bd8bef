"""The launchers of a cluster: the one that it was started with, and those by which other engines were added.

Engines that are added may be of another kind than the first, or of the same kind with other options (another queue).
A launcher serves all engines of one kind that have the same options; which one has started a unit is remembered here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import DeferredLock

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers import launcher_class
from ipython1.kernel.launchers.clusterconfig import ClusterConfig
from ipython1.kernel.launchers.interfaces import Context, Unit


class Launchers:
    """See the module's text.

    :param context: that of the cluster's own launcher.
    :param units: gives the units that have not ended for good, by key.
    :ivar first: the launcher that the cluster was started with.
    """

    def __init__(self, context: Context, units: Callable[[], Mapping[str, Unit]]) -> None:
        self.first: Any = launcher_class(context.config.kind)(context)
        self._context = context
        self._units = units
        self._by_config: dict[ClusterConfig, Any] = {_options_of(context.config): self.first}
        self._by_unit: dict[str, Any] = {}
        self._preparing = DeferredLock()

    def __contains__(self, config: ClusterConfig) -> bool:
        """Return whether engines have been started with these options."""
        return _options_of(config) in self._by_config

    async def ready(self, config: ClusterConfig, count: int | None) -> tuple[Any, int]:
        """Return a launcher for engines with these options, checked and prepared, and how many it is to start.

        :param count: how many; None for as many as the hosts have that the options name, else for one.
        :raises ClusterError: if ``count`` is no such number, or engines of this kind cannot be started here.
        """
        if count is not None and count < 1:
            raise ClusterError(f"the number of engines to add must be at least 1, not {count}")
        hosts = _options_of(config).ssh != self._context.config.ssh
        if count is None and not hosts:
            count = 1
        # One after the other: two that add engines with the same options get the same launcher.
        await self._preparing.acquire()
        try:
            known = self._by_config.get(_options_of(config))
            if known is not None:
                return known, known.default_count() if count is None else count
            config = replace(config, n=count)
            others = sum(each.kind == config.kind for each in self._by_config)
            scope = f" ({others + 1})" if others else ""
            launcher = launcher_class(config.kind)(
                replace(self._context, config=config, scope=scope)
            )
            launcher.check()
            await launcher.prepare()
            self._by_config[_options_of(config)] = launcher
            return launcher, launcher.default_count() if count is None else count
        finally:
            self._preparing.release()

    async def start(self, launcher: Any, ids: Sequence[int]) -> Sequence[Unit]:
        """Start engines by one of the launchers, which has its units from now on."""
        units: Sequence[Unit] = await launcher.start(ids) if ids else ()
        living = self._units()
        self._by_unit = {key: each for key, each in self._by_unit.items() if key in living}
        self._by_unit.update((unit.key, launcher) for unit in units)
        return units

    def of(self, unit: Unit) -> Any:
        """Return the launcher that has started a unit."""
        return self._by_unit[unit.key]

    def all(self) -> list[Any]:
        """Return all launchers, in the order in which they were first used."""
        return list(self._by_config.values())

    def jobs(self) -> list[str]:
        """Return the ids of all batch jobs."""
        return [job for launcher in self.all() for job in launcher.jobs()]


def _options_of(config: ClusterConfig) -> ClusterConfig:
    """What must be the same for two engines to have the same launcher: all but the number."""
    return replace(config, n=None)
