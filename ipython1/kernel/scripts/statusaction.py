"""``ipcluster status``: a cluster's processes, what they use, and what they do."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from ipython1.core.texts import compress_ids
from ipython1.kernel.basics.error import ResultNotCompleted
from ipython1.kernel.clusters.adapting import scaling_lines
from ipython1.kernel.clusters.byhand import status_by_hand
from ipython1.kernel.clusters.presence import ipcluster_is_silent
from ipython1.kernel.clusters.status import (
    ClusterStatus,
    EngineInfo,
    ProcessInfo,
    connect_to,
    read_state,
)
from ipython1.kernel.host.control import BlockingControl
from ipython1.kernel.host.logs import shown
from ipython1.kernel.host.security import ClusterFiles
from ipython1.kernel.launchers.clusterconfig import title_of
from ipython1.kernel.launchers.interfaces import HostInfo
from ipython1.kernel.scripts.arguments import OneLineParser
from ipython1.kernel.scripts.clusterwords import files_of, word_parser
from ipython1.kernel.scripts.look import Looked, look
from ipython1.kernel.scripts.tables import aligned
from ipython1.kernel.watching.amounts import (
    bytes_text,
    count_text,
    duration_text,
    named_engines,
    rate_text,
)
from ipython1.kernel.watching.topstate import doing_text, left_text, seconds_left
from ipython1.kernel.wire.monitoring import EngineInfo as Watched
from ipython1.kernel.wire.monitoring import News, WorkInfo

ANSWER_LIMIT = 10.0
"""Seconds that an ``ipcluster`` may take to answer before it is said to be stuck."""

LOOK_LIMIT = 3.0
"""Seconds that the controller may take to tell what engines do."""

MOST_WORK = 5
"""Functions whose progress is shown."""

TEXT = """\
The exit status is 1 if it does not run, or does not answer.

CPU is that of an engine's process, in percent of one processor; memory what it
has of the main memory; queue how many commands wait for it, and tasks how many
it has.

examples:
  ipcluster status
  ipcluster status --json           everything, for programs
