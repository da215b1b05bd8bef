"""Engines as workers of dask: ``mec.become_dask()``.

The scheduler runs in the client's process, as that is where its user is, and ends with it.  Each engine has a worker in
its own process.  All of dask's connections are encrypted and authenticated with a key that is made for this scheduler
and reaches the engines through the client's own link; nothing else listens.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ipython1.checks import check_int, check_timeout
from ipython1.core.texts import compress_ids
from ipython1.kernel.basics.error import ClientError
from ipython1.kernel.host.hosts import host_identity
from ipython1.kernel.objects.daskworker import (
    INSTALL,
    Probe,
    address_towards,
    probe,
    start_worker,
)

LOOPBACK = "127.0.0.1"

RunOn = Callable[[Callable[..., Any], Mapping[int, Sequence[Any]]], dict[int, Any]]
"""Calls a function on engines, with the arguments of each, by their ids; returns what it returned by the ids."""


class DaskWorkers:
    """A scheduler of dask in this process, and workers on engines.

    :param run_on: calls a function on engines.
    :param host: the address that the scheduler listens on; None to find it.
    """

    def __init__(self, run_on: RunOn, host: str | None) -> None:
        self._run_on = run_on
        self._host = host
        self._cluster: Any = None
        self._credentials: dict[str, Any] = {}
        self._scratch = ""
        self._remove_scratch: Callable[[], object] = lambda: None
        self.client: Any = None

    @property
    def running(self) -> bool:
        """Whether the scheduler runs and the client is connected to it."""
        return self.client is not None and self.client.status == "running"

    def start(self, ids: Sequence[int], nthreads: int, timeout: float) -> Any:
        """Start workers on those of the engines that have none.

        :returns: the connected ``distributed.Client``.
        :raises ClientError: if ``distributed`` is not installed here, or on none of the engines.
        :raises CompositeError: if an engine cannot reach the scheduler.
        """
        distributed = _import_distributed()
        probes = self._run_on(probe, dict.fromkeys(ids, ()))
        able = _able(probes, str(distributed.__version__))
        if self._cluster is None:
            self._start_scheduler(distributed, [probes[each] for each in able])
        address = self._cluster.scheduler_address
        arguments = {
            each: (address, self._credentials, f"engine-{each}", nthreads, timeout) for each in able
        }
        try:
            self._run_on(start_worker, arguments)
            if self.client is None:
                self.client = distributed.Client(self._cluster, timeout=timeout)
            self.client.wait_for_workers(len(able), timeout=timeout)
        except BaseException:
            if self.client is None:
                self.stop()
            raise
        return self.client

    def _start_scheduler(self, distributed: Any, probes: Sequence[Probe]) -> None:
        self._scratch = tempfile.mkdtemp(prefix="ipython1-dask-")
        self._remove_scratch = weakref.finalize(self, shutil.rmtree, self._scratch, True)
        security = distributed.Security.temporary()
        self._credentials = {
            name: getattr(security, name)
            for name in security.__slots__
            if name == "require_encryption" or (name.startswith("tls_") and name[-4:] != "sion")
        }
        self._cluster = distributed.SpecCluster(
            workers={},
            scheduler={
                "cls": _scheduler_class(distributed),
                "options": {
                    "host": self._host or _host_for(probes),
                    "port": 0,
                    "protocol": "tls://",
                    "security": security,
                    "dashboard": False,
                    # Its default is a directory that another user may have made.
                    "local_directory": self._scratch,
                },
            },
            security=security,
            name="ipython1",
            silence_logs=logging.ERROR,
        )

    def stop(self) -> None:
        """End the scheduler, and with it all workers, and close the client."""
        client, self.client = self.client, None
        cluster, self._cluster = self._cluster, None
        if client is not None:
            client.close()
        try:
            if cluster is not None:
                cluster.close()
        finally:
            self._remove_scratch()


def _import_distributed() -> Any:
    try:
        import distributed
    except ImportError as problem:
        raise ClientError(
            f"become_dask needs distributed, which is not installed here ({problem}); install it with: {INSTALL}"
        ) from None
    return distributed


def _scheduler_class(distributed: Any) -> Any:
    class EngineScheduler(distributed.Scheduler):
        """A scheduler without dask's web server, which would serve anybody."""

        def start_http_server(self, *args: Any, **kwargs: Any) -> None:
            """Do nothing."""

    return EngineScheduler


def _able(probes: Mapping[int, Probe], version: str) -> list[int]:
    """Return the engines that can have workers; warns of the others.

    :raises ClientError: if there are none.
    """
    able = sorted(each for each, found in probes.items() if found.version)
    lacking = sorted(probes.keys() - set(able))
    if lacking:
        reason = probes[lacking[0]].problem
        what = f"distributed cannot be imported there ({reason}); install it with: {INSTALL}"
        if not able:
            raise ClientError(f"no engine can have a dask worker: {what}")
        warnings.warn(f"engines {compress_ids(lacking)} get no dask worker: {what}", stacklevel=4)
    others = sorted({probes[each].version for each in able} - {version})
    if others:
        warnings.warn(
            f"this program has distributed {version}, engines have {', '.join(others)}; dask expects the same version",
            stacklevel=4,
        )
    return able


def _host_for(probes: Sequence[Probe]) -> str:
    """Return the address of this host that all of the engines reach."""
    here = host_identity()
    away = [found.address for found in probes if found.host != here]
    if not away:
        return LOOPBACK
    for address in away:
        if address:
            return address_towards(address)
    raise ClientError(
        "the address of this host for engines on other hosts is not known; give it: become_dask(host='...')"
    )


def check_arguments(nthreads: object, host: object, timeout: object) -> float:
    """Check what ``become_dask`` is given, and return the timeout in seconds.

    :raises TypeError, ValueError: if an argument is invalid.
    """
    check_int("nthreads", nthreads, 1)
    if host is not None and (not isinstance(host, str) or not host or "://" in host):
        raise TypeError(f"host must be a name or an address of this host, or None, not {host!r}")
    limit = check_timeout("timeout", timeout)
    if limit is None:
        raise TypeError("timeout must be a number of seconds, not None")
    return limit
