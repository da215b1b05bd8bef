"""The blocking client for those who may only look at a controller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ipython1.kernel.calls.connect import connect_blocking
from ipython1.kernel.calls.resultlist import QueueStatusList
from ipython1.kernel.calls.twistedutil import blockingCallFromThread
from ipython1.kernel.wire.messages import MONITOR
from ipython1.kernel.wire.monitoring import (
    EngineInfo,
    HistoryEntry,
    News,
    unpack_entries,
    unpack_news,
)


class MonitorClient:
    """A blocking client of a controller's Monitor interface, which tells how things are and changes nothing.

    :param furl_or_file: a FURL, a FURL file, a cluster id, a tuple ``(host, port)``, or empty (default) for the default
        FURL file.
    :param timeout: the maximum time to connect, in seconds; default: 10.
    :param reconnect_timeout: how long calls wait for a controller that is out of reach, in seconds; default: the
        setting of the ini file, which is 300; 0 to fail at once.
    :param ssh: a host to log in to with ``ssh``, if the controller can be reached only from there:
        what ``ssh`` accepts, ``[user@]host:port``, or a list with the command, its options and the host.  The FURL file
        is read there.  Default: none.
    :raises SecurityError: if the FURL cannot be found or read, or the controller refuses it.
    :raises ConnectionError: if the controller does not answer.
    """

    def __init__(
        self,
        furl_or_file: Any = "",
        timeout: float = 10.0,
        *,
        reconnect_timeout: float | None = None,
        ssh: str | Sequence[str] | None = None,
    ) -> None:
        self._connection = connect_blocking(furl_or_file, MONITOR, timeout, reconnect_timeout, ssh)
        if self._connection is not furl_or_file:
            self._connection.close_when_unused()

    @property
    def connected(self) -> bool:
        """Whether the client is connected to the controller."""
        return self._connection.end.connected

    def get_ids(self) -> list[int]:
        """Return the ids of all engines, sorted."""
        return list(self._ask("get_ids"))

    def engines(self) -> list[EngineInfo]:
        """Return all engines: where they are, and what they do."""
        return unpack_entries(EngineInfo, self._ask("engines"))

    def queue_status(self, targets: Sequence[int] | None = None) -> QueueStatusList:
        """Return the queues of engines: the methods of commands, not what they are called with.

        :param targets: ids; default: all.
        :raises InvalidEngineID: if there is no such engine.
        """
        wanted = None if targets is None else list(targets)
        return QueueStatusList(
            (engine_id, status) for engine_id, status in self._ask("queue_status", targets=wanted)
        )

    def task_status(self, verbose: bool = False) -> dict[str, Any]:
        """Return how many tasks are scheduled, pending, succeeded and failed; or their ids."""
        return dict(self._ask("task_status", verbose=verbose))

    def news(self, mark: int = 0) -> News:
        """Return what has changed since an earlier look: engines, counts of tasks, work, a timeline, failures.

        Call it again and again, up to ten times in a second, each time with the ``mark`` of the answer before; begin
        with 0.  If the controller does not know that mark, because it was started again or nobody has asked for ten
        seconds, the answer has everything, which its ``whole`` says.  The first answer after a pause takes a quarter of
        a second, in which the controller measures rates.

        An answer has only so many spans, and only so much of what changes all the time; the rest follows with the next
        ones.

        :param mark: the ``mark`` of the last answer; default: 0, for everything.
        """
        return unpack_news(self._ask("news", mark=mark))

    def history(self, limit: int = 100, before: float | None = None) -> list[HistoryEntry]:
        """Return what was run, the latest first, as far as the controller's journal goes back.

        A controller without a journal knows only the tasks whose results it has in memory, and no commands.

        :param limit: how many entries, 10,000 at most.
        :param before: only what was done before this time, in seconds since the epoch; default: everything.
        """
        return unpack_entries(HistoryEntry, self._ask("history", limit=limit, before=before))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close_blocking()

    def __enter__(self) -> MonitorClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<MonitorClient of {self._connection.location}>"

    def _ask(self, name: str, **args: Any) -> Any:
        return blockingCallFromThread(self._connection.end.ask, name, **args)
