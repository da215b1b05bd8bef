"""A cluster in the test's own process, with the ordinary blocking clients: it starts in milliseconds.

    >>> from ipython1.testing import InProcessCluster
    >>> with InProcessCluster(2) as cluster:
    ...     mec = cluster.multiengine()
    ...     print(mec.map(abs, [-1, 2, -3]))
    [1, 2, 3]

Controller, messages and clients are the real ones, but there are no sockets and no other processes.  Every engine is a
thread.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from ipython1.kernel.basics.error import ClusterError, InvalidEngineID, KernelError
from ipython1.kernel.basics.taskinterfaces import ITaskController
from ipython1.kernel.calls.clientlink import ClientEnd
from ipython1.kernel.calls.connect import Connection
from ipython1.kernel.calls.twistedutil import blockingCallFromThread, reactor_in_thread
from ipython1.kernel.clients.multiengineclient import MultiEngineClient
from ipython1.kernel.clients.taskclient import TaskClient
from ipython1.kernel.controller.controllerservice import ControllerService
from ipython1.kernel.controller.enginefc import FCEngines
from ipython1.kernel.controller.multiengine import IMultiEngine
from ipython1.kernel.controller.multienginefc import IFCMultiEngine
from ipython1.kernel.controller.taskfc import IFCTaskController
from ipython1.kernel.host.hosts import host_identity
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.link import FrameLink
from ipython1.testing.memory import ReactorPump, connect_in_memory
from ipython1.testing.numbers import check_engines
from ipython1.testing.threadengine import ThreadEngine

END_LIMIT: Final = 1.0
"""Seconds that the engines' threads get to end."""


class _EndingPump(ReactorPump):
    """Makes all calls in the reactor's thread until it is ended."""

    def __init__(self) -> None:
        super().__init__()
        self._delayed: weakref.WeakSet[Any] = weakref.WeakSet()

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kw: object
    ) -> Any:
        call = super().callLater(delay, callable, *args, **kw)
        self._delayed.add(call)
        return call

    def end(self) -> None:
        """Make no delayed call any more."""
        for call in list(self._delayed):
            if call.active():
                call.cancel()


class _Controller:
    """The controller and its faces; lives in the reactor's thread."""

    def __init__(self, pump: _EndingPump) -> None:
        service = ControllerService(pump, request_stop=self.end)
        self.service = service
        self.engines = FCEngines(service)
        self.faces: dict[str, Any] = {
            messages.MULTIENGINE: IFCMultiEngine(IMultiEngine(service)),
            messages.TASK: IFCTaskController(ITaskController(service)),
        }
        self.links: list[FrameLink] = []
        self.ended = False
        service.recover()

    def end(self) -> None:
        """A client has ended it."""
        self.ended = True
        for link in self.links:
            link.abort("the controller ended")
        self.links.clear()


class InProcessCluster:
    """A controller and engines in this process; start it in a ``with`` statement, or call :meth:`start` and
    :meth:`stop`.

    The engines run plain Python, each in a thread with a namespace of its own.  They share with the test everything
    that a process has once: imported modules and their globals, the working directory, environment variables.

    :param n: the number of engines.
    :raises ValueError: if ``n`` is not a whole number of 1 or more.
    """

    def __init__(self, n: int = 4) -> None:
        self.n: int = check_engines(n, "n")
        self._pump = _EndingPump()
        self._controller: _Controller | None = None
        self._engines: dict[int, ThreadEngine] = {}
        self._clients: list[MultiEngineClient | TaskClient] = []

    def start(self) -> InProcessCluster:
        """Start it.

        :returns: the cluster itself.
        :raises ClusterError: if it is already started.
        """
        if self._controller is not None:
            raise ClusterError("this cluster is already started")
        self._controller = blockingCallFromThread(_Controller, self._pump)
        for _ in range(self.n):
            self.add_engine()
        return self

    def stop(self) -> None:
        """End it: close the clients that it made, and end the engines.  Nothing happens when it has ended."""
        if self._controller is None:
            return
        for client in self._clients:
            with contextlib.suppress(KernelError):
                client.close()
        self._clients.clear()
        engines = list(self._engines.values())
        self._engines.clear()
        for engine in engines:
            blockingCallFromThread(engine.die)
        limit = time.monotonic() + END_LIMIT
        for engine in engines:
            engine.wait_ended(limit - time.monotonic())
        blockingCallFromThread(self._pump.end)
        self._controller = None

    def __enter__(self) -> InProcessCluster:
        return self if self._controller is not None else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # -- clients

    def multiengine(self) -> MultiEngineClient:
        """Connect a new ``MultiEngineClient`` to it; it is closed with the cluster.

        :raises ClusterError: if the cluster is not started.
        """
        client = MultiEngineClient(self._connect(messages.MULTIENGINE))
        self._clients.append(client)
        return client

    def task(self) -> TaskClient:
        """Connect a new ``TaskClient`` to it; it is closed with the cluster.

        :raises ClusterError: if the cluster is not started.
        """
        client = TaskClient(self._connect(messages.TASK))
        self._clients.append(client)
        return client

    def _connect(self, role: str) -> Connection:
        controller = self._started()
        face = controller.faces[role]
        origin = uuid.uuid4()
        end = ClientEnd(origin.bytes)
        hello = messages.Hello(
            uuid=origin.hex,
            pid=os.getpid(),
            host=host_identity(),
            role=role,
            secret=messages.new_secret(),
        )

        def connect() -> None:
            session = face.accept(hello)
            link, there = connect_in_memory(self._pump, end, session)
            controller.links.append(link)
            end.attach(link, session.attach(there))
            session.opened()

        blockingCallFromThread(connect)
        return Connection(reactor_in_thread.start(), None, end, "this process")

    # -- engines

    @property
    def ids(self) -> list[int]:
        """The ids of the engines that are usable now."""
        service = self._started().service
        return sorted(blockingCallFromThread(lambda: list(service.engines)))

    def add_engine(self) -> int:
        """Start another engine.

        :returns: its id.
        :raises ClusterError: if the cluster is not started.
        """
        face = self._started().engines
        engine = blockingCallFromThread(lambda: ThreadEngine(face, self._pump))
        self._engines[engine.id] = engine
        return int(engine.id)

    def kill_engine(self, id: int) -> None:
        """End an engine as ``kill -9`` does: what it ran fails with ``EngineDied``, or runs again on another one.

        No engine takes its place.

        :raises InvalidEngineID: if there is no such engine.
        :raises ClusterError: if the cluster is not started.
        """
        self._started()
        engine = self._engines.pop(id, None)
        if engine is None:
            known = ", ".join(map(str, sorted(self._engines))) or "none"
            raise InvalidEngineID(f"there is no engine {id!r}; there are: {known}")
        blockingCallFromThread(engine.die)
        # Until the controller has noticed.
        blockingCallFromThread(lambda: None)

    def _started(self) -> _Controller:
        if self._controller is None:
            raise ClusterError(
                "this cluster is not started; call start(), or use it in a with statement"
            )
        if self._controller.ended:
            raise ClusterError("the controller of this cluster has ended")
        return self._controller