"""


def make_parser() -> OneLineParser:
    """The command line."""
    parser = word_parser("status", TEXT)
    parser.add_argument("--json", action="store_true", help="everything, as one JSON object")
    return parser


def run(given: argparse.Namespace) -> int:
    """Show one cluster; the exit status is 1 when its ``ipcluster`` does not answer.

    :raises KernelError: if there is none.
    """
    files = files_of(given)
    found, silent = find_status(files)
    looked = look(files, LOOK_LIMIT) if _may_answer(found) else Looked(None, "")
    if given.json:
        print(json.dumps(to_json(found, looked), indent=1))
    else:
        print(*status_lines(found, looked), sep="\n")
    if silent:
        print(
            f"ipcluster: {title_of(found.cluster_id)} does not answer: {silent}\n"
            "ipcluster: this is what it wrote last; the states of processes are those of now",
            file=sys.stderr,
        )
    return 1 if silent else 0


def find_status(files: ClusterFiles) -> tuple[ClusterStatus, str]:
    """Return what is known of a cluster, and why its ``ipcluster`` does not answer; empty if it does.

    :raises KernelError: if there is no such cluster here.
    """
    last = read_state(files.state)
    by_hand = status_by_hand(files) if last is None else None
    if by_hand is not None:
        return by_hand, ""
    control = BlockingControl(connect_to(files))
    try:
        return ClusterStatus.from_json(control.call("status", ANSWER_LIMIT)), ""
    except ResultNotCompleted:
        last = read_state(files.state)
        if last is None:
            raise
        return last.as_last_known(), ipcluster_is_silent(last.pid, last.is_stopped)
    finally:
        control.close()


def _may_answer(found: ClusterStatus) -> bool:
    """Whether the controller is there, and not known to be stopped or stuck."""
    controller = found.controller
    if controller is None:
        return True
    return controller.state == "running" and not controller.stopped and not controller.silent


# -- as JSON


def to_json(found: ClusterStatus, looked: Looked) -> dict[str, Any]:
    """Everything, as a JSON value."""
    content = found.to_json()
    news = looked.news
    content["controller_answers"] = news is not None
    if news is None:
        return content
    watched = {each.id: each for each in news.engines}
    engines = replace(found, engines=tuple(with_watched(found, news))).to_json()["engines"]
    content["engines"] = [each | _watched_json(watched.get(each["id"])) for each in engines]
    content["clients"] = news.clients
    content["tasks"] = asdict(news.tasks)
    content["traffic"] = asdict(news.traffic)
    content["work"] = [asdict(each) | {"left": seconds_left(each)} for each in news.work]
    return content


def _watched_json(engine: Watched | None) -> dict[str, Any]:
    names = ("cpu", "memory", "queued", "tasks", "doing", "what", "since")
    return {name: None if engine is None else getattr(engine, name) for name in names}


# -- as text


def with_watched(found: ClusterStatus, news: News | None) -> list[EngineInfo]:
    """Return all engines: those of the cluster, and others that the controller has.

    An engine that the cluster has not started itself has its process from the controller.
    """
    engines = {engine.id: engine for engine in found.engines}
    for each in news.engines if news is not None else ():
        known = engines.get(each.id, EngineInfo(id=each.id, state="running"))
        if not known.pid:
            host = "" if each.host == found.host else each.host
            engines[each.id] = replace(known, pid=each.pid, host=host)
    return [engines[engine_id] for engine_id in sorted(engines)]


def status_lines(found: ClusterStatus, looked: Looked | None = None) -> list[str]:
    """A cluster, as it is shown."""
    news = looked.news if looked is not None else None
    engines = with_watched(found, news)
    lines = [f"{title_of(found.cluster_id)}: {summary(found, engines)}"]
    if found.nanny is not None and (found.nanny.stopped or found.nanny.silent):
        lines.append(f"  nanny: {_process_text(found.nanny, 'stuck')}")
    if found.controller is not None:
        clients = "" if news is None else f", {count_text(news.clients, 'client')}"
        lines.append(f"  controller: {_process_text(found.controller, 'stuck')}{clients}")
        lines += [f"      {shown(line)}" for line in found.controller.lines[-3:]]
    lines += [f"  {shown(line)}" for line in scaling_lines(found.scaling)]
    lines += [f"  warning: {shown(line)}" for line in found.warnings]
    if looked is not None and looked.why:
        lines.append(f"  CPU, memory and queues are not known: {looked.why}")
    lines += [f"  {_host_text(host)}" for host in found.hosts if host.state != "there"]
    lines += _task_lines(news)
    if engines:
        lines += ["", *_engine_lines(engines, news)]
    if found.jobs:
        lines.append(f"  jobs: {', '.join(found.jobs)}")
    return lines


def _host_text(host: HostInfo) -> str:
    """One line about a host that is not there."""
    parts = [host.state]
    if host.silent:
        parts.append(f"no answer for {duration_text(host.silent)}")
    if host.retry_in:
        parts.append(f"tried again in {host.retry_in:.0f} s")
    if host.engines:
        parts.append(named_engines(host.engines))
    reason = host.reason.removeprefix(f"{host.name}: ")
    why = f": {shown(reason)}" if reason else ""
    return f"host {shown(host.name)}: {', '.join(parts)}{why}"


def _task_lines(news: News | None) -> list[str]:
    if news is None:
        return []
    tasks = news.tasks
    lines = []
    if tasks.scheduled or tasks.pending or tasks.succeeded or tasks.failed:
        lines.append(
            f"  tasks: {tasks.scheduled:,} waiting, {tasks.pending:,} running, {tasks.succeeded:,} done, "
            f"{tasks.failed:,} failed, {rate_text(tasks.rate)}"
        )
    going = [each for each in news.work if each.completed is None]
    return lines + [f"  {work_text(each)}" for each in going[-MOST_WORK:]]


def work_text(work: WorkInfo) -> str:
    """One line about the progress of a function."""
    done = work.succeeded + work.failed
    parts = [f"{done:,} of {work.total:,} {work.unit}", f"{work.running:,} running"]
    if work.failed:
        parts.append(f"{work.failed:,} failed")
    left = left_text(work)
    if left:
        parts.append(f"{left} left")
    by = f" ({shown(work.label)})" if work.label else ""
    return f"{shown(work.what) or 'tasks'}: {', '.join(parts)}{by}"


def _engine_lines(engines: Sequence[EngineInfo], news: News | None) -> list[str]:
    watched = {each.id: each for each in news.engines} if news is not None else {}
    hosts = any(engine.host for engine in engines)
    heads = ["", "state", "process", *(["host"] if hosts else [])]
    heads += ["CPU", "memory", "queue", "tasks"] if news is not None else []
    rows = [[*heads, ""]]
    for engine in engines:
        row = [f"engine {engine.id}", engine.state]
        row.append(str(engine.pid) if engine.pid and engine.state != "ended" else "")
        row += [engine.host] if hosts else []
        if news is not None:
            row += _used(watched.get(engine.id))
        notes = ", ".join(_notes(engine, "busy")) or _doing(watched.get(engine.id), news)
        rows.append([*row, notes])
    right = {"process", "CPU", "memory", "queue", "tasks"}
    lines = aligned(rows, {at for at, head in enumerate(heads) if head in right})
    found = [f"  {lines[0]}"]
    for engine, line in zip(engines, lines[1:], strict=True):
        found.append(f"  {line}")
        if engine.state == "ended":
            found += [f"      {shown(last)}" for last in engine.lines[-3:]]
    return found


def _used(engine: Watched | None) -> list[str]:
    if engine is None:
        return ["-", "-", "-", "-"]
    cpu = "-" if engine.cpu is None else f"{engine.cpu:.0f} %"
    memory = "-" if engine.memory is None else bytes_text(engine.memory)
    return [cpu, memory, str(engine.queued), str(engine.tasks)]


def _doing(engine: Watched | None, news: News | None) -> str:
    if engine is None or news is None:
        return ""
    if engine.away:
        return "its connection is lost"
    doing = shown(doing_text(engine))
    if not doing or engine.since is None:
        return doing
    return f"{doing} for {duration_text(news.time - engine.since)}"


def summary(found: ClusterStatus, engines: Sequence[EngineInfo] = ()) -> str:
    """One line about a cluster.

    :param engines: all of its engines, if more is known than what it tells itself.
    """
    ids = found.ids or tuple(engine.id for engine in engines if engine.state == "running")
    seconds = duration_text(time.time() - found.started)
    return f"{found.state}, {found.kind}, {engines_text(ids)}, for {seconds}, process {found.pid} on {found.host}"


def engines_text(ids: Sequence[int]) -> str:
    """A number of engines, and which."""
    count = count_text(len(ids), "engine")
    return f"{count} ({compress_ids(ids)})" if ids else count


def _process_text(info: ProcessInfo, silent: str) -> str:
    """One line about a process; ``silent`` is what one is that gives no sign of life."""
    parts = [info.state]
    if info.pid and info.state != "ended":
        parts.append(f"process {info.pid}" + (f" on {info.host}" if info.host else ""))
    return ", ".join([*parts, *_notes(info, silent)])


def _notes(info: ProcessInfo, silent: str) -> list[str]:
    """What is to be said about a process besides its state."""
    parts = []
    if info.stopped:
        parts.append(f"stopped (continue it with: kill -CONT {info.pid})")
    if info.silent:
        parts.append(
            f"{'' if info.stopped else f'{silent}: '}no sign of life for {duration_text(info.silent)}"
        )
    if info.restarts:
        parts.append(f"restarted {info.restarts} times" if info.restarts > 1 else "restarted once")
    if info.away:
        parts.append(f"not usable for {duration_text(info.away)}")
    if info.restart_in:
        parts.append(f"restarted in {info.restart_in:.0f} s")
    if info.reason:
        parts.append(shown(info.reason))
    return parts
