"""What ``ipcontroller`` and ``ipengine`` have in common of their options."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ipython1.kernel.host.security import ClusterFiles, IPythonDirs


def common_settings(given: argparse.Namespace, section: dict[str, Any]) -> dict[str, Any]:
    """The fields of a ``CommonConfig``."""
    return {
        "ipython_dir": IPythonDirs.resolve(given.ipython_dir).ipython_dir,
        "cluster_id": given.cluster_id,
        "log_file": given.logfile,
        "log_level": given.log_level or section["log_level"],
        "log_size": section["log_size"],
    }


def files_of(common: dict[str, Any]) -> ClusterFiles:
    """The files of the cluster that ``common_settings`` name."""
    return ClusterFiles(IPythonDirs(common["ipython_dir"]), common["cluster_id"])


def in_security(name: str | Path, files: ClusterFiles) -> Path | None:
    """The path that a file's name stands for: a bare name is one in the security directory."""
    if not name:
        return None
    path = Path(name).expanduser()
    if path.is_absolute():
        return path
    if path.parent == Path():
        return files.security_file(path.name)
    return files.dirs.ipython_dir / path
