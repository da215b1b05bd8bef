"""A dask worker in an engine's process, beside the engine's own work.

The worker has an event loop in a thread of its own, and runs dask's tasks in further threads.  It ends with its
scheduler, or with the engine.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import tempfile
import threading
from concurrent.futures import Future
from typing import Any, NamedTuple

from ipython1.kernel.basics.error import ConnectionError, describe_exception
from ipython1.kernel.host.hosts import host_identity

INSTALL = "pip install ipython1[dask]"


class Probe(NamedTuple):
    """What an engine says of itself.

    :ivar host: identifies its host.
    :ivar address: the address of its host on the network that leads to the controller, or an empty string.
    :ivar version: of ``distributed``; empty if that cannot be imported.
    :ivar problem: why it cannot.
    """

    host: str
    address: str
    version: str
    problem: str = ""


def probe() -> Probe:
    """Find out whether an engine can have a worker."""
    try:
        import distributed
    except ImportError as problem:
        return Probe(host_identity(), _own_address(), "", str(problem))
    return Probe(host_identity(), _own_address(), str(distributed.__version__))


def _own_address() -> str:
    """Return the address that this process has on its connections to other hosts."""
    import psutil

    for connection in psutil.Process().net_connections("tcp"):
        own, peer = connection.laddr, connection.raddr
        if peer and own.ip != peer.ip and connection.status == psutil.CONN_ESTABLISHED:
            return str(own.ip)
    return ""


def address_towards(host: str) -> str:
    """Return this host's address on the network that leads to ``host``; sends nothing."""
    family, kind, *_, target = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probing:
        probing.connect(target)
        return str(probing.getsockname()[0])


class _Running:
    """A worker that runs, with its thread.

    :ivar started: a future of the worker's address.
    """

    def __init__(self, scheduler: str, options: dict[str, Any]) -> None:
        self.started: Future[str] = Future()
        self._scheduler = scheduler
        self._options = options
        self._stop: Any = lambda: None
        self.thread = threading.Thread(target=self._main, name="dask-worker", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """End the worker, and wait until it has."""
        self._stop()
        self.thread.join()

    def _main(self) -> None:
        scratch = tempfile.mkdtemp(prefix="ipython1-dask-")
        try:
            asyncio.run(self._serve(scratch))
        except BaseException as problem:
            if not self.started.done():
                self.started.set_exception(problem)
        finally:
            _running.pop(self._scheduler, None)
            shutil.rmtree(scratch, ignore_errors=True)

    async def _serve(self, scratch: str) -> None:
        loop = asyncio.get_running_loop()
        worker = _worker_class()(self._scheduler, local_directory=scratch, **self._options)
        ended: list[Any] = []  # a reference, as the loop keeps none

        def stop() -> None:
            ended.append(loop.create_task(worker.close(reason="stop_dask")))

        self._stop = lambda: loop.call_soon_threadsafe(stop)
        await worker
        self.started.set_result(str(worker.address))
        await worker.finished()


def _worker_class() -> Any:
    import distributed

    class EngineWorker(distributed.Worker):
        """A worker without dask's web server, which would serve anybody."""

        def start_http_server(self, *args: Any, **kwargs: Any) -> None:
            """Do nothing."""

    return EngineWorker


_running: dict[str, _Running] = {}
"""The workers in this process, by the addresses of their schedulers."""


def start_worker(
    scheduler: str, credentials: dict[str, Any], name: str, nthreads: int, timeout: float
) -> str:
    """Start a worker in this process, unless it has one of the same scheduler.

    :param scheduler: the address of the scheduler.
    :param credentials: the parameters of ``distributed.Security``.
    :param timeout: the maximum time until it has registered, in seconds.
    :returns: its address.
    :raises ConnectionError: if it cannot reach the scheduler.
    """
    from distributed import Security

    running = _running.get(scheduler)
    if running is None:
        logging.getLogger("distributed").setLevel(logging.ERROR)
        host = scheduler.rpartition("://")[2].rpartition(":")[0].strip("[]")
        running = _running[scheduler] = _Running(
            scheduler,
            {
                "security": Security(**credentials),
                "name": name,
                "nthreads": nthreads,
                "host": f"tls://{address_towards(host)}",
                "protocol": "tls://",
                "memory_limit": 0,
                "dashboard": False,
                "death_timeout": timeout,
            },
        )
    try:
        return running.started.result(timeout)
    except Exception as problem:
        running.stop()
        raise ConnectionError(
            f"the engine cannot reach dask's scheduler at {scheduler}: {describe_exception(problem)}. If your program "
            "has another address for the engines, give it: become_dask(host='...')"
        ) from None
