"""Whether anybody still uses a cluster; no input and output.

It is used while a client is connected, a task or a command waits or runs, or engines are being started.
"""

from __future__ import annotations

from ipython1.kernel.wire.loads import ClusterLoad


class Unused:
    """See the module's text.

    :param limit: after how many seconds without use the cluster is to end; 0 for never.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._since: float | None = None

    def observed(self, now: float, load: ClusterLoad, starting: bool) -> bool:
        """Take what the controller says; return whether the cluster is to end.

        :param now: seconds of any clock that does not jump.
        :param starting: whether engines are being started.
        """
        busy = load.waiting or load.running or any(e.tasks or e.commands for e in load.engines)
        if load.clients or busy or starting:
            self._since = None
            return False
        if self._since is None:
            self._since = now
        # A client may have come and gone since the controller was asked last.
        self._since = max(self._since, now - load.quiet)
        return bool(self.limit) and now - self._since >= self.limit

    def seconds(self, now: float) -> float:
        """For how many seconds nobody has used it."""
        return 0.0 if self._since is None else now - self._since
