"""What ``ipcluster`` does besides running a cluster: ``stop``, ``status``, ``list``, ``engines``, and the like."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ipython1.core.texts import compress_ids
from ipython1.kernel.basics.error import (
    ClusterError,
    ConnectionError,
    KernelError,
    ResultNotCompleted,
)
from ipython1.kernel.clusters.force import end_by_force, tidy_up
from ipython1.kernel.clusters.presence import ipcluster_is_silent
from ipython1.kernel.clusters.progress import UnitFailure, failure_lines
from ipython1.kernel.clusters.status import ClusterStatus, ProcessInfo, read_state, wait_until_gone
from ipython1.kernel.host.control import BlockingControl
from ipython1.kernel.host.security import ClusterFiles, IPythonDirs, read_furl
from ipython1.kernel.host.sockets import is_loopback
from ipython1.kernel.launchers.clusterconfig import ClusterConfig, title_of
from ipython1.kernel.launchers.places import all_here
from ipython1.kernel.scripts.clusteroptions import ClusterCommand
from ipython1.kernel.scripts.clusterstart import start

STOP_LIMIT = 90.0

ANSWER_LIMIT = 10.0
"""Seconds that an ``ipcluster`` may take to answer a simple question before it is said to be stuck."""


def run(command: ClusterCommand, argv: Sequence[str]) -> int:
    """Do it; gives the exit status.

    :raises KernelError: why it cannot be done.
    """
    if command.daemonize:
        return daemonize(command.config, argv)
    actions: dict[str, Any] = {
        "stop": lambda: stop(command.config, command.force),
        "restart": lambda: restart(command.config),
        "status": lambda: status(command.config, command.as_json),
        "list": lambda: list_clusters(command.config, command.as_json),
        "engines": lambda: engines(command),
    }
    return int(actions[command.action]())


# -- stop


def stop(config: ClusterConfig, force: bool) -> int:
    """End a cluster, or tidy up after one that was killed.

    :param force: kill everything at once, even if its ``ipcluster`` does not answer.
    """
    files = config.files()
    name = title_of(config.cluster_id)
    state = read_state(files.state)
    if state is None:
        raise ClusterError(f"there is no {name.removeprefix('the ')} in {files.dirs.ipython_dir}")
    if not state.is_here:
        raise ClusterError(
            f"{name} runs on {state.host}; stop it there: ssh {state.host} ipcluster stop"
        )
    if force:
        killed = end_by_force(files, state)
        print(f"{name} is ended by force: {killed} processes were killed")
    elif state.is_alive:
        _ask_to_stop(files, state, name)
        wait_until_gone(files, STOP_LIMIT)
        print(f"{name} is stopped")
    else:
        tidy_up(files, state)
        jobs = f" (jobs {', '.join(state.jobs)} cancelled)" if state.jobs else ""
        print(f"{name} was gone already; tidied up{jobs}")
    return 0


def _ask_to_stop(files: ClusterFiles, state: ClusterStatus, name: str) -> None:
    try:
        if not state.is_stopped:
            BlockingControl(_connect(files)).call("stop", ANSWER_LIMIT)
            return
    except ConnectionError:
        return
    except ResultNotCompleted:
        pass
    raise ClusterError(
        f"{name} cannot be stopped: {ipcluster_is_silent(state.pid, state.is_stopped)}"
    )


def _connect(files: ClusterFiles) -> Any:
    from ipython1.kernel.clusters.cluster import connect_to

    return connect_to(files)


# -- status and list


def status(config: ClusterConfig, as_json: bool) -> int:
    """Show one cluster; exit status 1 when it does not run, or its ``ipcluster`` does not answer."""
    files = config.files()
    control = BlockingControl(_connect(files))
    silent = ""
    try:
        found = ClusterStatus.from_json(control.call("status", ANSWER_LIMIT))
    except ResultNotCompleted:
        last = read_state(files.state)
        if last is None:
            raise
        found = last.as_last_known()
        silent = ipcluster_is_silent(last.pid, last.is_stopped)
    finally:
        control.close()
    if as_json:
        print(json.dumps(found.to_json(), indent=1))
    else:
        print(*status_lines(found), sep="\n")
    if silent:
        print(
            f"ipcluster: {title_of(found.cluster_id)} does not answer: {silent}\n"
            "ipcluster: this is what it wrote last; the states of processes are those of now",
            file=sys.stderr,
        )
    return 1 if silent else 0


def status_lines(found: ClusterStatus) -> list[str]:
    """A cluster, as it is shown."""
    lines = [f"{title_of(found.cluster_id)}: {summary(found)}"]
    if found.nanny is not None and (found.nanny.stopped or found.nanny.silent):
        lines.append(f"  nanny: {_process_text(found.nanny, 'stuck')}")
    if found.controller is not None:
        lines.append(f"  controller: {_process_text(found.controller, 'stuck')}")
        lines += [f"      {line}" for line in found.controller.lines[-3:]]
    lines += [f"  warning: {line}" for line in found.warnings]
    for engine in found.engines:
        lines.append(f"  engine {engine.id}: {_process_text(engine, 'busy')}")
        if engine.state == "ended":
            lines += [f"      {line}" for line in engine.lines[-3:]]
    if found.jobs:
        lines.append(f"  jobs: {', '.join(found.jobs)}")
    return lines


def summary(found: ClusterStatus) -> str:
    """One line about a cluster."""
    return (
        f"{found.state}, {found.kind}, {_engines_text(found.ids)}, "
        f"for {_duration(time.time() - found.started)}, process {found.pid} on {found.host}"
    )


def _engines_text(ids: Sequence[int]) -> str:
    count = f"{len(ids)} engines" if len(ids) != 1 else "1 engine"
    return f"{count} ({compress_ids(ids)})" if ids else count


def _duration(seconds: float) -> str:
    whole = max(0, int(seconds))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if whole >= 2 * size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def _process_text(info: ProcessInfo, silent: str) -> str:
    """One line about a process; ``silent`` is what one is that gives no sign of life."""
    parts = [info.state]
    if info.pid and info.state != "ended":
        parts.append(f"process {info.pid}" + (f" on {info.host}" if info.host else ""))
    if info.stopped:
        parts.append(f"stopped (continue it with: kill -CONT {info.pid})")
    if info.silent:
        parts.append(
            f"{'' if info.stopped else f'{silent}: '}no sign of life for {_duration(info.silent)}"
        )
    if info.restarts:
        parts.append(f"restarted {info.restarts} times" if info.restarts > 1 else "restarted once")
    if info.away:
        parts.append(f"not usable for {_duration(info.away)}")
    if info.restart_in:
        parts.append(f"restarted in {info.restart_in:.0f} s")
    if info.reason:
        parts.append(info.reason)
    return ", ".join(parts)


def list_clusters(config: ClusterConfig, as_json: bool) -> int:
    """Show all clusters of the directory."""
    directory = IPythonDirs.resolve(config.ipython_dir)
    found = []
    for path in sorted(directory.security.glob("ipcluster*.json")):
        try:
            state = read_state(path)
        except KernelError as problem:
            print(f"ipcluster: {problem}", file=sys.stderr)
            continue
        if state is not None:
            if state.is_here and not state.is_alive:
                state = replace(state, state="gone", ids=())
            elif state.is_here and state.is_stopped:
                state = state.as_last_known()
            found.append(state)
    if as_json:
        print(json.dumps([state.to_json() for state in found], indent=1))
    elif not found:
        print(f"no clusters in {directory.ipython_dir}")
    for state in found if not as_json else ():
        print(f"{state.cluster_id or '(default)'}: {summary(state)}")
    return 0


def restart(config: ClusterConfig) -> int:
    """Restart the controller; engines keep their names, and clients wait for it."""
    control = BlockingControl(_connect(config.files()))
    try:
        control.call("restart_controller", None)
    finally:
        control.close()
    print(f"the controller of {title_of(config.cluster_id)} is restarted")
    return 0


# -- engines and daemonize


def engines(command: ClusterCommand) -> int:
    """Add engines to the cluster that runs, or start some for a controller that was started in another way."""
    config = command.config
    files = config.files()
    state = read_state(files.state)
    if state is not None and not (state.is_here and state.is_alive):
        state = None
    if state is not None and (not command.kind_given or config.kind == state.kind):
        return _add(files, config.n or 1)
    if not files.engine_furl.exists():
        raise ClusterError(
            f"there is no controller in {files.dirs.ipython_dir}: {files.engine_furl.name} is missing; "
            "start a cluster with: ipcluster -n 4"
        )
    if not all_here(config):
        _check_reachable(files, config.kind, state)
    return start(replace(command, config=replace(config, with_controller=False)))


def _check_reachable(files: ClusterFiles, kind: str, state: ClusterStatus | None) -> None:
    """Check that engines on other hosts can reach the controller.

    :raises ClusterError: if it listens for this host only; with what to do.
    """
    hosts = [host for host, _ in read_furl(files.engine_furl).hints]
    if not all(map(is_loopback, hosts)):
        return
    option = f" --cluster-id={files.cluster_id}" if files.cluster_id else ""
    program = "ipcontroller" if state is None else f"ipcluster {state.kind} -n {state.n}"
    raise ClusterError(
        f"engines of kind {kind!r} may run on other hosts, but the controller of {title_of(files.cluster_id)} listens "
        f"at {hosts[0]}, for this host only; stop it, and start it again for other hosts, too: "
        f"{program} --client-ip=0.0.0.0{option}"
    )


def _add(files: ClusterFiles, count: int) -> int:
    control = BlockingControl(_connect(files))
    outcome = control.call("add", None, count=count)
    for line in _failures(outcome):
        print(f"ipcluster: {line}", file=sys.stderr)
    if outcome["ids"]:
        print(f"added: engines {compress_ids(outcome['ids'])}")
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
        if not outcome["ids"]:
            screen.problem("no engine could be started")
            control.wait_closed(STOP_LIMIT)
            return 1
        control.call("detach")
        owned.detach()
    except ConnectionError:
        screen.close()
        raise owned.error() from None
    screen.line(f"{title_of(config.cluster_id)} is up: {_engines_text(outcome['ids'])}.")
    screen.line("To use it, in Python:\n")
    for line in connecting_lines(config):
        screen.line(f"    {line}")
    option = f" --cluster-id={config.cluster_id}" if config.cluster_id else ""
    screen.line(f"\nEnd it with: ipcluster stop{option}")
    screen.close()
    return 0
