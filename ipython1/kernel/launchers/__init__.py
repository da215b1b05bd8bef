"""Starting engines and controllers: locally, by MPI, ssh, batch systems, plug-ins.

A launcher is a class that implements :class:`~ipython1.kernel.launchers.interfaces.IEngineLauncher`.  It is found by
its name (the "kind") among the entry points of the group ``ipython1.launchers``.  To add a launcher to ``ipcluster``
and ``Cluster``, declare an entry point in your package::

    [project.entry-points."ipython1.launchers"]
    mygrid = "mypackage.launcher:MyGridEngines"
"""

from __future__ import annotations

import importlib
from typing import Any

from ipython1.core.texts import did_you_mean
from ipython1.kernel.basics.error import ClusterError

GROUP = "ipython1.launchers"

BATCH = {
    "slurm": "ipython1.kernel.launchers.batch:SlurmEngines",
    "sge": "ipython1.kernel.launchers.batch:SgeEngines",
    "pbs": "ipython1.kernel.launchers.pbs:PbsEngines",
    "torque": "ipython1.kernel.launchers.pbs:TorqueEngines",
    "lsf": "ipython1.kernel.launchers.lsf:LsfEngines",
    "htcondor": "ipython1.kernel.launchers.htcondor:HtCondorEngines",
    "flux": "ipython1.kernel.launchers.flux:FluxEngines",
}
"""The batch systems of this package."""

# Checked first, because reading all entry points of an environment takes longer than starting an engine.
BUILT_IN = {
    "local": "ipython1.kernel.launchers.local:LocalEngines",
    "mpiexec": "ipython1.kernel.launchers.mpi:MpiEngines",
    "mpirun": "ipython1.kernel.launchers.mpi:MpiEngines",
    "ssh": "ipython1.kernel.launchers.ssh:SshEngines",
    **BATCH,
    "kubernetes": "ipython1.kernel.launchers.kube.engines:KubernetesEngines",
}

BATCH_KINDS = tuple(BATCH)


def launcher_kinds() -> list[str]:
    """Return the names of all launchers, including those of other packages."""
    from importlib.metadata import entry_points

    return sorted({*BUILT_IN, *(entry.name for entry in entry_points(group=GROUP))})


def known_kind(kind: str) -> str:
    """Return ``kind`` if it is the name of a launcher.

    :raises ClusterError: if it is not.
    """
    _target(kind)
    return kind


def launcher_class(kind: str) -> Any:
    """Return the launcher class with a name.

    :raises ClusterError: if there is none, or it cannot be imported.
    """
    target = _target(kind)
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as problem:
        raise ClusterError(f"cannot load the launcher {kind!r} ({target}): {problem}") from None


def _target(kind: str) -> str:
    if kind in BUILT_IN:
        return BUILT_IN[kind]
    from importlib.metadata import entry_points

    for entry in entry_points(group=GROUP, name=kind):
        return entry.value
    raise unknown_launcher(kind, did_you_mean(kind, launcher_kinds()))


def unknown_launcher(kind: str, hint: str) -> ClusterError:
    """Return the error for a kind that there is not.

    :param hint: what may have been meant.
    """
    known = ", ".join(launcher_kinds())
    return ClusterError(f"unknown launcher {kind!r}; available launchers: {known}{hint}")
