"""A cluster of processes for tests, in an IPython directory of its own that goes with it.

>>> from ipython1.testing import TemporaryCluster
>>> with TemporaryCluster(2) as cluster:
...     mec = cluster.multiengine()
...     mec.push({'a': 1})
...     cluster.reset()
...     print(cluster.multiengine().keys())
[None, None]
[[], []]
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ipython1.kernel.basics.error import (
    ClusterError,
    CompositeError,
    EngineDied,
    KernelError,
    ResultNotCompleted,
)
from ipython1.kernel.clients.multiengineclient import MultiEngineClient
from ipython1.kernel.clients.taskclient import TaskClient
from ipython1.kernel.clusters.cluster import Cluster
from ipython1.testing.enginestate import put_back
from ipython1.testing.numbers import check_engines

RESET_LIMIT: Final = 5.0
"""Seconds that an engine gets to end what it runs and to be emptied; one that needs longer is restarted."""

ATTEMPTS: Final = 3
"""How often a reset is tried, as engines may still be dying of what the last test did."""

LOG_LINES: Final = 60
"""The lines that are shown of each log, at most."""

_LOOK_EVERY: Final = 0.01
"""Seconds between looks whether an engine that was killed is gone."""


class TemporaryCluster(Cluster):
    """A :class:`~ipython1.kernel.client.Cluster` of processes on this host, in a temporary IPython directory.

    It can be reset, so that many tests use it one after the other.  Engines find the modules that this process finds.
    Clients that it made are closed by :meth:`reset` and :meth:`stop`; the directory goes with :meth:`stop`, which
    comes at the end of the process at the latest.

    :param n: the number of engines; their ids are ``0`` to ``n - 1``.
    :param options: as those of ``Cluster``.
    :raises ValueError: if ``n`` is not a whole number of 1 or more.
    """

    def __init__(self, n: int = 2, **options: Any) -> None:
        self._n = check_engines(n, "n")
        self._directory = Path(tempfile.mkdtemp(prefix="ipython1-test-"))
        # Where Ctrl-C comes before anybody can stop it, and once more where something was written while it ended.
        weakref.finalize(self, _remove, self._directory, os.getpid())
        self._admin: tuple[MultiEngineClient, TaskClient] | None = None
        self._made: list[MultiEngineClient | TaskClient] = []
        super().__init__(n, cluster_id="", ipython_dir=self._directory, **options)

    @property
    def n(self) -> int:
        """The number of engines that it has after its start and after each reset."""
        return self._n

    @property
    def ipython_dir(self) -> Path:
        """Its IPython directory."""
        return self._directory

    def start(self, timeout: float | None = None) -> TemporaryCluster:
        """Start it; see ``Cluster.start``."""
        try:
            super().start(timeout)
            self._put_back()
        except BaseException:
            self.stop()
            raise
        return self

    def __enter__(self) -> TemporaryCluster:
        super().__enter__()
        return self

    def stop(self, force: bool = False) -> None:
        """End it and everything that it started, and remove its directory."""
        try:
            self._close_made()
            self.disconnect()
        finally:
            try:
                super().stop(force)
            finally:
                _remove(self._directory, os.getpid())

    # -- clients

    def multiengine(self, timeout: float = 10.0) -> MultiEngineClient:
        """Connect a new ``MultiEngineClient`` to it; see ``Cluster.multiengine``."""
        client = super().multiengine(timeout)
        self._made.append(client)
        return client

    def task(self, timeout: float = 10.0) -> TaskClient:
        """Connect a new ``TaskClient`` to it; see ``Cluster.task``."""
        client = super().task(timeout)
        self._made.append(client)
        return client

    def _close_made(self) -> None:
        while self._made:
            with contextlib.suppress(KernelError):
                self._made.pop().close()

    # -- engines

    def add_engines(
        self, n: int | None = None, kind: str | None = None, **options: Any
    ) -> list[int]:
        """Start more engines; see ``Cluster.add_engines``.  They go at the next reset."""
        ids = super().add_engines(n, kind, **options)
        self._prepare(ids)
        return ids

    def restart_engine(self, id: int, finish: float = 0.0) -> None:
        """End an engine, if it has not ended, and start it again under its id; see ``Cluster.restart_engine``."""
        super().restart_engine(id, finish)
        self._prepare([id])

    def _prepare(self, ids: list[int]) -> None:
        """Have new engines find the modules that this process finds."""
        mec, _ = self._admins()
        mec[ids].apply(put_back, _search_path()).get_result()

    def kill_engine(self, id: int) -> None:
        """Kill an engine's process; returns when the controller has noticed.

        What it ran fails with ``EngineDied``, or runs again on another engine.  Another process takes its place at the
        next reset.

        :raises InvalidEngineID: if there is no such engine.
        """
        self.signal(id, signal.SIGKILL)
        limit = time.monotonic() + RESET_LIMIT
        while id in self.ids:
            if time.monotonic() > limit:
                raise ResultNotCompleted(f"engine {id} is still there {RESET_LIMIT:g} s after kill")
            time.sleep(_LOOK_EVERY)

    # -- between tests

    def reset(self, fresh: bool = False) -> None:
        """Make it as it was after its start: no tasks, no queues, empty namespaces and properties, ``n`` engines.

        Each engine's working directory, environment variables and ``sys.path`` are put back, too.  Modules that it has
        imported stay imported, and what it has changed in them, its threads and files stay as they are.

        :param fresh: have new processes for the engines, in which nothing is left.
        :raises ClusterError: if that does not succeed.
        """
        self._close_made()
        for attempt in range(ATTEMPTS):
            try:
                self._reset(fresh)
            except (CompositeError, EngineDied, ResultNotCompleted) as problem:
                if attempt == ATTEMPTS - 1:
                    raise ClusterError(f"the cluster cannot be reset: {problem}") from problem
            else:
                # One may have ended by itself meanwhile.
                if self.ids == list(range(self._n)):
                    return
        raise ClusterError(f"the cluster cannot be reset: its engines {self.ids} do not stay")

    def _reset(self, fresh: bool) -> None:
        mec, tc = self._admins()
        mec.clear_queue().get_result(timeout=RESET_LIMIT)  # or the controller does not answer
        status = tc.queue_status(verbose=True)
        unfinished = [*status["scheduled"], *status["pending"]]
        for task_id in unfinished:
            with contextlib.suppress(IndexError):  # it is done
                tc.abort(task_id)
        tc.barrier(unfinished, RESET_LIMIT)
        tc.clear([*unfinished, *status["succeeded"], *status["failed"]])
        self._restore_number(set(range(self._n)) if fresh else set())
        self._put_back()

    def _restore_number(self, unwanted: set[int]) -> None:
        """Have engines ``0`` to ``n - 1`` again, with new processes for the ``unwanted`` ones."""
        wanted = set(range(self._n))
        present = set(self.ids)
        if present - wanted:
            self.remove_engines(sorted(present - wanted), finish=0)
        for engine_id in sorted((wanted - present) | unwanted):
            self.restart_engine(engine_id)

    def _put_back(self) -> None:
        mec, _ = self._admins()
        mec.clear_queue(block=True)
        mec.interrupt(block=True)
        calls = [mec.reset(), mec.clear_properties(), mec.apply(put_back, _search_path())]
        limit = time.monotonic() + RESET_LIMIT
        try:
            for call in calls:
                call.get_result(timeout=max(limit - time.monotonic(), 0.1))
        except ResultNotCompleted:
            rows = mec.queue_status(block=True)
            stuck = {engine_id for engine_id, row in rows if row["pending"] is not None}
            self._restore_number(stuck)
            raise

    def _admins(self) -> tuple[MultiEngineClient, TaskClient]:
        """The clients with which it is reset."""
        if self._admin is None:
            self._admin = super().multiengine(), super().task()
            self._admin[0].block = False
        return self._admin

    def disconnect(self) -> None:
        """Close the connections over which it is reset; they are made again when they are needed."""
        admin, self._admin = self._admin, None
        for client in admin or ():
            with contextlib.suppress(KernelError):
                client.close()

    # -- for code and people

    @contextlib.contextmanager
    def as_default(self) -> Iterator[None]:
        """A context in which clients of this process that name no cluster find this one."""
        before = os.environ.get("IPYTHONDIR")
        os.environ["IPYTHONDIR"] = str(self._directory)
        try:
            yield
        finally:
            if before is None:
                os.environ.pop("IPYTHONDIR", None)
            else:
                os.environ["IPYTHONDIR"] = before

    def log_sizes(self) -> dict[str, int]:
        """How long its log files are now, in bytes; for :meth:`logged_since`."""
        return {path.name: path.stat().st_size for path in self._log_files()}

    def logged_since(self, sizes: dict[str, int]) -> str:
        """What its processes have logged since their log files were so long; of each the last lines."""
        parts = []
        for path in self._log_files():
            try:
                with path.open("rb") as file:
                    file.seek(sizes.get(path.name, 0))
                    lines = file.read().decode(errors="replace").splitlines()
            except FileNotFoundError:  # it ends meanwhile
                continue
            if lines:
                parts.append("\n".join([f"== {path.name}", *lines[-LOG_LINES:]]))
        return "\n".join(parts)

    def _log_files(self) -> list[Path]:
        return sorted((self._directory / "log").glob("*.log"))


def _remove(directory: Path, pid: int) -> None:
    """Remove a directory of this process; a forked child leaves it alone."""
    if os.getpid() == pid:
        shutil.rmtree(directory, ignore_errors=True)


def _search_path() -> list[str]:
    """Where this process finds modules."""
    return [os.path.abspath(each) for each in sys.path if each]
