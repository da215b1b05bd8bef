"""What ``ps`` and ``top`` show of a process: ``ipengine 3 [cluster]`` in place of its command line.

``sys.argv`` and the environment stay as they are, also for other processes that look at them: supervisors find what
belongs to them by a mark in the environment.
"""

from __future__ import annotations

import contextlib
import os

from ipython1.daemon import osprocess

_KEEP_ENVIRONMENT = "SPT_NOENV"
"""Tells setproctitle to write over the arguments only, at its first call."""

COMM_LENGTH = 15
"""Bytes of the short name that a process has besides."""

NANNY = "ipython1-nanny"
"""What a nanny is called, in lists of processes."""


def preload_titles() -> None:
    """Import what :func:`set_title` needs, while there is nothing else to do."""
    with contextlib.suppress(ImportError):
        import setproctitle  # noqa: F401


def set_title(title: str) -> None:
    """Show this process under a title, cut to the room that there is; call it from any thread.

    The first call should be made before other threads are there.
    """
    before = os.environ.get(_KEEP_ENVIRONMENT)
    if before is None:
        os.environ[_KEEP_ENVIRONMENT] = "1"
    try:
        import setproctitle

        setproctitle.setproctitle(title)
    except ImportError:
        pass
    finally:
        if before is None:
            os.environ.pop(_KEEP_ENVIRONMENT, None)
    if osprocess.is_linux():
        # The library names the thread that calls it.
        with contextlib.suppress(OSError), open("/proc/self/comm", "wb") as file:
            file.write(short_name(title).encode()[:COMM_LENGTH])


def short_name(title: str) -> str:
    """Return the short name of a process with a title, for ``top``: ``ipengine-3``.

    It has no spaces, since Slurm, for one, does not find the processes of its jobs among those whose names have some.
    """
    return "-".join(title.partition("[")[0].split())


def process_title(program: str, cluster_id: str, number: int | None = None, more: str = "") -> str:
    """Return the title of a process: ``ipengine 3 [cluster] rank 1``.

    :param number: an engine's id.
    :param more: what is shown behind the cluster.
    """
    own = "" if number is None else str(number)
    parts = (program, own, f"[{cluster_id}]" if cluster_id else "", more)
    return " ".join(part for part in parts if part)
