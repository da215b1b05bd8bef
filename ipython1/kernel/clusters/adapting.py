"""``adapt`` of the cluster classes, and what is told of a cluster that adapts to its tasks."""

from __future__ import annotations

from typing import Any

from ipython1.kernel.clusters.status import ScalingInfo
from ipython1.kernel.launchers.adaptation import IDLE, TARGET_DURATION, Adaptation
from ipython1.kernel.watching.amounts import duration_text


class CanAdapt:
    """A cluster object whose engines can come and go by themselves."""

    def _call(self, do: str, **arguments: Any) -> Any:
        """Give an order to the cluster."""
        raise NotImplementedError

    def adapt(
        self,
        minimum: int | None = 0,
        maximum: int | None = None,
        *,
        target_duration: float = TARGET_DURATION,
        idle: float = IDLE,
        keep_data: bool = True,
    ) -> Any:
        """Have engines come when tasks wait, and go when they have no work; it returns at once.

        A second call changes the numbers, and ``adapt(None)`` leaves the engines as they are.  An engine that goes is
        given no more tasks first, so no task is lost.

        :param minimum: the engines that there are in any case.
        :param maximum: the engines that there are at most.
        :param target_duration: in how many seconds the engines are to be done with all tasks.  While it is not known
            how long tasks take, an engine is started for each of them.
        :param idle: for how many seconds an engine has no work before it goes.  It stays while any task waits.
        :param keep_data: keep engines on which somebody has pushed or executed something.
        :returns: None; with an ``AsyncCluster`` a Deferred that fires with None.
        :raises TypeError: if something is not a number, or ``keep_data`` neither True nor False.
        :raises ValueError: if a number cannot be meant.
        :raises ClusterError: if the engines end together (those of MPI).
        """
        if minimum is None and maximum is None:
            return self._call("adapt", adaptation=None)
        want = Adaptation.checked(minimum, maximum, target_duration, idle, keep_data)
        return self._call("adapt", adaptation=want.to_json())


def scaling_lines(scaling: ScalingInfo | None) -> list[str]:
    """Return what a cluster does by itself, in up to two lines."""
    if scaling is None:
        return []
    lines = []
    want = scaling.adaptation
    if want is not None:
        last = f"; {duration_text(scaling.ago)} ago: {scaling.last}" if scaling.last else ""
        data = "" if want.keep_data else ", even if it holds data"
        idle = f"one goes after {duration_text(want.idle)} without work{data}"
        lines.append(f"adapts to its tasks: {want.range_text}, {idle}{last}")
    if scaling.idle_timeout:
        unused = f"; unused for {duration_text(scaling.unused)}" if scaling.unused >= 1 else ""
        lines.append(f"ends when unused for {duration_text(scaling.idle_timeout)}{unused}")
    return lines
