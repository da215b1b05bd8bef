"""The options that all commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ipython1.kernel.host.logs import LogOptions
from ipython1.kernel.host.security import ClusterFiles, IPythonDirs

STANDARD_ERROR = "-"
"""The value of ``--logfile`` that means standard error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonConfig:
    """The options that all commands share.

    :ivar ipython_dir: an absolute path.
    :ivar cluster_id: part of the names of the cluster's files; empty for the default cluster.
    :ivar log_file: an absolute path; ``None`` for the default file; ``Path("-")`` for standard error.
    :ivar log_level: the lowest severity that is logged.
    :ivar log_size: bytes at which a log file is rotated.
    """

    ipython_dir: Path
    cluster_id: str = ""
    log_file: Path | None = None
    log_level: str = "info"
    log_size: int = 5 * 1024 * 1024

    @property
    def files(self) -> ClusterFiles:
        """The paths of the cluster's files."""
        return ClusterFiles(IPythonDirs(self.ipython_dir), self.cluster_id)

    def log_options(self, name: str) -> LogOptions:
        """Return the options for ``logs.start_logging``.

        :param name: the log file's name without ``.log``, such as ``ipcontroller``.
        """
        path = self.log_file or self.files.log_file(f"{name}.log")
        return LogOptions(
            None if str(path) == STANDARD_ERROR else path, self.log_level, self.log_size
        )
