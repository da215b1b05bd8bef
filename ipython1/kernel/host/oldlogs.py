"""Removing the logs of clusters that are gone for long."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from pathlib import Path
from typing import Final

from ipython1.ownfiles import remove_unused

DAY: Final = 86400.0

_NAMES: Final = re.compile(
    r"(ipcluster|ipcontroller|ipengine|ipmonitor)(-[A-Za-z0-9_.\-]+)?\.(log(\.[0-9]+)?|out)"
)
"""What our processes call their logs, and the output of batch jobs."""


def remove_old_logs(directory: Path, days: float, now: float | None = None) -> int:
    """Remove the logs in a directory to which nothing was written for some days, and which no process has open.

    Other files, links and files of others stay.

    :param days: 0 keeps all.
    :param now: the time, in seconds since the epoch; default: now.
    :returns: how many were removed.
    """
    if not days:
        return 0
    before = (time.time() if now is None else now) - days * DAY
    removed = 0
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if not _NAMES.fullmatch(entry.name):
                continue
            with contextlib.suppress(OSError):
                found = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(found.st_mode) and found.st_mtime < before:
                    removed += remove_unused(entry.path)
    return removed
