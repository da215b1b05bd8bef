"""What an engine does for the joblib backend; joblib itself is imported only by code that uses it."""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Final

DEFAULT_NAME: Final = "ipython1"
"""The name of the backend, unless a client registers it under another one."""

_PARALLEL: Final = "joblib.parallel"


def offer_nested_backend() -> None:
    """Have joblib know the backend's name on this engine as soon as it is imported."""
    if _PARALLEL in sys.modules:
        name_nested_backend(DEFAULT_NAME)
    else:
        sys.meta_path.insert(0, _JoblibFinder())


def name_nested_backend(name: str) -> None:
    """Have ``name`` mean threads on this engine, unless joblib knows a backend of this name.

    An engine that sent calls to its own cluster might wait for itself.
    """
    from joblib.parallel import (
        BACKENDS,
        FallbackToBackend,
        SequentialBackend,
        ThreadingBackend,
        register_parallel_backend,
    )

    if name in BACKENDS:
        return

    class NestedBackend(ThreadingBackend):
        """Threads in a call on an engine, and sequential loops in calls of these."""

        supports_inner_max_num_threads = True

        def __init__(
            self,
            nesting_level: int | None = None,
            inner_max_num_threads: int | None = None,
            **options: Any,
        ) -> None:
            super().__init__(
                nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads
            )

        def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
            level = self.nesting_level or 0
            if level > 1:
                raise FallbackToBackend(SequentialBackend(nesting_level=level))
            number: int = super().configure(n_jobs, parallel)
            return number

    register_parallel_backend(name, NestedBackend)


class _JoblibFinder(importlib.abc.MetaPathFinder):
    """Finds ``joblib.parallel`` once, so that the backend can be named when it has been loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _PARALLEL:
            return None
        with contextlib.suppress(ValueError):  # another thread may have been faster
            sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        loader: Any = None if spec is None else spec.loader
        if loader is not None:
            load = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                load(module)
                with contextlib.suppress(Exception):  # an old joblib may be imported, too
                    name_nested_backend(DEFAULT_NAME)

            loader.exec_module = exec_module
        return spec


class Unlimited:
    """The result of a batch whose threads could not be limited.

    :ivar value: what the batch returned.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value: Any = value

    def __reduce__(self) -> Any:
        return Unlimited, (self.value,)


class Batch:
    """A batch of calls, with what is to be set up around it.

    :param call: runs the calls.
    :param name: the backend's name in the client.
    :param threads: the number of threads that BLAS and OpenMP may use; None for no limit.
    """

    def __init__(self, call: Callable[[], Any], name: str, threads: int | None) -> None:
        self._call = call
        self._name = name
        self._threads = threads

    def __call__(self) -> Any:
        __tracebackhide__ = True
        name_nested_backend(self._name)
        if self._threads is None:
            return self._call()
        try:
            from threadpoolctl import threadpool_limits
        except ImportError:
            return Unlimited(self._call())
        with threadpool_limits(self._threads):
            return self._call()
