"""Which options of ``ipcluster`` mean something for which kind of cluster."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import fields
from typing import Final

from ipython1.kernel.launchers import BATCH_KINDS, BUILT_IN
from ipython1.kernel.launchers.clusterconfig import (
    ClusterConfig,
    ControllerOptions,
    KubernetesOptions,
)
from ipython1.kernel.launchers.places import MPI_KINDS

SSH: Final = ("ssh",)
KUBERNETES: Final = ("kubernetes",)

KINDS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "mpi": MPI_KINDS,
    "mpiexec": MPI_KINDS,
    "cluster_file": SSH,
    "hosts": SSH,
    "ssh": SSH,
    "tunnel": SSH,
    "batch_file": BATCH_KINDS,
    "queue": tuple(kind for kind in BATCH_KINDS if kind != "htcondor"),
    "account": BATCH_KINDS,
    "time": BATCH_KINDS,
    "batch_option": BATCH_KINDS,
    "setup": BATCH_KINDS,
    "engines_per_job": BATCH_KINDS,
    "notice": BATCH_KINDS,
    "resubmit": (*BATCH_KINDS, *KUBERNETES),
    **{each.name: KUBERNETES for each in fields(KubernetesOptions)},
    "restart_engines": ("local", *SSH),
    "adapt": tuple(kind for kind in BUILT_IN if kind not in MPI_KINDS),
}
"""The kinds for which an option means something; all others mean something for all kinds."""

_WHY: Final = {
    "restart_engines": "; engines of an MPI or batch job are not restarted one by one: add others in their place",
    "adapt": ": engines of an MPI job end together",
}


def check_options(
    parser: argparse.ArgumentParser, given: argparse.Namespace, config: ClusterConfig
) -> None:
    """Refuse options that would mean nothing.

    :param given: the command line.
    :param config: what it makes of the cluster; options of kinds from other packages are left to those.
    :raises SystemExit: with 2, for such an option.
    """
    kind = config.kind
    if kind in BUILT_IN:
        for name in [name for name in KINDS_OF if _is_given(given, name)]:
            if kind not in KINDS_OF[name]:
                parser.error(
                    f"{_flag(name)} is for {_listed(KINDS_OF[name])}, not for {kind!r}{_WHY.get(name, '')}"
                )
    if given.cluster_file and given.hosts:
        parser.error("--cluster-file and --hosts both name the hosts: give one of them")
    if kind == "ssh" and not config.ssh.cluster_file and not config.ssh.hosts:
        parser.error("ssh needs to know the hosts: give --hosts=HOST,... or -f FILE")
    if given.action == "engines":
        for each in ("restart_stuck", *(each.name for each in fields(ControllerOptions))):
            if getattr(given, each) not in (None, False):
                parser.error(
                    f"{_flag(each)} is for starting a controller, and 'engines' starts none"
                )


def _is_given(given: argparse.Namespace, name: str) -> bool:
    value = getattr(given, name)
    return value is False or bool(value)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _listed(kinds: tuple[str, ...]) -> str:
    *first, last = kinds
    return f"{', '.join(first)} and {last}" if first else last
