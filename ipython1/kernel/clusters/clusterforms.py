"""What a prompt and a notebook show of a cluster: the last that its state file tells, without asking anybody."""

from __future__ import annotations

from typing import Any, Final

from ipython1.core.texts import clip, compress_ids
from ipython1.kernel.basics.error import KernelError
from ipython1.kernel.clusters.adapting import scaling_lines
from ipython1.kernel.clusters.status import ClusterStatus, EngineInfo, ProcessInfo, read_state
from ipython1.kernel.host.security import ClusterFiles
from ipython1.notebook.cards import (
    BAD,
    GOOD,
    WAITING,
    Html,
    card_html,
    dot,
    engines_text,
    entries_html,
    muted,
)
from ipython1.notebook.html import details

_COLORS: Final = {
    "running": GOOD,
    "ended": BAD,
    "stuck": BAD,
    "stopped": WAITING,
    "not running": BAD,
}

LOOKED_AT: Final = 200
"""Up to so many engines, the system is asked how each process is; of others, what ``ipcluster`` wrote is shown."""

OPEN_UP_TO: Final = 16
"""A table of up to this many engines is not folded."""


def known_status(files: ClusterFiles) -> ClusterStatus | None:
    """Return what is known of a cluster of this host; None if it does not run, or its state cannot be read."""
    try:
        state = read_state(files.state)
    except KernelError:
        return None
    if state is None:
        return None
    if not state.is_here:
        return state
    if not state.is_alive:
        return None
    if state.is_stopped:
        return state.as_last_known()
    return state.as_seen() if len(state.engines) <= LOOKED_AT else state


def state_of(info: ProcessInfo, usable: bool) -> str:
    """Return the state of a process in a few words."""
    if info.stopped:
        return "stopped"
    if info.restart_in:
        return f"starts again in {info.restart_in:.0f} s"
    if info.silent:
        return f"no sign of life for {info.silent:.0f} s"
    if info.state == "running" and not usable:
        return "starting"
    if info.reason:
        return f"{info.state}: {clip(info.reason, 100)}"
    return info.state


def _engine_row(engine: EngineInfo, usable: bool) -> list[Any]:
    state = state_of(engine, usable)
    return [
        engine.id,
        dot(_COLORS.get(state.partition(":")[0], WAITING), state),
        engine.host,
        engine.pid or "",
        engine.restarts or "",
    ]


def engines_html(status: ClusterStatus) -> str:
    """Return the table of a cluster's engines; a long one is folded, and those that do not work come first."""
    if not status.engines:
        return ""
    usable = set(status.ids)
    ordered = sorted(status.engines, key=lambda each: (each.id in usable, each.id))
    table = entries_html(
        ["engine", "state", "host", "process", "restarts"],
        (_engine_row(each, each.id in usable) for each in ordered),
    )
    opened = len(status.engines) <= OPEN_UP_TO or len(usable) < len(status.engines)
    return details(f"{len(usable)} of {len(status.engines)} engines usable", table, opened)


def cluster_html(title: str, where: str, status: ClusterStatus | None, below: str = "") -> str:
    """Return the card of a cluster.

    :param title: what it is, such as ``Cluster 'work'``.
    :param where: the directory of its files.
    :param status: what is known of it; None if it does not run.
    :param below: HTML that follows.
    """
    if status is None:
        return card_html(title, [("directory", where)], below, dot(BAD, "not running"))
    controller = status.controller
    rows = [
        ("kind", status.kind),
        ("engines", engines_text(status.ids)),
        ("controller", "" if controller is None else _controller(controller)),
        ("directory", where),
        *(("by itself", each) for each in scaling_lines(status.scaling)),
        *(("warning", Html(dot(WAITING, each))) for each in status.warnings),
    ]
    state = dot(_COLORS.get(status.state, WAITING), status.state)
    return card_html(title, rows, engines_html(status) + below, state)


def _controller(info: ProcessInfo) -> Html:
    state = state_of(info, True)
    place = f"process {info.pid}" + (f" on {info.host}" if info.host else "")
    return Html(f"{dot(_COLORS.get(state, WAITING), state)} {muted(place)}")


def cluster_text(head: str, status: ClusterStatus | None) -> str:
    """Return a few lines about a cluster, for a terminal.

    :param head: what it is.
    """
    if status is None:
        return f"{head}: not running"
    usable = set(status.ids)
    lines = [
        f"{head}: {status.state}, {status.kind}, {len(usable)} of {len(status.engines)} engines usable"
    ]
    groups: dict[str, list[int]] = {}
    for engine in status.engines:
        groups.setdefault(state_of(engine, engine.id in usable), []).append(engine.id)
    lines += [f"[{compress_ids(ids)}] {state}" for state, ids in groups.items()]
    return "\n".join([*lines, *scaling_lines(status.scaling), *status.warnings])


class ClusterForms:
    """Gives a cluster the forms that prompts and notebooks show."""

    @property
    def cluster_id(self) -> str:
        """The name under which it is found."""
        raise NotImplementedError

    @property
    def files(self) -> ClusterFiles:
        """The paths of its files."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.cluster_id!r} in {self.files.dirs.ipython_dir}>"

    def _card_title(self) -> str:
        """Return the title of its card."""
        name = type(self).__name__
        return f"{name} {self.cluster_id!r}" if self.cluster_id else name

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(cluster_text(repr(self), known_status(self.files)))

    def _repr_html_(self) -> str:
        where = str(self.files.dirs.ipython_dir)
        return cluster_html(self._card_title(), where, known_status(self.files))
