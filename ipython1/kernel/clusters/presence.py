"""Words for processes that do not answer: they are stopped, busy or stuck.

An engine that gives no sign of life is *busy*: code in C holds its interpreter, and that is nobody's fault.  A
controller or an ``ipcluster`` that gives none is *stuck*, because they never run code that takes long.
"""

from __future__ import annotations

from ipython1.daemon.processes import ProcessStatus

END_IT = "end everything with: ipcluster stop --force"


def controller_is_silent(status: ProcessStatus, seconds: float) -> str:
    """Return the line about a controller that gives no sign of life.

    :param seconds: for how long it has given none.
    """
    where = f" on {status.host}" if status.host else ""
    text = f"{status.title} (process {status.pid}{where}) has given no sign of life for {seconds:.0f} s"
    if status.stopped:
        return f"{text}: it is stopped; continue it with: kill -CONT {status.pid}, or {END_IT}"
    return f"{text}: it is stuck; restart it with: ipcluster restart, or {END_IT}"


def nanny_is_silent(pid: int, seconds: float, stopped: bool) -> str:
    """Return the line about this host's nanny, which has all other processes below it."""
    text = f"the nanny (process {pid}) has given no sign of life for {seconds:.0f} s"
    if stopped:
        return f"{text}: it is stopped; continue it with: kill -CONT {pid}, or {END_IT}"
    return f"{text}: it is stuck; {END_IT}"


def ipcluster_is_silent(pid: int, stopped: bool) -> str:
    """Return why an ``ipcluster`` does not answer, and what can be done."""
    if stopped:
        return f"its ipcluster (process {pid}) is stopped; continue it with: kill -CONT {pid}, or {END_IT}"
    return f"its ipcluster (process {pid}) is stuck; {END_IT}"
