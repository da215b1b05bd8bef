"""``ipcluster logs``: the log of the controller, an engine or ``ipcluster``, and what is added to it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ipython1.core.texts import compress_ids, did_you_mean
from ipython1.kernel.basics.error import ClientError, ClusterError, KernelError
from ipython1.kernel.clusters.byhand import status_by_hand
from ipython1.kernel.clusters.status import ClusterStatus, connect_to, read_state
from ipython1.kernel.host.byhand import notes_of
from ipython1.kernel.host.control import BlockingControl
from ipython1.kernel.host.logtail import LogTail, shown_line
from ipython1.kernel.host.security import ClusterFiles
from ipython1.kernel.launchers.clusterconfig import title_of
from ipython1.kernel.launchers.logfiles import engine_log
from ipython1.kernel.scripts import arguments
from ipython1.kernel.scripts.arguments import OneLineParser
from ipython1.kernel.scripts.clusterwords import files_of, word_parser
from ipython1.kernel.scripts.look import title_there

PAUSE: Final = 0.25
"""Seconds between two looks at a file that is followed."""

ASK_LIMIT: Final = 30.0
"""Seconds that an ``ipcluster`` may take to get the log of an engine on another host."""

WHAT: Final = ("controller", "engine", "ipcluster")

TEXT = """\
Without a word it is that of the controller.

examples:
  ipcluster logs                    the last lines of the controller's log
  ipcluster logs engine 3
  ipcluster logs 3 -n 100           the same engine, more lines
  ipcluster logs engine 3 -f        and what is added, until Ctrl-C
  ipcluster logs ipcluster
"""


def make_parser() -> OneLineParser:
    """The command line."""
    parser = word_parser("logs", TEXT)
    parser.add_argument(
        "what",
        nargs="*",
        metavar="controller | engine ID | ipcluster",
        help="whose log (default: the controller's)",
    )
    parser.add_argument(
        "-f", "--follow", action="store_true", help="show also what is added, until Ctrl-C"
    )
    parser.add_argument(
        "-n",
        "--lines",
        type=arguments.whole_number,
        default=20,
        metavar="LINES",
        help="how many of the last lines (default: 20)",
    )
    parser.add_argument("--path", action="store_true", help="print only the name of the file")
    return parser


def run(given: argparse.Namespace) -> int:
    """Do it.

    :raises KernelError: if there is no such log.
    """
    what, engine_id = _what(given.what)
    files = files_of(given)
    running = running_cluster(files)
    path = log_path(files, running, what, engine_id)
    if path is None:
        return _from_elsewhere(files, running, engine_id or 0, given)
    if given.path:
        print(path)
        return 0
    tail = LogTail(path)
    if not tail.exists() and not given.follow:
        raise ClusterError(f"there is no log {path} yet")
    if running is None:
        print(
            f"ipcluster: {title_of(files.cluster_id)} does not run; its last log is {path}",
            file=sys.stderr,
        )
    try:
        _show(tail.last(given.lines))
        while given.follow:
            time.sleep(PAUSE)
            _show(tail.more())
    except KeyboardInterrupt:
        pass
    return 0


def _show(lines: Iterator[str]) -> None:
    for line in lines:
        sys.stdout.write(line)
    sys.stdout.flush()


def _what(words: list[str]) -> tuple[str, int | None]:
    """Whose log is meant: one of :data:`WHAT`, and an engine's id.

    :raises SystemExit: if that cannot be told.
    """
    error = make_parser().error
    first, *others = words or ["controller"]
    if first.isascii() and first.isdecimal():
        first, others = "engine", [first, *others]
    if first not in WHAT:
        error(
            f"there is no log of {first!r}{did_you_mean(first, WHAT) or '; give controller, ipcluster or engine ID'}"
        )
    wanted = 1 if first == "engine" else 0
    if len(others) > wanted:
        error(f"unrecognized arguments: {' '.join(others[wanted:])}")
    if not wanted:
        return first, None
    if not others:
        error("which engine? for example: ipcluster logs engine 0")
    try:
        return first, arguments.whole_number(others[0])
    except argparse.ArgumentTypeError as problem:
        error(f"engine: {problem}")


def log_path(
    files: ClusterFiles, running: ClusterStatus | None, what: str, engine_id: int | None
) -> Path | None:
    """Return the log file of a process of this host.

    :param running: the cluster, if it runs.
    :param engine_id: of an engine.
    :returns: the file; None if the log of an engine is on another host.
    :raises ClusterError: if there is no such engine.
    """
    if what == "ipcluster":
        return files.cluster_log
    notes = {note.engine: note for note in notes_of(files)}
    note = notes.get(engine_id)
    if note is not None and note.log:
        return Path(note.log) if note.is_here else None
    if engine_id is None:
        return files.controller_log
    usual = files.engine_log(engine_id)
    if running is not None:
        info = next((each for each in running.engines if each.id == engine_id), None)
        if info is None:
            there = compress_ids(each.id for each in running.engines) or "none"
            raise ClusterError(
                f"there is no engine {engine_id} in {title_of(files.cluster_id)}; there are: {there}"
            )
        if info.host:
            return None
        if info.pid and note is None:
            return usual  # it was started under its id
    # Others choose the name themselves.
    found = engine_log(files, engine_id)
    if found is None and not usual.exists():
        raise ClusterError(f"there is no log of engine {engine_id} of {title_there(files)}")
    return found or usual


def running_cluster(files: ClusterFiles) -> ClusterStatus | None:
    """Return a cluster as it was written down, if it runs."""
    state = read_state(files.state)
    if state is None:
        return status_by_hand(files)
    return state if not state.is_here or state.is_alive else None


def _from_elsewhere(
    files: ClusterFiles, running: ClusterStatus | None, engine_id: int, given: argparse.Namespace
) -> int:
    """Show the log of an engine on another host, as its ``ipcluster`` gets it."""
    engines = () if running is None else running.engines
    host = next((each.host for each in engines if each.id == engine_id), "") or "another host"
    where = f"engine {engine_id} of {title_of(files.cluster_id)} writes its log on {host}, in the log directory there"
    if given.follow or given.path:
        raise ClientError(
            f"{where}; look at it on that host, or leave out the option to get its last lines"
        )
    try:
        control = BlockingControl(connect_to(files))
        lines = control.call("logs", ASK_LIMIT, engine=engine_id, lines=max(1, given.lines))
    except KernelError as problem:
        raise ClusterError(f"{where}; it cannot be shown here: {problem}") from None
    print(*(shown_line(str(line)) for line in lines), sep="\n")
    return 0
