"""Finding the log of an engine that named its log file itself."""

from __future__ import annotations

from pathlib import Path

from ipython1.daemon.children import tail
from ipython1.kernel.host.security import ClusterFiles

MOST_FILES = 2000
_HEAD = 65536


def engine_log(files: ClusterFiles, engine_id: int) -> Path | None:
    """The newest log in which an engine of this cluster says that it is ``engine_id``; None when there is none."""
    pattern = files.engine_log("*").name
    found: list[tuple[float, Path]] = []
    for path in files.dirs.log.glob(pattern):
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
    """The last lines of that log."""
    path = engine_log(files, engine_id)
    return tail(str(path), lines) if path is not None else []
