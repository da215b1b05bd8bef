"""Finds the log of an engine that chose the name of its log file itself."""

from __future__ import annotations

from pathlib import Path

from ipython1.daemon.children import tail
from ipython1.kernel.host.security import ClusterFiles

MOST_FILES = 2000
_HEAD = 65536


def engine_log(files: ClusterFiles, engine_id: int) -> Path | None:
    """Return the newest log of this cluster in which an engine reports the id ``engine_id``; None if there is none."""
    first, last = files.engine_log("*").name.split("*")
    found: list[tuple[float, Path]] = []
    for path in files.dirs.log.glob(f"{first}*{last}"):
        # Other names are those of clusters whose ids begin like this one's.
        if not path.name[len(first) : -len(last)].isdecimal():
            continue
        try:
            found.append((path.stat().st_mtime, path))
        except OSError:
            continue
    words = f"registered as engine {engine_id}\n"
    for _, path in sorted(found, reverse=True)[:MOST_FILES]:
        try:
            with open(path, errors="replace") as file:
                if words in file.read(_HEAD):
                    return path
        except OSError:
            continue
    return None


def engine_log_lines(files: ClusterFiles, engine_id: int, lines: int) -> list[str]:
    """Return the last lines of this log."""
    path = engine_log(files, engine_id)
    return tail(str(path), lines) if path is not None else []
