"""A joblib backend: programs and libraries that use ``joblib.Parallel`` run on a cluster unchanged.

    >>> from ipython1.kernel.joblibbackend import register_joblib_backend
    >>> register_joblib_backend()
    >>> with joblib.parallel_config('ipython1'):
    ...     joblib.Parallel(n_jobs=4)(joblib.delayed(pow)(2, n) for n in range(4))
    [1, 2, 4, 8]

joblib 1.4 or newer must be installed here and on the engines' hosts.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty
from typing import Any

try:
    from joblib import register_parallel_backend
    from joblib.parallel import (
        AutoBatchingMixin,
        FallbackToBackend,
        ParallelBackendBase,
        SequentialBackend,
    )
except ImportError as problem:
    raise ImportError(
        f"the joblib backend needs joblib 1.4 or newer ({problem}); install it with: pip install 'joblib>=1.4'",
        name="joblib",
    ) from problem

from ipython1.kernel.basics.error import NoEnginesRegistered
from ipython1.kernel.calls.twistedutil import reactor_in_thread
from ipython1.kernel.clients.multiengineclient import MultiEngineClient
from ipython1.kernel.futures.arguments import make_preparation
from ipython1.kernel.futures.executorfuture import EngineFuture
from ipython1.kernel.futures.executors import EngineExecutor
from ipython1.kernel.futures.progress import BatchProgress
from ipython1.kernel.objects.enginewaits import waiting
from ipython1.kernel.objects.executorcalls import Preparation
from ipython1.kernel.objects.joblibcalls import Batch, Unlimited
from ipython1.notebook.frontend import person_waits


class _Client:
    """The client that the backends of one registration share.

    :param client: None to create one at first use, and again if its connection is lost.
    :ivar name: the name of the backend.
    """

    def __init__(self, client: Any, name: str) -> None:
        self.name = name
        self._client = client
        self._own = client is None
        self._lock = threading.Lock()

    def get(self) -> Any:
        with self._lock:
            if self._client is None or (self._own and not self._client.connected):
                self._client = MultiEngineClient()
            return self._client


class ClusterBackend(AutoBatchingMixin, ParallelBackendBase):
    """Runs the batches of one ``joblib.Parallel`` through an executor.

    A ``Parallel`` nested in a batch runs on the engine in threads; deeper levels run sequentially.

    :param client: provides the client.
    :param inner_max_num_threads: the number of threads that BLAS and OpenMP may use on each engine; default: no limit.
    :param targets: the engines; default: all.
    :param initializer: a function that each engine calls once, before its first batch; default: None.
    :param initargs: its arguments, a tuple; default: none.
    """

    supports_inner_max_num_threads = True
    supports_retrieve_callback = True
    supports_sharedmem = False
    uses_threads = False
    default_n_jobs = -1

    def __init__(
        self,
        client: _Client,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        targets: Any = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Sequence[Any] = (),
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._clients = client
        self._targets = targets
        self._preparation = make_preparation(initializer, initargs)
        self._executor: EngineExecutor | None = None
        self._watched = False
        self._told_unlimited = False
        self._wait: waiting | None = None
        self._progress: BatchProgress | None = None
        self.parallel: Any = None

    def _make_executor(
        self, most: int | None, preparation: Preparation | None = None
    ) -> EngineExecutor:
        client = self._clients.get()
        if self._targets is None:
            executor: EngineExecutor = client.executor(max_workers=most, initializer=preparation)
        elif not hasattr(client, "targets"):
            raise TypeError(
                "targets require a MultiEngineClient; the controller chooses the engines for tasks of a TaskClient"
            )
        else:
            executor = client.executor(self._targets, max_workers=most, initializer=preparation)
        return executor

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return the number of batches that run at the same time.

        :param n_jobs: that number; -1 for all engines, -2 for all but one, and so on; None for 1.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs > 0:
            return n_jobs
        executor = self._executor or self._make_executor(None)
        engines = len(executor.engine_ids)
        if executor is not self._executor:
            executor.shutdown(wait=False)
        if not engines:
            raise NoEnginesRegistered(
                "no engine is registered with the controller; start some (ipengine, or ipcluster engines -n 4)"
            )
        if engines == 1 and n_jobs == -1:
            # With one job joblib would run everything in this process, but the engine was requested.
            return 2
        return max(engines + 1 + n_jobs, 1)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: Any = None,
        require: Any = None,
        *,
        targets: Any = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Sequence[Any] = (),
        **options: Any,
    ) -> int:
        """Prepare for a ``Parallel``, and return the number of jobs.

        :param targets, initializer, initargs: replace those of the backend if the ``Parallel`` names them.
        """
        if targets is not None:
            self._targets = targets
        if initializer is not None:
            self._preparation = make_preparation(initializer, initargs)
        number = self.effective_n_jobs(n_jobs)
        if number == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        self._watched = person_waits()
        self._executor = self._make_executor(None if n_jobs == -1 else number, self._preparation)
        return number

    def start_call(self) -> None:
        """Prepare for a call of the ``Parallel``.

        A failed call may have left batches that are ready to be submitted; joblib would run them now.
        """
        ready = getattr(self.parallel, "_ready_batches", None)
        while ready is not None:
            try:
                ready.get(block=False)
            except Empty:
                break
        self._progress = BatchProgress("joblib", self._count) if self._watched else None
        if self._executor is not None:
            # joblib waits in a loop of its own.
            self._wait = waiting(self._executor)
            self._wait.__enter__()

    def stop_call(self) -> None:
        """End a call of the ``Parallel``."""
        progress, self._progress = self._progress, None
        if progress is not None:
            progress.close()
        wait, self._wait = self._wait, None
        if wait is not None:
            wait.__exit__(None, None, None)

    def _count(self) -> tuple[int, int]:
        """Return how many calls are done, and of how many; 0 as long as joblib does not know that."""
        parallel: Any = self.parallel
        done = int(getattr(parallel, "n_completed_tasks", 0))
        total = getattr(parallel, "n_tasks", None)
        if total is None and getattr(parallel, "_original_iterator", None) is None:
            total = getattr(parallel, "n_dispatched_tasks", None)
        return done, int(total or 0)

    def submit(self, func: Callable[[], Any], callback: Any = None) -> EngineFuture:
        """Run a batch on an engine."""
        assert self._executor is not None
        batch = Batch(func, self._clients.name, self.inner_max_num_threads)
        future = self._executor.submit(batch)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def apply_async(self, func: Callable[[], Any], callback: Any = None) -> EngineFuture:
        """Run a batch on an engine; joblib 1.4 calls this instead of :meth:`submit`."""
        return self.submit(func, callback)

    def retrieve_result_callback(self, out: EngineFuture) -> Any:
        """Return the results of a batch, or raise its error; joblib calls this in a thread of the executor."""
        progress = self._progress
        if progress is not None:
            progress.update([out.show_output] if out.stdout or out.stderr else [])
        elif self._watched:
            out.show_output()
        value = out.result()
        if not isinstance(value, Unlimited):
            return value
        if not self._told_unlimited:
            self._told_unlimited = True
            warnings.warn(
                f"engine {out.engine_id} has no threadpoolctl, so inner_max_num_threads has no effect there; "
                "install it on the engines' hosts with: pip install threadpoolctl",
                RuntimeWarning,
                stacklevel=2,
            )
        return value.value

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel batches that have not begun, and interrupt those that run."""
        executor = self._executor
        if executor is not None and not reactor_in_thread.trouble():
            executor.abort()
        self.terminate()
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)

    def terminate(self) -> None:
        """End the use of the executor; engines and client are not affected."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)
        self.reset_batch_stats()


def register_backend(client: Any, name: str, make_default: bool) -> None:
    """Register a backend, as :func:`~ipython1.kernel.clients.factories.register_joblib_backend` does."""
    factory = partial(ClusterBackend, _Client(client, name))
    register_parallel_backend(name, factory, make_default)
