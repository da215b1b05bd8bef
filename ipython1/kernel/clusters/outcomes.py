"""What a program is told of a start that has settled, or whose time is over."""

from __future__ import annotations

import time
import warnings
from typing import Any

from ipython1.kernel.basics.error import ClusterError, ResultNotCompleted
from ipython1.kernel.clusters.progress import UnitFailure, failure_lines


def deadline(timeout: float | None) -> float | None:
    """Return the time, in seconds since 1970, until which a process of this host may take; None for no limit."""
    return None if timeout is None else time.time() + timeout


def check_started(outcome: dict[str, Any], timeout: float | None = None) -> None:
    """Raise or warn about engines that did not come up.

    :param outcome: what the cluster tells of the start.
    :param timeout: the seconds that they had, if that was limited.
    :raises ResultNotCompleted: if none is usable, but some are still to come.
    :raises ClusterError: if none is usable.
    """
    failures = outcome["failures"]
    shown = "\n".join(failure_lines(list(map(UnitFailure.from_json, failures))))
    usable, wanted = len(outcome["ids"]), outcome["wanted"]
    queue = f"; engines waiting in the queue: {outcome['queue']}" if outcome.get("queue") else ""
    if not usable and outcome["outcome"] == "waiting" and timeout is not None:
        raise ResultNotCompleted(
            f"no engine was usable after {timeout:g} s, so the cluster was stopped{queue}\n{shown}".rstrip()
        )
    if not usable and wanted:
        raise ClusterError(f"no engine could be started{queue}\n{shown}".rstrip())
    if usable < wanted:
        warnings.warn(
            f"{usable} of {wanted} engines are usable{queue}\n{shown}".rstrip(), stacklevel=3
        )
