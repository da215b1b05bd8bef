"""What a cluster is, from the ini file and from a command line.

The command line goes over the ini file for a new cluster, and over what a running cluster was started with for engines
that are added to it.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers import BUILT_IN
from ipython1.kernel.launchers.clusterconfig import (
    VARIABLE,
    BatchOptions,
    ClusterConfig,
    ControllerOptions,
    KubernetesOptions,
    MpiOptions,
    SshOptions,
)
from ipython1.kernel.launchers.hostlist import parse_hosts
from ipython1.kernel.launchers.places import all_here, listen_here
from ipython1.kernel.scripts.adaptoptions import adaptation
from ipython1.kernel.scripts.kubernetesoptions import kubernetes_options


def new_cluster(
    given: argparse.Namespace, settings: Mapping[str, Any], kind: str | None
) -> ClusterConfig:
    """Return the cluster that a command line and the ini file describe.

    :param given: the command line.
    :param settings: the ini file.
    :param kind: how engines are started; None for what the options hint at, else the ini file's.
    :raises ClusterError: if the ini file names hosts or environment variables that there cannot be.
    :raises UsageError: if the options for engines that come and go do not fit together.
    """
    config = changed(_of_settings(settings), given, kind)
    adapt = adaptation(given, settings["cluster"]["adapt"])
    if adapt is not None:
        config = replace(config, n=_chosen(given.n, adapt.minimum), adaptation=adapt)
    config = replace(
        config,
        idle_timeout=_chosen(given.idle_timeout, config.idle_timeout),
        ipython_dir=str(given.ipython_dir or ""),
        cluster_id=given.cluster_id,
        controller=_controller_options(given),
        restart_stuck=_chosen(given.restart_stuck, config.restart_stuck),
        restore_file=str(given.restore_file or ""),
        log_file=str(given.logfile or ""),
        log_level=given.log_level or "",
        owned=given.owner_fd >= 0,
        temporary=given.temporary,
    )
    if given.restore_file:
        config = replace(config, restore="")
    if all_here(config):
        controller = listen_here(config.controller, settings["controller"])
        config = replace(config, controller=controller)
    return config


def changed(base: ClusterConfig, given: argparse.Namespace, kind: str | None) -> ClusterConfig:
    """Return what a command line makes of a cluster's engines.

    :param base: what holds where it says nothing.
    :param given: the command line.
    :param kind: how engines are started; None for what the options hint at, else that of ``base``.
    """
    if kind is None:
        kind = base.kind
        if given.cluster_file or given.hosts:
            kind = "ssh"
        elif given.mpi:
            kind = "mpiexec"
    config = replace(
        base,
        kind=kind,
        n=_chosen(given.n, base.n),
        env=tuple({**dict(base.env), **dict(given.env or ())}.items()),
        cwd=_chosen(given.cwd, base.cwd),
        python=_chosen(given.python, base.python),
        mpi=_mpi_options(given, base.mpi, kind),
        ssh=_ssh_options(given, base.ssh),
        batch=_batch_options(given, base.batch),
        kubernetes=kubernetes_options(given, base.kubernetes),
        restart_engines=_chosen(given.restart_engines, base.restart_engines),
        start_timeout=_chosen(given.start_timeout, base.start_timeout),
        engine_arguments=(*base.engine_arguments, *(given.engine_argument or ())),
        restore=_chosen(given.restore, base.restore),
    )
    return _with_paths_of_here(config)


def _with_paths_of_here(config: ClusterConfig) -> ClusterConfig:
    """Return it with absolute paths, where engines see the same files as this process."""
    if config.kind in ("ssh", "kubernetes") or config.kind not in BUILT_IN:
        return config
    cwd = os.path.abspath(os.path.expanduser(config.cwd)) if config.cwd else ""
    python = os.path.expanduser(config.python)
    return replace(config, cwd=cwd, python=os.path.abspath(python) if os.sep in python else python)


def _of_settings(settings: Mapping[str, Any]) -> ClusterConfig:
    """Return the cluster that the ini file describes.

    :raises ClusterError: if it names hosts or environment variables that there cannot be.
    """
    section = settings["cluster"]
    for name in section["env"]:
        if not VARIABLE.fullmatch(name):
            raise ClusterError(
                f"ipython1.kernel.ini: [cluster] [[env]]: {name!r} cannot be the name of an environment variable"
            )
    ssh, mpi, batch = section["ssh"], section["mpi"], section["batch"]
    return ClusterConfig(
        kind=section["kind"],
        n=section["n"] or None,
        env=tuple(section["env"].items()),
        cwd=section["cwd"],
        python=section["python"],
        mpi=MpiOptions(tuple(mpi["command"]), mpi["use"], tuple(settings["mpi"].items())),
        ssh=SshOptions(
            tuple(ssh["command"]), ssh["cluster_file"], parse_hosts(ssh["hosts"]), ssh["tunnel"]
        ),
        batch=BatchOptions(
            **{**batch, "options": tuple(batch["options"]), "setup": tuple(batch["setup"])}
        ),
        kubernetes=KubernetesOptions(**section["kubernetes"]),
        restart_controller=section["restart_controller"],
        restart_stuck=section["restart_stuck"],
        reconnect_timeout=settings["engine"]["reconnect_timeout"],
        restart_engines=section["restart_engines"],
        start_timeout=section["start_timeout"],
        idle_timeout=section["idle_timeout"],
        stop_timeout=section["stop_timeout"],
        engine_arguments=tuple(section["engine_arguments"]),
        restore=section["restore"],
        log_size=section["log_size"],
    )


def _chosen(value: Any, default: Any) -> Any:
    return default if value is None else value


def _controller_options(given: argparse.Namespace) -> ControllerOptions:
    names = [each.name for each in fields(ControllerOptions)]
    return ControllerOptions(**{name: getattr(given, name) for name in names})


def _mpi_options(given: argparse.Namespace, base: MpiOptions, kind: str) -> MpiOptions:
    command = _chosen(given.mpiexec, base.command)
    if given.mpiexec is None and kind == "mpirun" and command == ("mpiexec",):
        command = ("mpirun",)
    return replace(base, command=command, use=_chosen(given.mpi, base.use))


def _ssh_options(given: argparse.Namespace, base: SshOptions) -> SshOptions:
    hosts, file = base.hosts, base.cluster_file
    if given.cluster_file:
        hosts, file = (), str(given.cluster_file)
    if given.hosts:
        hosts = parse_hosts(given.hosts)
    command, tunnel = _chosen(given.ssh, base.command), _chosen(given.tunnel, base.tunnel)
    return replace(base, command=command, cluster_file=file, hosts=hosts, tunnel=tunnel)


def _batch_options(given: argparse.Namespace, base: BatchOptions) -> BatchOptions:
    return replace(
        base,
        template=str(_chosen(given.batch_file, base.template)),
        queue=_chosen(given.queue, base.queue),
        account=_chosen(given.account, base.account),
        time=_chosen(given.time, base.time),
        options=(*base.options, *(given.batch_option or ())),
        setup=(*base.setup, *(given.setup or ())),
        python="" if given.python else base.python,
        notice=_chosen(given.notice, base.notice),
        resubmit=_chosen(given.resubmit, base.resubmit),
        engines_per_job=_chosen(given.engines_per_job, base.engines_per_job),
    )
