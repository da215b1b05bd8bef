"""A controller's process: the service, its interfaces, their FURLs, and the port they are reached at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.reflect import namedAny

from ipython1.kernel.basics.error import ClientError, KernelError
from ipython1.kernel.controller.audit import AuditLog
from ipython1.kernel.controller.capabilities import Capabilities
from ipython1.kernel.controller.controllerservice import ControllerService
from ipython1.kernel.controller.enginefc import FCEngines
from ipython1.kernel.controller.gateway import Gateway
from ipython1.kernel.controller.journal.interface import Journal
from ipython1.kernel.controller.journal.journal import start_journal
from ipython1.kernel.controller.multienginefc import IFCSessions
from ipython1.kernel.controller.parties import Identity
from ipython1.kernel.controller.revocations import Revocations
from ipython1.kernel.controller.upstreamlink import UpstreamLinks
from ipython1.kernel.controller.visits import Visits
from ipython1.kernel.host import sharedmemory
from ipython1.kernel.host.certificates import load_or_make_certificate
from ipython1.kernel.host.controlserver import ControlSocket
from ipython1.kernel.host.furl import Furl
from ipython1.kernel.host.hosts import host_identity
from ipython1.kernel.host.lockfile import LockFile
from ipython1.kernel.host.memory import FreedMemory
from ipython1.kernel.host.openfiles import Places
from ipython1.kernel.host.peerprocess import HostProcesses
from ipython1.kernel.host.processstate import name_process
from ipython1.kernel.host.processwatch import ProcessWatch
from ipython1.kernel.host.security import CONTROL_SOCKET, read_furl
from ipython1.kernel.host.turns import turns_of
from ipython1.kernel.tub import tubs
from ipython1.kernel.tub.gate import Gate
from ipython1.kernel.tub.memoryexchange import MemoryHub
from ipython1.kernel.wire.link import TurnFlusher
from ipython1.kernel.wire.spool import Spool

if TYPE_CHECKING:
    from ipython1.kernel.controller.config import ControllerConfig, InterfaceSpec

log: Logger = Logger()


class WatchedProcesses:
    """The processes of this host."""

    def __init__(self, reactor: Any) -> None:
        self._watch = ProcessWatch(reactor)

    def started(self, pid: int, host: str) -> float:
        name = name_process(pid) if host == host_identity() else None
        return 0.0 if name is None else name.started

    def watch(self, identity: Identity, on_dead: Callable[[], None], /) -> Callable[[], None]:
        if identity.host != host_identity() or not identity.started:
            return lambda: None
        return self._watch.watch(identity.pid, identity.started, on_dead)


@dataclass(slots=True)
class RunningController:
    """A controller that listens."""

    service: ControllerService
    visits: Visits
    capabilities: Capabilities
    port: int = 0
    _tubs: list[Any] = field(default_factory=list)
    _lock: LockFile | None = None
    _audit: AuditLog | None = None
    _control: ControlSocket | None = None
    _memory: FreedMemory | None = None
    _hub: MemoryHub | None = None
    _gateway: Gateway | None = None

    @property
    def furl_files(self) -> dict[str, Path]:
        """Where its FURLs are, by interface; ``'engine'`` is that of the engines."""
        return self.capabilities.files

    async def stop(self, goodbye: str = "") -> None:
        """Stop listening, close all connections.

        :param goodbye: why the controller ends on purpose, for clients, which do not wait for it then.
        """
        if goodbye:
            self.service.clients.say_goodbye(goodbye)
        self.service.stop_waiting()
        if self._gateway is not None:
            self._gateway.stop()
        if self._control is not None:
            await self._control.close()
        for tub in self._tubs:
            await tubs.close(tub)
        if self._hub is not None:
            self._hub.close()
        self.service.ended()
        await self.service.journal.close()
        if self._memory is not None:
            self._memory.stop()
        if self._audit is not None:
            self._audit.close()
        if self._lock is not None:
            self._lock.release()


async def start_controller(
    config: ControllerConfig,
    reactor: Any,
    request_stop: Any,
    upstream_refuses: Callable[[KernelError], None] = lambda problem: None,
) -> RunningController:
    """Start a controller.

    :param request_stop: called when a client asks the controller to end.
    :param upstream_refuses: called if the upstream will not have this controller as a gateway.
    :raises KernelError: one clear error for whatever is in the way.
    """
    files = config.files
    files.dirs.prepare()
    lock = LockFile(files.security_file("ipcontroller.lock"))
    if not lock.acquire():
        which = f" with the cluster id {files.cluster_id!r}" if files.cluster_id else ""
        raise ClientError(
            f"a controller{which} already runs in {files.dirs.ipython_dir} (process {lock.holder() or 'unknown'}); "
            "stop it first, or choose another --cluster-id"
        )
    try:
        opening = Deferred.fromCoroutine(start_journal(config.journal, reactor))
        # A thread opens it, and mostly waits for the disk.
        _import_adapters(config.interfaces)
        journal = await opening
        try:
            running = _make(config, reactor, request_stop, journal)
        except BaseException:
            await journal.close()
            raise
    except BaseException:
        lock.release()
        raise
    running._lock = lock
    running._memory = FreedMemory(reactor)
    try:
        flusher = await _open_gates(running, config, reactor)
        if config.upstream is not None:
            links = UpstreamLinks(config.upstream, flusher, reactor)
            running._gateway = Gateway(running.service, links.open, upstream_refuses)
        running.service.recover()
        if running._gateway is not None:
            running._gateway.start()
        wanted = files.security_file(CONTROL_SOCKET)
        running._control = ControlSocket.open(reactor, wanted, running.capabilities.orders())
    except BaseException:
        await running.stop()
        raise
    return running


def _make(
    config: ControllerConfig, reactor: Any, request_stop: Any, journal: Journal
) -> RunningController:
    files = config.files
    service = ControllerService(
        reactor,
        HostProcesses(),
        request_stop,
        max_message=config.max_message_size,
        task_config=config.task,
        graces=config.graces,
        watched=WatchedProcesses(reactor),
        journal=journal,
        places=Places.of_this_process(),
        call_soon=turns_of(reactor).call_soon,
    )
    service.observer.name = files.cluster_id
    service.observer.failures.with_texts = config.monitor_failures
    revocations = Revocations(files.security_file("ipcontroller.revoked"))
    audit = None
    if config.audit_log:
        audit = AuditLog(files.log_file("ipcontroller-audit.log"), config.log_size)
    visits = Visits(revocations, audit)
    capabilities = Capabilities(visits, service.clients)
    return RunningController(service, visits, capabilities, _audit=audit)


async def _open_gates(
    running: RunningController, config: ControllerConfig, reactor: Any
) -> TurnFlusher:
    service = running.service
    spool = Spool(most=config.spool_size)
    flusher = TurnFlusher(turns_of(reactor).call_soon, reactor, spool)
    service.observer.counts = flusher
    paths = {"engine": config.engine_furl_file}
    paths |= {spec.name: spec.furl_file for spec in config.interfaces}
    old = {name: _old_furl(path) for name, path in paths.items()} if config.reuse_furls else {}

    client_port = config.client_port or _old_port(old, [spec.name for spec in config.interfaces])
    client_tub = await _listen(
        running, config.client_cert_file, config.client_ip, client_port, config.client_location
    )
    if config.one_port and config.engine_location == config.client_location:
        engine_tub = client_tub
    else:
        engine_tub = await _listen(
            running,
            config.engine_cert_file,
            config.engine_ip,
            config.engine_port or _old_port(old, ["engine"]),
            config.engine_location,
        )
    door, publish = running.visits.door, running.capabilities.publish
    memory = running._hub = _share_memory(reactor)
    engines = Gate(door("engine", FCEngines(service).accept), flusher, memory)
    publish("engine", engine_tub, engines, paths["engine"], old.get("engine"))
    for spec in config.interfaces:
        face = _adapt(spec, service)
        sessions = IFCSessions.providedBy(face)
        target = Gate(door(spec.name, face.accept), flusher, memory) if sessions else face
        publish(spec.name, client_tub, target, paths[spec.name], old.get(spec.name))
    return flusher


def _share_memory(reactor: Any) -> MemoryHub | None:
    """What gets shared memory from one process of this host to another; None if that is not possible."""
    if not sharedmemory.is_available():
        return None
    try:
        return MemoryHub(reactor)
    except OSError as problem:
        log.info("no memory is shared on this host: {problem}", problem=problem)
        return None


def _old_furl(path: Path) -> Furl | None:
    return read_furl(path) if path.exists() else None


def _old_port(old: dict[str, Furl | None], names: list[str]) -> int:
    """The port in the FURLs that shall stay valid."""
    for name in names:
        furl = old.get(name)
        if furl is not None:
            return furl.hints[0][1]
    return 0


async def _listen(
    running: RunningController,
    cert_file: Path,
    ip: str,
    port: int,
    location: str,
) -> Any:
    pem = load_or_make_certificate(cert_file)
    tub = tubs.make_tub(pem)
    running._tubs.append(tub)
    actual = await tubs.listen(tub, ip, port, location or None)
    running.port = running.port or actual
    log.info("listening on port {port} of {ip}", port=actual, ip=ip or "all addresses")
    return tub


def _import_adapters(interfaces: Iterable[InterfaceSpec]) -> None:
    """Import what the configuration names; :func:`_adapt` says what cannot be imported."""
    for spec in interfaces:
        for name in (spec.controller_adapter, spec.fc_adapter):
            with suppress(Exception):
                namedAny(name)


def _adapt(spec: InterfaceSpec, service: ControllerService) -> Any:
    """The Foolscap face of an interface that the configuration names."""
    adapted: Any = service
    for name in (spec.controller_adapter, spec.fc_adapter):
        try:
            adapter = namedAny(name)
        except Exception as problem:
            raise ClientError(
                f"the interface {spec.name!r} in ipython1.kernel.ini names {name}, which cannot be imported: "
                f"{type(problem).__name__}: {problem}"
            ) from None
        try:
            adapted = adapter(adapted)
        except TypeError as problem:
            raise ClientError(
                f"the interface {spec.name!r} in ipython1.kernel.ini names {name}, which does not adapt "
                f"{type(adapted).__name__}: {problem}"
            ) from None
        service.interfaces.setdefault(spec.name, adapted)
    return adapted
