"""What ``ipcluster`` does besides running a cluster in the foreground: ``engines`` and ``--daemonize``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ipython1.kernel.basics.error import (
    ClusterError,
    ConnectionError,
)
from ipython1.kernel.clusters.cluster import connect_to
from ipython1.kernel.clusters.progress import UnitFailure, failure_lines
from ipython1.kernel.clusters.reachable import check_reachable
from ipython1.kernel.clusters.status import read_state
from ipython1.kernel.host.control import BlockingControl
from ipython1.kernel.host.security import ClusterFiles
from ipython1.kernel.launchers.clusterconfig import ClusterConfig, option_of, title_of
from ipython1.kernel.scripts.clusteroptions import ClusterCommand, check_new_engines
from ipython1.kernel.scripts.clusterstart import start
from ipython1.kernel.scripts.statusaction import engines_text
from ipython1.kernel.watching.amounts import named_engines

STOP_LIMIT = 90.0

ANSWER_LIMIT = 10.0
"""Seconds that an ``ipcluster`` may take to answer a simple question before it is said to be stuck."""


def run(command: ClusterCommand, argv: Sequence[str]) -> int:
    """Do it; gives the exit status.

    :raises KernelError: why it cannot be done.
    """
    if command.daemonize:
        return daemonize(command.config, argv)
    return engines(command, argv)


def engines(command: ClusterCommand, argv: Sequence[str]) -> int:
    """Add engines to the cluster that runs, or start some for a controller that was started in another way."""
    config = command.config
    files = config.files()
    state = read_state(files.state)
    if state is not None and state.is_here and state.is_alive:
        return _add(files, command.given.n, argv)
    check_new_engines(command)
    if not files.engine_furl.exists():
        raise ClusterError(
            f"there is no controller in {files.dirs.ipython_dir}: {files.engine_furl.name} is missing; "
            "start a cluster with: ipcluster -n 4"
        )
    again = f"ipcontroller --client-ip=::{option_of(files.cluster_id)}"
    check_reachable(config, files, again)
    return start(replace(command, config=replace(config, with_controller=False)))


def _add(files: ClusterFiles, count: int | None, argv: Sequence[str]) -> int:
    control = BlockingControl(connect_to(files))
    outcome = control.call("add", None, count=count, words=list(argv), directory=os.getcwd())
    for line in _failures(outcome):
        print(f"ipcluster: {line}", file=sys.stderr)
    if outcome["ids"]:
        print(f"added: {named_engines(outcome['ids'])}")
    return 0 if len(outcome["ids"]) == outcome["wanted"] else 1


def _failures(outcome: dict[str, Any]) -> list[str]:
    return failure_lines(list(map(UnitFailure.from_json, outcome["failures"])))


def daemonize(config: ClusterConfig, argv: Sequence[str]) -> int:
    """Start a cluster that goes on by itself; returns when its engines are up."""
    from ipython1.kernel.clusters.launch import OwnedProcess
    from ipython1.kernel.clusters.process import Screen, connecting_lines

    owned = OwnedProcess([word for word in argv if word != "--daemonize"])
    screen = Screen(sys.stdout, sys.stderr)

    def show(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["wanted"]:
            screen.passing(f"starting engines: {len(event['ids'])} of {event['wanted']}")
        elif event["event"] == "say":
            screen.problem(event["text"])

    control = BlockingControl(owned.connection, show)
    try:
        control.call("watch", None)
        outcome = control.call("started", None)
        for line in _failures(outcome):
            screen.problem(line)
        if outcome["outcome"] == "failed":
            screen.problem("no engine could be started")
            control.wait_closed(STOP_LIMIT)
            return 1
        control.call("detach")
        owned.detach()
    except ConnectionError:
        screen.close()
        raise owned.error() from None
    screen.line(f"{title_of(config.cluster_id)} is up: {engines_text(outcome['ids'])}.")
    screen.line("To use it, in Python:\n")
    for line in connecting_lines(config):
        screen.line(f"    {line}")
    option = f" --cluster-id={config.cluster_id}" if config.cluster_id else ""
    screen.line(f"\nEnd it with: ipcluster stop{option}")
    screen.close()
    return 0
