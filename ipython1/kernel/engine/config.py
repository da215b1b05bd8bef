"""What an engine is told."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ipython1.kernel.host.commonconfig import CommonConfig
from ipython1.kernel.host.furl import Furl
from ipython1.kernel.host.logs import LogOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig(CommonConfig):
    """What ``ipengine`` is told.

    :ivar furl_file: the controller's FURL file for engines.
    :ivar furl_file_named: whether the user has named that file, which may be a mounted secret then.
    :ivar furl: the FURL itself, in place of the file.
    :ivar controller_ip: goes in place of the FURL's host; ``None`` leaves it.
    :ivar controller_port: goes in place of the FURL's port; ``None`` leaves it.
    :ivar engine_id: the id to ask for; ``None`` leaves it to the controller.
    :ivar ids_of_ranks: in place of ``engine_id``, the ids that the ranks of an MPI job ask for.
    :ivar mpi: the name of the MPI set-up; empty for none.
    :ivar mpi_code: Python code that defines ``mpi`` with ``mpi.rank`` and ``mpi.size``; empty for
        none.
    :ivar restore_file: what to do before the engine can be used; ``None`` for nothing.
    :ivar connect_timeout: seconds to wait for the FURL file and for the controller.
    :ivar reconnect_timeout: seconds to look for a controller that was lost.
    :ivar history_length: the number of commands that the session keeps, as long as they take no more
        than ``history_size`` bytes.
    :ivar output_size: bytes that are kept of what one command prints.
    """

    furl_file: Path
    furl_file_named: bool = False
    furl: Furl | None = None
    controller_ip: str | None = None
    controller_port: int | None = None
    engine_id: int | None = None
    ids_of_ranks: tuple[int, ...] = ()
    mpi: str = ""
    mpi_code: str = ""
    restore_file: Path | None = None
    connect_timeout: float = 60.0
    reconnect_timeout: float = 600.0
    history_length: int = 1000
    history_size: int = 64 * 1024**2
    output_size: int = 8 * 1024**2

    def log_options(self, name: str = "ipengine") -> LogOptions:
        """For ``logs.start_logging``; the file is numbered by the id asked for, else by the
        process.
        """
        number = os.getpid() if self.engine_id is None else self.engine_id
        return CommonConfig.log_options(self, f"{name}-{number}")
