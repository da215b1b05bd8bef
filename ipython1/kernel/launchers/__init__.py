"""Starting engines and controllers: locally, by MPI, ssh, batch systems, plug-ins.

A launcher is a class that implements :class:`~ipython1.kernel.launchers.interfaces.IEngineLauncher`.  It is found by
the name of its kind among the entry points of the group ``ipython1.launchers``, so a package of your own adds a kind
to ``ipcluster`` and ``Cluster`` by declaring one::

    [project.entry-points."ipython1.launchers"]
    mygrid = "mypackage.launcher:MyGridEngines"
"""

from __future__ import annotations

import importlib
from typing import Any

from ipython1.kernel.basics.error import ClusterError

GROUP = "ipython1.launchers"

# Looked at first, because reading all entry points of an environment takes longer than starting an engine.
BUILT_IN = {
    "local": "ipython1.kernel.launchers.local:LocalEngines",
    "mpiexec": "ipython1.kernel.launchers.mpi:MpiEngines",
    "mpirun": "ipython1.kernel.launchers.mpi:MpiEngines",
    "ssh": "ipython1.kernel.launchers.ssh:SshEngines",
    "slurm": "ipython1.kernel.launchers.batch:SlurmEngines",
    "sge": "ipython1.kernel.launchers.batch:SgeEngines",
    "pbs": "ipython1.kernel.launchers.batch:PbsEngines",
    "lsf": "ipython1.kernel.launchers.batch:LsfEngines",
}


def launcher_kinds() -> list[str]:
    """The names of all kinds, those of other packages included."""
    from importlib.metadata import entry_points

    return sorted({*BUILT_IN, *(entry.name for entry in entry_points(group=GROUP))})


def known_kind(kind: str) -> str:
    """``kind`` if there is such a one.

    :raises ClusterError: when there is none.
    """
    _target(kind)
    return kind


def launcher_class(kind: str) -> Any:
    """The class for a kind.

    :raises ClusterError: when there is none, or it cannot be imported.
    """
    target = _target(kind)
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as problem:
        raise ClusterError(
            f"the launcher {kind!r} ({target}) cannot be loaded: {problem}"
        ) from None


def _target(kind: str) -> str:
    if kind in BUILT_IN:
        return BUILT_IN[kind]
    from importlib.metadata import entry_points

    for entry in entry_points(group=GROUP, name=kind):
        return entry.value
    raise ClusterError(
        f"there is no way {kind!r} to start engines; there are: {', '.join(launcher_kinds())}"
    )
