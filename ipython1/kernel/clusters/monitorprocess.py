"""A monitor's page that belongs to this process: served by a process of its own, which this one is not slowed by."""

from __future__ import annotations

import html
import json
import time
from typing import Final

from ipython1.kernel.basics.error import ClusterError, ResultNotCompleted
from ipython1.kernel.clusters.launch import OwnedProcess
from ipython1.kernel.host.security import ClusterFiles

START_LIMIT: Final = 60.0
"""Seconds that the server may take to start."""

END_LIMIT: Final = 10.0
"""Seconds that it may take to end."""


class Monitor:
    """A web page that shows what a cluster does; see :meth:`Cluster.monitor <ipython1.kernel.cluster.Cluster.monitor>`.

    It ends with the cluster, with this process, and when it is closed.  In a ``with`` statement it is closed at the
    end.  Notebooks show it as a link.

    :ivar url: the page's address.  Who has it can see everything that the page shows.
    """

    def __init__(self, files: ClusterFiles) -> None:
        self._owned = OwnedProcess(
            [
                "monitor",
                "--no-browser",
                f"--ipython-dir={files.dirs.ipython_dir}",
                f"--cluster-id={files.cluster_id}",
            ]
        )
        try:
            self.url: str = self._read_url()
        except BaseException:
            self.close()
            raise

    def _read_url(self) -> str:
        connection, line = self._owned.connection, b""
        until = time.monotonic() + START_LIMIT
        try:
            while not line.endswith(b"\n"):
                connection.settimeout(max(until - time.monotonic(), 0.01))
                part = connection.recv(4096)
                if not part:
                    raise ConnectionResetError
                line += part
        except TimeoutError:
            raise ResultNotCompleted(
                f"the monitor's page was not there within {START_LIMIT:g} s"
            ) from None
        except OSError:
            problem = self._owned.error()
            raise problem from None
        return str(json.loads(line)["url"])

    @property
    def is_open(self) -> bool:
        """Whether the page is served."""
        return self._owned.process.poll() is None

    def close(self) -> None:
        """Serve it no longer; nothing happens when it is closed already.

        :raises ClusterError: if its process does not end.
        """
        self._owned.connection.close()
        if not self._owned.wait(END_LIMIT):
            self._owned.process.kill()
            if not self._owned.wait(END_LIMIT):
                raise ClusterError(f"process {self._owned.process.pid}, a monitor, does not end")

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Monitor at {self.url}>" if self.is_open else "<Monitor, closed>"

    def _repr_html_(self) -> str:
        if not self.is_open:
            return html.escape(repr(self))
        url = html.escape(self.url)
        return f'<a href="{url}" target="_blank" rel="noopener noreferrer">Cluster monitor</a>'


class HasMonitor:
    """A cluster object, of which there is one monitor at a time.

    :ivar files: the cluster's.
    """

    _monitor: Monitor | None = None

    @property
    def files(self) -> ClusterFiles:
        raise NotImplementedError

    def _open_monitor(self) -> Monitor:
        if self._monitor is None or not self._monitor.is_open:
            self._monitor = Monitor(self.files)
        return self._monitor

    def _close_monitor(self) -> None:
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            monitor.close()
