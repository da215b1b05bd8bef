"""The command lines of controllers and engines.

Light on imports: the controller starts before the slow ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePath

from ipython1 import system
from ipython1.daemon.processes import Instruction, ProcessSpec, RestartPolicy
from ipython1.daemon.protocol import Spawn
from ipython1.daemon.ready import SILENCE
from ipython1.daemon.supervision import Supervision
from ipython1.kernel.host.security import ClusterFiles
from ipython1.kernel.launchers.clusterconfig import ClusterConfig

CONTROLLER_KEY = "controller"
CONTROLLER_MODULE = "ipython1.kernel.scripts.ipcontroller"
CONTROLLER_HOST = "controller of "
"""The prefix of a host's name if there is a second connection to it, for the controller."""

ENGINE_MODULE = "ipython1.kernel.scripts.ipengine"

LEAVE_FOR_A_WHILE = system.PAUSE
"""The signal at which a controller ends without telling anybody not to wait for it."""

LEAST_PATIENCE = 60.0
"""Seconds for which a controller is restarted even if engines do not wait that long: they may be restarted, too."""


def controller_spec(
    config: ClusterConfig, files: ClusterFiles, *, host: str = "", common: list[str] | None = None
) -> ProcessSpec:
    """Return the specification of the controller, on this host or another one.

    :param common: ``--ipython-dir`` and other common options, if they differ from this host's.
    """
    arguments = [*(config.common_arguments() if common is None else common)]
    own = config.controller.arguments()
    log = str(files.controller_log)
    spawn = Spawn(
        CONTROLLER_KEY,
        ("ipcontroller", *arguments, *own),
        module=CONTROLLER_MODULE,
        log=log,
        watch=SILENCE,
    )
    # A restarted controller keeps its FURLs, so that engines and clients can reconnect.
    again = spawn if "-r" in own else replace(spawn, argv=(*spawn.argv, "-r"))
    return ProcessSpec(
        spawn,
        "the controller",
        host=host,
        policy=RestartPolicy(
            limit=None if config.restart_controller else 0,
            stuck=config.restart_stuck,
            patience=max(config.reconnect_timeout, LEAST_PATIENCE),
        ),
        restart_spawn=again,
        restart_signal=LEAVE_FOR_A_WHILE,
        grace=config.stop_timeout,
    )


def request_controller(
    supervision: Supervision, config: ClusterConfig, files: ClusterFiles
) -> list[Instruction]:
    """Start this host's controller, unless it has already been started.

    ``ipcluster`` does this as soon as there is a nanny, long before the reactor is imported.  If the launcher may run
    the controller on another host, the cluster does it once it knows where.
    """
    if CONTROLLER_KEY in supervision.status():
        return []
    return supervision.add(controller_spec(config, files))


def engine_key(engine_id: int) -> str:
    """Return the name of the process of engine ``engine_id``."""
    return f"engine-{engine_id}"


def engine_spec(
    config: ClusterConfig,
    engine_id: int,
    log: PurePath | str,
    *,
    host: str = "",
    common: list[str] | None = None,
    after: str = "",
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    python: str | None = None,
    restore_file: str = "",
) -> ProcessSpec:
    """Return the specification of an engine with its own process.

    :param env: the environment variables to set there, if they differ from those of the cluster.
    :param cwd: likewise, the working directory.
    :param python: likewise, the interpreter.

    :param restore_file: the path of the cluster's restore file there, if it differs from this host's.
    """
    arguments = [*(config.common_arguments() if common is None else common)]
    arguments += [f"--engine-id={engine_id}", *config.engine_options(restore_file)]
    spawn = Spawn(
        engine_key(engine_id),
        ("ipengine", *arguments),
        module=ENGINE_MODULE,
        log=str(log),
        after=after,
        env=dict(config.env if env is None else env),
        cwd=config.cwd if cwd is None else cwd,
        watch=SILENCE,
        python=config.python if python is None else python,
    )
    return ProcessSpec(
        spawn,
        f"engine {engine_id}",
        host=host,
        policy=RestartPolicy(limit=config.restart_engines),
        needs=CONTROLLER_KEY,
        restart_spawn=replace(spawn, after=""),
        grace=config.stop_timeout,
        says_when_leaving=True,
    )
