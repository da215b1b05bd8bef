"""``ipcluster monitor``: serve a web page that shows what a cluster does."""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import sys
import threading
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from ipython1.daemon.handover import take
from ipython1.daemon.link import adopt_connection
from ipython1.kernel.basics.error import KernelError
from ipython1.kernel.host import logs
from ipython1.kernel.host.commonconfig import STANDARD_ERROR
from ipython1.kernel.host.security import ClusterFiles, IPythonDirs
from ipython1.kernel.launchers.clusterconfig import title_of
from ipython1.kernel.scripts import arguments
from ipython1.kernel.scripts.look import MONITOR_FURL, place_of
from ipython1.kernel.watching.admission import metrics_token
from ipython1.kernel.watching.browser import RedirectFile, has_browser, open_browser
from ipython1.kernel.watching.logtails import LogTails
from ipython1.kernel.watching.server import MonitorServer
from ipython1.kernel.watching.source import ControllerNews

TOKEN_FILE = "ipmonitor.token"
LOG_FILE = "ipmonitor.log"

REDIRECT_KEPT = 120.0
"""Seconds that a browser may take to open the private file."""

DESCRIPTION = """\
Serve a web page that shows what a cluster does, until Ctrl-C.

The page cannot change anything.  It is served to this host only, and only to
who has the address that is printed.

  ipcluster monitor                 open the page in your browser
  ipcluster monitor --no-browser --port=8888
                                    only print its address, with a port to
                                    forward: ssh -L 8888:127.0.0.1:8888 HOST
"""


def make_parser() -> arguments.OneLineParser:
    """The command line of ``ipcluster monitor``."""
    parser = arguments.make_parser("ipcluster monitor", DESCRIPTION)
    parser.add_argument(
        "--port",
        type=arguments.port,
        default=0,
        metavar="PORT",
        help="the port of this host on which the page is served (default: any free port)",
    )
    parser.add_argument(
        "--no-browser", action="store_true", help="do not open the page in a browser"
    )
    parser.add_argument(
        "--furl-file",
        type=arguments.file,
        metavar="FILE",
        help=f"the FURL file of the controller's Monitor interface (default: {MONITOR_FURL} in the directory's "
        "security/)",
    )
    parser.add_argument("--owner-fd", type=int, default=-1, help=argparse.SUPPRESS)
    return parser


def run(given: argparse.Namespace) -> int:
    """Serve the page; returns the exit status when that is over.

    :param given: the command line.
    :raises KernelError: why it cannot be done.
    """
    from twisted.internet import reactor

    files = ClusterFiles(IPythonDirs.resolve(given.ipython_dir), given.cluster_id)
    source = place_of(given)
    files.dirs.prepare()
    path = given.logfile or files.log_file(LOG_FILE)
    log = logs.start_logging(
        logs.LogOptions(None if str(path) == STANDARD_ERROR else path, given.log_level or "info")
    )
    process = MonitorProcess(reactor, files, source, given)
    try:
        process.run()
    finally:
        log.close()
    return process.status


class MonitorProcess:
    """Runs a server until it is told to end.

    :ivar status: the exit status.
    """

    def __init__(
        self, reactor: Any, files: ClusterFiles, source: str, given: argparse.Namespace
    ) -> None:
        self.status: int = 0
        self._reactor = reactor
        self._files = files
        self._given = given
        self._redirect: RedirectFile | None = None
        self._owner = Owner(self._stop) if given.owner_fd >= 0 else None
        self._server = MonitorServer(
            reactor,
            lambda: ControllerNews.open(reactor, source),
            LogTails(files),
            metrics_token(files.security_file(TOKEN_FILE)),
            self._entered,
        )
        self._starting: Deferred[None] | None = None

    def run(self) -> None:
        """Run the reactor."""
        self._reactor.callWhenRunning(self._begin)
        self._reactor.addSystemEventTrigger("before", "shutdown", self._end)
        self._reactor.run()

    def _begin(self) -> None:
        if self._owner is not None:
            adopt_connection(self._reactor, take(self._given.owner_fd), self._owner)
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._failed)

    async def _start(self) -> None:
        await self._server.start(self._given.port)
        url = self._server.url
        if self._owner is not None:
            self._owner.tell({"url": url})
            return
        print(f"{title_of(self._files.cluster_id)} is shown at: {url}", flush=True)
        if not self._given.no_browser and has_browser():
            name = f"ipmonitor.{secrets.token_hex(8)}.html"
            self._redirect = RedirectFile(self._files.security_file(name), url)
            self._reactor.callLater(REDIRECT_KEPT, self._entered)
            # Some browsers are waited for until they end, which the end of this process does not wait for.
            threading.Thread(target=open_browser, args=(self._redirect,), daemon=True).start()

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError) is not None:
            return
        self.status = 1
        if failure.check(KernelError) is None:
            failure.printTraceback(sys.stderr)
        else:
            print(f"ipcluster: {failure.getErrorMessage()}", file=sys.stderr)
        self._stop()

    def _entered(self) -> None:
        """The browser is there, or does not come."""
        if self._redirect is not None:
            self._redirect.remove()

    def _stop(self) -> None:
        with contextlib.suppress(ReactorNotRunning):  # it ends already
            self._reactor.stop()

    def _end(self) -> Deferred[None]:
        self._entered()
        if self._starting is not None:
            self._starting.cancel()
        return Deferred.fromCoroutine(self._server.close())


class Owner(Protocol):
    """The program that this process belongs to.

    :param gone: called when it is gone, or has no use for it any more.
    """

    def __init__(self, gone: Any) -> None:
        self._gone = gone

    def tell(self, content: dict[str, Any]) -> None:
        """Send it a line."""
        if self.transport is not None:
            self.transport.write(json.dumps(content).encode() + b"\n")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gone()
