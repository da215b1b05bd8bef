"""Whether all engines of a cluster run on this host, so that its controller need not listen for others.

Light on imports: ``ipcluster`` uses it before it has started the process that does the slow imports.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath

from ipython1.kernel.launchers.clusterconfig import ClusterConfig, ControllerOptions

HERE = "127.0.0.1"
EVERYWHERE = "::"

MPI_KINDS = ("mpiexec", "mpirun")
MPI_PROGRAMS = ("mpiexec", "mpirun", "orterun", "prterun")

MPI_HOST_OPTIONS = (
    *("H", "host", "hosts", "f", "hostfile", "machinefile", "machine", "rankfile", "rf"),
    *("default-hostfile", "configfile", "app", "add-host", "add-hostfile"),
)
"""The options of MPI launchers, without their hyphens, that can place ranks on other hosts."""

MPI_HOST_VARIABLES = (
    *("SLURM_JOB_NODELIST", "SLURM_NODELIST", "PBS_NODEFILE", "PE_HOSTFILE", "OAR_NODEFILE"),
    *("LSB_HOSTS", "LSB_MCPU_HOSTS", "LSB_DJOB_HOSTFILE", "COBALT_NODEFILE"),
    *("HYDRA_HOST_FILE", "I_MPI_HYDRA_HOST_FILE", "I_MPI_HYDRA_HOSTS"),
    *("OMPI_MCA_hostfile", "OMPI_MCA_orte_default_hostfile", "PRTE_MCA_prte_default_hostfile"),
)
"""The environment variables by which batch systems and users tell MPI launchers of other hosts."""


def all_here(config: ClusterConfig, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether all engines certainly run on this host."""
    if config.kind in MPI_KINDS:
        return mpi_stays_here(config.mpi.command, environ)
    return config.kind == "local"


def mpi_stays_here(command: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Return whether an MPI launcher, with its options, certainly starts all ranks on this host."""
    program, *options = command
    if PurePath(program).name.partition(".")[0] not in MPI_PROGRAMS:
        return False
    names = {each.lstrip("-").partition("=")[0] for each in options if each.startswith("-")}
    told = names & set(MPI_HOST_OPTIONS) or any(each.startswith("-H") for each in options)
    return not told and not any(environ.get(name) for name in MPI_HOST_VARIABLES)


def listen_here(options: ControllerOptions, settings: Mapping[str, object]) -> ControllerOptions:
    """Return the options for a controller that only this host needs, unless the user has said where it is to listen.

    :param settings: the section ``[controller]`` of the ini file.
    """

    def told(side: str) -> bool:
        names = (f"{side}_ip", f"{side}_location")
        return any(getattr(options, name) is not None or settings[name] for name in names)

    if told("client"):
        return options
    if options.engine_ip is None and not settings["engine_ip"] and told("engine"):
        options = replace(options, engine_ip=EVERYWHERE)
    return replace(options, client_ip=HERE)
