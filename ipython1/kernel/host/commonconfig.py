"""What every process of the kernel is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ipython1.kernel.host.logs import LogOptions
from ipython1.kernel.host.security import ClusterFiles, IPythonDirs

STANDARD_ERROR = "-"
"""What is given for ``--logfile`` to log to standard error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonConfig:
    """What all commands can be told.

    :ivar ipython_dir: absolute.
    :ivar log_file: absolute; ``None`` for the usual place; ``Path("-")`` for standard error.
    :ivar log_size: bytes at which a log file is put aside.
    """

    ipython_dir: Path
    cluster_id: str = ""
    log_file: Path | None = None
    log_level: str = "info"
    log_size: int = 5 * 1024 * 1024

    @property
    def files(self) -> ClusterFiles:
        """The names of the cluster's files."""
        return ClusterFiles(IPythonDirs(self.ipython_dir), self.cluster_id)

    def log_options(self, name: str) -> LogOptions:
        """For ``logs.start_logging``; ``name`` is the log file's without ``.log``, such as
        ``ipcontroller``.
        """
        path = self.log_file or self.files.log_file(f"{name}.log")
        return LogOptions(
            None if str(path) == STANDARD_ERROR else path, self.log_level, self.log_size
        )
