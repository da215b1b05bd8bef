"""Which options of ``ipcluster`` mean something for which kind of cluster."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import fields
from typing import Final

from ipython1.kernel.launchers import BUILT_IN
from ipython1.kernel.launchers.clusterconfig import ControllerOptions, KubernetesOptions
from ipython1.kernel.launchers.places import MPI_KINDS

BATCH: Final = ("slurm", "sge", "pbs", "lsf")
SSH: Final = ("ssh",)
KUBERNETES: Final = ("kubernetes",)

KINDS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "mpi": MPI_KINDS,
    "mpiexec": MPI_KINDS,
    "cluster_file": SSH,
    "ssh": SSH,
    "batch_file": BATCH,
    "queue": BATCH,
    "account": BATCH,
    "time": BATCH,
    "batch_option": BATCH,
    "setup": BATCH,
    "batch_python": BATCH,
    **{each.name: KUBERNETES for each in fields(KubernetesOptions)},
    "restart_engines": ("local", *SSH),
}
"""The kinds for which an option means something; all others mean something for all kinds."""

_WHY: Final = {
    "restart_engines": "; engines of an MPI or batch job are not restarted one by one: add others in their place",
}

_OF_ENGINES: Final = ("engine_argument", "start_timeout", "restore")
"""What new engines can be told, if this program starts them and not the cluster that runs."""


def check_options(
    parser: argparse.ArgumentParser, given: argparse.Namespace, kind: str, to_cluster: bool
) -> None:
    """Refuse options that would mean nothing.

    :param kind: how engines are started; options of kinds from other packages are left to those.
    :param to_cluster: whether engines are added to a cluster that is to start them as it started its own.
    :raises SystemExit: with 2, for such an option.
    """
    wrong = [name for name in KINDS_OF if _is_given(given, name)]
    if to_cluster:
        names = [*wrong, *(name for name in _OF_ENGINES if _is_given(given, name))]
        if names:
            parser.error(
                f"{_flag(names[0])} means nothing here: the cluster starts more engines as it started its own; "
                "to start some in another way, name it: ipcluster engines KIND ..."
            )
    if kind in BUILT_IN:
        for name in wrong:
            if kind not in KINDS_OF[name]:
                parser.error(
                    f"{_flag(name)} is for {_listed(KINDS_OF[name])}, not for {kind!r}{_WHY.get(name, '')}"
                )
    if given.action == "engines":
        for each in fields(ControllerOptions):
            if getattr(given, each.name) not in (None, False):
                parser.error(
                    f"{_flag(each.name)} is for starting a controller, and 'engines' starts none"
                )


def _is_given(given: argparse.Namespace, name: str) -> bool:
    return bool(getattr(given, name))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _listed(kinds: tuple[str, ...]) -> str:
    *first, last = kinds
    return f"{', '.join(first)} and {last}" if first else last
