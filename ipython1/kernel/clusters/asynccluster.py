"""A cluster from asynchronous Python; the counterpart of :mod:`ipython1.kernel.cluster`.

    async with AsyncCluster(n=4) as cluster:
        mec = await cluster.multiengine()
        print(await mec.get_ids())

It runs in whatever reactor the program runs.  A program of asyncio needs none: its event loop is used.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from ipython1.checks import check_bool, check_int, check_seconds
from ipython1.daemon import osprocess
from ipython1.daemon.link import adopt_connection
from ipython1.kernel.basics.error import ClusterError, ConnectionError, ProtocolError
from ipython1.kernel.clients.asyncclient import get_multiengine_client
from ipython1.kernel.clients.awaitable import AwaitableDeferred, awaitable, use_running_loop
from ipython1.kernel.clusters.arguments import (
    FINISH,
    addition,
    check_limit,
    engine_id,
    id_list,
)
from ipython1.kernel.clusters.cluster import BaseCluster
from ipython1.kernel.clusters.launch import OwnedProcess
from ipython1.kernel.clusters.limits import (
    ANSWER_LIMIT,
    ANSWER_MARGIN,
    REMOVE_LIMIT,
    STOP_LIMIT,
)
from ipython1.kernel.clusters.outcomes import check_started, deadline
from ipython1.kernel.clusters.ownthread import in_own_thread
from ipython1.kernel.clusters.startview import show_line
from ipython1.kernel.clusters.status import ClusterStatus, connect_to
from ipython1.kernel.host.control import decode, encode, error_from_wire, line_buffer, no_answer
from ipython1.kernel.launchers.clusterconfig import title_of


class ControlProtocol(Protocol):
    """The asking side of the control connection.

    :ivar on_event: takes the events of a cluster that is watched.
    :ivar closed: fires when the cluster is gone.
    """

    def __init__(self) -> None:
        self._lines = line_buffer()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Deferred[Any]] = {}
        self._gone = False
        self.on_event: Callable[[dict[str, Any]], object] = lambda event: None
        self.closed: Deferred[None] = Deferred()

    def call(self, do: str, **arguments: Any) -> Deferred[Any]:
        """Give an order; fires with the answer."""
        answer: Deferred[Any] = Deferred()
        if self._gone or self.transport is None:
            answer.errback(ConnectionError("the cluster is gone"))
            return answer
        number = next(self._numbers)
        self._waiting[number] = answer
        self.transport.write(encode({"id": number, "do": do, **arguments}))
        return answer

    def dataReceived(self, data: bytes) -> None:
        try:
            for line in self._lines.feed(data):
                self._take(decode(line))
        except ProtocolError:
            self.close()

    def _take(self, content: dict[str, Any]) -> None:
        if "event" in content:
            self.on_event(content)
            return
        answer = self._waiting.pop(content.get("id", 0), None)
        if answer is None:
            return
        if "error" in content:
            answer.errback(error_from_wire(content["error"]))
        else:
            answer.callback(content.get("value"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gone = True
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            answer.errback(ConnectionError("the cluster is gone"))
        self.closed.callback(None)

    def close(self) -> None:
        """End the connection."""
        if self.transport is not None:
            self.transport.loseConnection()


class AsyncCluster(BaseCluster):
    """As :class:`~ipython1.kernel.cluster.Cluster`, with methods that give Deferreds; asyncio can await them, too.

    It takes the same arguments, and in an ``async with`` statement it is started and stopped.  The methods take the
    arguments of the blocking ones, and wait as long for answers.  They raise errors about arguments at once; every
    other error fails the Deferred.
    """

    _owned: OwnedProcess | None = None
    _control: ControlProtocol | None = None
    _attached = False

    # -- life

    def start(self, timeout: float | None = None) -> AwaitableDeferred:
        """Start it.  What a batch system says of its queue is shown on standard error meanwhile.

        :param timeout: seconds for everything, the time in the queue included; None for no limit.
        :returns: a Deferred that fires with the cluster itself when every engine is usable or has failed, or after
            ``start_timeout`` (60 s by default, from the first usable engine on if engines wait in a queue); it fails
            with :class:`~ipython1.kernel.error.ClusterError` if there is no controller, or if no engine comes up, and
            with :class:`~ipython1.kernel.error.ResultNotCompleted` if none is usable after ``timeout`` seconds.  The
            cluster is stopped then, and its jobs are cancelled.
        """
        check_limit(timeout)
        use_running_loop()
        return awaitable(self._start(timeout))

    async def _start(self, timeout: float | None) -> AsyncCluster:
        if self._control is not None:
            raise ClusterError(f"{title_of(self.cluster_id)} is already started")
        from twisted.internet import reactor

        owned = self._owned = self._start_process()
        self._control = adopt_connection(reactor, owned.connection, ControlProtocol())
        try:
            self._control.on_event = show_line
            self._control.call("watch").addErrback(lambda failure: None)
            limit = None if timeout is None else timeout + ANSWER_MARGIN
            starting = self._control.call("started", until=deadline(timeout))
            outcome = await self._limited(starting, "started", limit)
            check_started(outcome, timeout)
            await self._control.call("watch", on=False)
            if self.detach:
                await self._control.call("detach")
                owned.detach()
                self._owned = None
        except ConnectionError:
            problem = await in_own_thread(owned.error)
            await self._stop()
            raise problem from None
        except BaseException:
            await self._stop()
            raise
        return self

    def stop(self, force: bool = False) -> AwaitableDeferred:
        """End it and everything that it started.  Nothing happens when it has ended.

        :param force: kill everything at once, even if its ``ipcluster`` is stopped or stuck.
        :returns: a Deferred that fires with None when that is gone; it fails with
            :class:`~ipython1.kernel.error.ResultNotCompleted` if its processes do not end within 60 s.
        """
        use_running_loop()
        return awaitable(self._stop(check_bool("force", force)))

    async def _stop(self, force: bool = False) -> None:
        if force:
            await in_own_thread(self._end_by_force)
        await in_own_thread(self._close_monitor)
        control, self._control = self._control, None
        owned, self._owned = self._owned, None
        if control is not None:
            try:
                await self._limited(control.call("stop"), "stop", STOP_LIMIT)
                await self._limited(control.closed, "its end", STOP_LIMIT)
            except ConnectionError:
                pass  # it has ended
            finally:
                control.close()
        if control is not None or owned is not None:
            await in_own_thread(self._wait_until_gone, owned, control is not None)

    async def __aenter__(self) -> AsyncCluster:
        if self._control is None:
            starting = self.start()
            try:
                await starting
            except BaseException:
                # Who was cancelled does not wait for the start any more, but it went on.
                await self.stop()
                raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._attached or self.detach:
            self.close()
        else:
            await self.stop()

    def close(self) -> None:
        """Give up the connection; the cluster goes on if it is detached or was attached to."""
        threading.Thread(target=self._close_monitor).start()
        control, self._control = self._control, None
        if control is not None:
            control.close()

    @classmethod
    def attach(
        cls, cluster_id: str = "", *, ipython_dir: str | os.PathLike[str] | None = None
    ) -> AwaitableDeferred:
        """A cluster that runs already on this host; it goes on when this process ends.

        :param cluster_id: the name of the cluster; empty for the one that was started without a name.
        :param ipython_dir: where its files are; by default ``$IPYTHONDIR``, else ``~/.ipython``.
        :returns: a Deferred that fires with the cluster, or fails with
            :class:`~ipython1.kernel.error.ClusterError` if there is none.
        """

        use_running_loop()

        async def attach() -> AsyncCluster:
            from twisted.internet import reactor

            cluster = cls(cluster_id=cluster_id, ipython_dir=ipython_dir)
            cluster._attached = True
            cluster._control = adopt_connection(
                reactor, connect_to(cluster.files), ControlProtocol()
            )
            # Not by the method, whose result would be asyncio's where asyncio called this.
            cluster._kind = (await cluster._control.call("status"))["kind"]
            return cluster

        return awaitable(attach())

    # -- clients and engines

    def multiengine(self, timeout: float = 10.0) -> AwaitableDeferred:
        """Connect a new ``AsyncMultiEngineClient`` to it.

        :param timeout: seconds within which the connection must be made.
        :returns: a Deferred that fires with the client.
        """
        return get_multiengine_client(str(self.files.multiengine_furl), timeout)

    def task(self, timeout: float = 10.0) -> AwaitableDeferred:
        """Connect a new asynchronous task client to it.

        :param timeout: seconds within which the connection must be made.
        :returns: a Deferred that fires with the client.
        """
        from ipython1.kernel.clients.asyncclient import get_task_client

        return get_task_client(str(self.files.task_furl), timeout)

    def monitor(self) -> AwaitableDeferred:
        """Serve a web page that shows what the cluster does; see
        :meth:`Cluster.monitor <ipython1.kernel.cluster.Cluster.monitor>`.

        :returns: a Deferred that fires with an object with the address in ``url``.
        """
        if self._control is None:
            return self._not_started()
        use_running_loop()
        return awaitable(in_own_thread(self._open_monitor))

    def status(self) -> AwaitableDeferred:
        """Fires with a :class:`~ipython1.kernel.clusters.status.ClusterStatus`."""
        return self._call("status", ClusterStatus.from_json)

    def ids(self) -> AwaitableDeferred:
        """Fires with the ids of the engines that are usable now."""
        return self._call("status", lambda status: list(status["ids"]))

    def add_engines(
        self, n: int | None = None, kind: str | None = None, **options: Any
    ) -> AwaitableDeferred:
        """Start more engines.

        :param n: how many; by default as many as ``hosts`` or ``cluster_file`` say, else one.
        :param kind: how they are started, if in another way than the first.
        :param options: as those of the cluster; what is not given is as it was for the first.
        :returns: a Deferred that fires with the ids of those that are usable when each is usable or has failed; it
            fails with :class:`~ipython1.kernel.error.ClusterError` if none comes up.
        """

        def check(outcome: dict[str, Any]) -> list[int]:
            check_started(outcome)
            return list(outcome["ids"])

        return self._call("add", check, None, **addition(n, kind, options))

    def remove_engines(self, ids: int | Iterable[int], finish: float = FINISH) -> AwaitableDeferred:
        """End engines.

        :param ids: an id, or several.
        :param finish: as for :meth:`Cluster.remove_engines`.
        :returns: a Deferred that fires with None when they are gone.
        """
        limit = check_seconds("finish", finish) + REMOVE_LIMIT
        return self._call("remove", timeout=limit, ids=id_list(ids), within=finish)

    def restart_engine(self, id: int, finish: float = FINISH) -> AwaitableDeferred:
        """End an engine and start it again under its id.

        :param id: the engine's id.
        :param finish: as for :meth:`Cluster.restart_engine`.
        :returns: a Deferred that fires with None when it is usable.
        """
        check_seconds("finish", finish)
        return self._call("restart", timeout=None, engine=engine_id(id), within=finish)

    def restart_controller(self) -> AwaitableDeferred:
        """End the controller in good order and start it again.

        :returns: a Deferred that fires with None when it listens.
        """
        return self._call("restart_controller", timeout=None)

    def wait_for_engines(
        self, n: int | None = None, timeout: float | None = None
    ) -> AwaitableDeferred:
        """Wait until enough engines are usable.

        :param n: how many; None for all that were asked for.
        :param timeout: seconds; None for no limit.
        :returns: a Deferred that fires with the ids of all engines that are usable; it fails with
            :class:`~ipython1.kernel.error.ResultNotCompleted` if there are not enough after that time, and with
            :class:`~ipython1.kernel.error.ClusterError` as soon as it is certain that they do not come.
        """
        if n is not None:
            check_int("n", n, 0)
        check_limit(timeout)
        limit = None if timeout is None else timeout + ANSWER_MARGIN
        return self._call("wait", timeout=limit, count=n, seconds=timeout)

    def signal(self, ids: int | Iterable[int] | str, sig: int | str) -> AwaitableDeferred:
        """Send a signal to the processes of engines.

        :param ids: an id, several, or ``'all'``.
        :param sig: its number or name (``'SIGUSR1'``).
        :returns: a Deferred that fires with None when it is sent.
        """
        chosen = None if ids == "all" else id_list(ids)
        return self._call("signal", ids=chosen, number=osprocess.signal_number(sig))

    def logs(self, id: int | None = None, lines: int = 100) -> AwaitableDeferred:
        """The last lines of a log.

        :param id: the engine's id; None for the controller.
        :param lines: how many lines at most.
        :returns: a Deferred that fires with the lines, joined.
        """
        check_int("lines", lines, 1)
        chosen = None if id is None else engine_id(id)
        return self._call("logs", "\n".join, engine=chosen, lines=lines)

    def _call(
        self,
        do: str,
        finish: Callable[[Any], Any] = lambda value: value,
        timeout: float | None = ANSWER_LIMIT,
        **arguments: Any,
    ) -> AwaitableDeferred:
        if self._control is None:
            return self._not_started()
        use_running_loop()
        answer = self._limited(self._control.call(do, **arguments), do, timeout)
        return awaitable(answer.addCallback(finish))

    def _limited(self, answer: Deferred[Any], do: str, timeout: float | None) -> Deferred[Any]:
        """Let an answer fail with :class:`ResultNotCompleted` if it does not come in time."""
        if timeout is None:
            return answer
        from twisted.internet import reactor

        def too_late(result: Any, seconds: float) -> Any:
            if isinstance(result, Failure) and result.check(CancelledError):
                raise self._explained(no_answer(do))
            return result

        clock: Any = reactor
        return answer.addTimeout(timeout, clock, too_late)

    def _not_started(self) -> AwaitableDeferred:
        result = AwaitableDeferred()
        result.errback(
            ClusterError(f"{title_of(self.cluster_id)} is not started; await start() first")
        )
        return result
