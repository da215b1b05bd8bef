"""What a controller is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ipython1.kernel.host.commonconfig import CommonConfig
from ipython1.kernel.host.furl import Furl


@dataclass(frozen=True, slots=True)
class InterfaceSpec:
    """An interface that a controller offers to clients.

    :ivar controller_adapter: dotted name of the interface that the controller is adapted to.
    :ivar fc_adapter: dotted name of the interface that this is adapted to in turn, for Foolscap.
    :ivar furl_file: absolute.
    """

    name: str
    controller_adapter: str
    fc_adapter: str
    furl_file: Path


@dataclass(frozen=True, slots=True)
class TaskConfig:
    """The Task interface.

    :ivar scheduler: dotted name of the scheduler's class.
    :ivar kill_limit: a task during which so many engines died is not tried again.
    :ivar abort_grace: seconds that an aborted task may go on before its engine is killed.
    :ivar unrunnable_after: seconds that a task waits at most while no engine can run it; 0 for ever.
    :ivar prefetch_seconds: seconds of work that an engine is given ahead, within ``prefetch_min``
        and ``prefetch_max`` tasks.
    :ivar result_age: seconds that results which their client has are kept for others, up to
        ``result_size`` bytes.
    """

    scheduler: str
    kill_limit: int
    abort_grace: float
    unrunnable_after: float
    prefetch_seconds: float
    prefetch_min: int
    prefetch_max: int
    result_age: float
    result_size: int


@dataclass(frozen=True, slots=True)
class JournalConfig:
    """The journal.

    :ivar enabled: whether there is one.
    :ivar directory: of this controller's journal.
    :ivar sync: ``'normal'`` or ``'full'``.
    :ivar keep_age: seconds that results are kept.
    :ivar keep_size: bytes of results that are kept.
    """

    enabled: bool
    directory: Path
    sync: str
    keep_age: float
    keep_size: int


@dataclass(frozen=True, slots=True)
class Graces:
    """How many seconds one waits for a party that may come back; 0 for not at all.

    :ivar engine: for an engine whose link is lost.
    :ivar restart: for an engine after the controller was started again.
    :ivar client: for a client whose link is lost.
    """

    engine: float = 0.0
    restart: float = 60.0
    client: float = 0.0


@dataclass(frozen=True, slots=True)
class UpstreamAddress:
    """Where the upstream is.

    :ivar furl: its FURL for engines; None to read it from ``file`` each time.
    :ivar source: where the FURL comes from, for messages.
    """

    furl: Furl | None
    file: Path | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerConfig(CommonConfig):
    """What ``ipcontroller`` is told.

    :ivar client_ip: the address to listen on; empty for all of this host's.
    :ivar client_port: 0 for any free one.
    :ivar client_location: ``HOST[:PORT]``, with commas between several; empty for this host's
        address.
    :ivar client_cert_file: the key file; created if missing.
    :ivar engine_ip: as ``client_ip``, and the same when nothing else was said; so the other three.
    :ivar engine_port: 0 for the clients' port, or any free one when address or key file differ.
    :ivar max_message_size: bytes.
    :ivar spool_size: bytes in a temporary file that may wait for slow engines and clients.
    :ivar audit_log: whether one is written.
    :ivar monitor_failures: whether those who only look are told errors and tracebacks.
    :ivar log_days: days without a line after which logs that are not in use are removed; 0 for never.
    :ivar graces: how long one waits for parties that may come back.
    :ivar upstream: the controller that this one is a gateway to; None for none.
    """

    client_ip: str
    client_port: int
    client_location: str
    client_cert_file: Path
    engine_ip: str
    engine_port: int
    engine_location: str
    engine_cert_file: Path
    engine_furl_file: Path
    reuse_furls: bool
    interfaces: tuple[InterfaceSpec, ...]
    task: TaskConfig
    max_message_size: int
    spool_size: int
    audit_log: bool = False
    monitor_failures: bool = True
    log_days: float = 30.0
    graces: Graces
    journal: JournalConfig
    upstream: UpstreamAddress | None = None

    @property
    def one_port(self) -> bool:
        """Whether engines and clients connect to the same port."""
        return (
            self.engine_ip == self.client_ip
            and self.engine_cert_file == self.client_cert_file
            and self.engine_port in (0, self.client_port)
        )
