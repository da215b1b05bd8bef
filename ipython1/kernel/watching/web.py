"""What the monitor's server answers: it only tells, and nothing can be changed through it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IPushProducer
from twisted.web import http
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from twisted.web.server import Request as SiteRequest
from zope.interface import implementer

from ipython1.kernel.watching.admission import HEADERS, Admission
from ipython1.kernel.watching.logtails import LogTails
from ipython1.kernel.watching.metrics import NotInstalled, metrics_page
from ipython1.kernel.watching.pages import page_files
from ipython1.kernel.watching.watcher import Watcher

MOST_VIEWERS: Final = 64
"""Pages that can be open at the same time."""

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"
HTML: Final = "text/html; charset=utf-8"

NO_TOKEN: Final = (
    "This address has no valid token. Open the address that ipcluster monitor, or Cluster.monitor(), has shown.\n"
    "If the monitor was started again, it has a new address.\n"
)

_ENTER: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Cluster monitor</title>
<meta http-equiv="refresh" content="0;url={path}"></head>
<body><p><a href="{path}">Cluster monitor</a></p></body></html>
"""


class Refusal(Exception):
    """A request that gets no answer.

    :ivar code: the HTTP status.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class MonitorPages(Resource):
    """Everything that the server has.

    :param entered: called when a browser has opened the address with the token.
    """

    isLeaf = True

    def __init__(
        self,
        watcher: Watcher,
        admission: Admission,
        logs: LogTails | None,
        entered: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._watcher = watcher
        self._admission = admission
        self._logs = logs
        self._entered = entered
        self._files = page_files()
        self._viewers: set[PageViewer] = set()
        self._answers: dict[str, Callable[[Request], Any]] = {
            "events": self._events,
            "logs": self._log_names,
            "log": self._log,
            "traceback": self._traceback,
        }

    def close(self) -> None:
        """Tell all pages that this is the end."""
        for viewer in list(self._viewers):
            viewer.finish()

    def viewing(self) -> set[Any]:
        """The transports of the pages that are open."""
        return {viewer.transport for viewer in self._viewers}

    def render(self, request: Request) -> bytes | int:
        """Answer a request."""
        for name, value in HEADERS.items():
            request.setHeader(name, value)
        try:
            if not self._admission.is_our_host(request):
                raise Refusal(
                    http.FORBIDDEN, "This server answers as 127.0.0.1 and localhost only.\n"
                )
            if request.method not in (b"GET", b"HEAD"):
                request.setHeader(b"Allow", b"GET, HEAD")
                raise Refusal(http.NOT_ALLOWED, "This server only shows.\n")
            return self._answer(request)
        except Refusal as refusal:
            request.setResponseCode(refusal.code)
            return _typed(request, TEXT, str(refusal).encode())

    def _answer(self, request: Request) -> bytes | int:
        path = request.path.decode("ascii", "replace")
        if path == "/metrics":
            return self._metrics(request)
        if (
            path == "/favicon.ico"
        ):  # browsers want it for every page, those without a token included
            return _typed(
                request, self._files["icon.svg"].content_type, self._files["icon.svg"].data
            )
        if path == "/" and self._admission.has_token(request):
            self._admission.give_cookie(request)
            self._entered()
            # Not by a redirect: after a link from elsewhere, that would be made without the strict cookie.
            return _typed(request, HTML, _ENTER.format(path=self._admission.path).encode())
        if not path.startswith(self._admission.path) or not self._admission.has_cookie(request):
            raise Refusal(http.FORBIDDEN, NO_TOKEN)
        name = path.removeprefix(self._admission.path) or "index.html"
        if name in self._answers:
            return self._answers[name](request)
        file = self._files.get(name)
        if file is None:
            raise Refusal(http.NOT_FOUND, "There is no such page.\n")
        return _typed(request, file.content_type, file.data)

    def _metrics(self, request: Request) -> bytes:
        if not self._admission.may_have_metrics(request):
            request.setHeader(b"WWW-Authenticate", b"Bearer")
            raise Refusal(http.UNAUTHORIZED, "Prometheus needs the token in ipmonitor.token.\n")
        try:
            return _typed(request, *metrics_page(self._watcher))
        except NotInstalled as problem:
            raise Refusal(http.NOT_IMPLEMENTED, str(problem)) from None

    def _events(self, request: Request) -> int:
        if len(self._viewers) >= MOST_VIEWERS:
            raise Refusal(http.SERVICE_UNAVAILABLE, "Too many pages are open.\n")
        request.setHeader(b"Content-Type", b"text/event-stream")
        viewer = PageViewer(request, self._watcher, _argument(request, "hidden") == "1")
        self._viewers.add(viewer)
        request.notifyFinish().addBoth(self._left, viewer)
        request.registerProducer(viewer, True)
        self._watcher.add(viewer)
        return NOT_DONE_YET

    def _left(self, result: object, viewer: PageViewer) -> None:
        self._viewers.discard(viewer)
        viewer.gone()

    def _log_names(self, request: Request) -> bytes:
        names = [] if self._logs is None else self._logs.names()
        return _typed(request, JSON, json.dumps(names).encode())

    def _log(self, request: Request) -> bytes:
        try:
            if self._logs is None:
                raise FileNotFoundError
            tail = self._logs.read(_argument(request, "name"), _argument(request, "place"))
        except FileNotFoundError:
            raise Refusal(http.NOT_FOUND, "There is no such log.\n") from None
        except OSError as problem:
            why = problem.strerror or str(problem)
            raise Refusal(http.FORBIDDEN, f"The log cannot be read: {why}\n") from None
        content = {"text": tail.text, "next": tail.next, "fresh": tail.fresh}
        return _typed(request, JSON, json.dumps(content).encode())

    def _traceback(self, request: Request) -> bytes:
        number = _argument(request, "number")
        text = self._watcher.picture.traceback(int(number)) if _is_number(number) else None
        if text is None:
            raise Refusal(http.NOT_FOUND, "This failure is not known any more.\n")
        return _typed(request, TEXT, text.encode())


@implementer(IPushProducer)
class PageViewer:
    """An open page, which gets events.  One that takes them too slowly misses some, and gets everything later.

    :ivar transport: its connection.
    """

    def __init__(self, request: Request, watcher: Watcher, hidden: bool) -> None:
        self.hidden = hidden
        self.transport: Any = request.channel.transport
        self._request = request
        self._watcher = watcher
        self._is_slow = False
        self._is_gone = False

    def show(self, event: str, data: bytes) -> None:
        """See :class:`~ipython1.kernel.watching.watcher.Viewer`."""
        if not (self._is_slow or self._is_gone):
            self._request.write(b"event: " + event.encode() + b"\ndata: " + data + b"\n\n")

    def finish(self) -> None:
        """End the answer."""
        if not self._is_gone:
            self._request.unregisterProducer()
            self._request.finish()

    def gone(self) -> None:
        """The page is closed."""
        self._is_gone = True
        self._watcher.remove(self)

    def pauseProducing(self) -> None:
        self._is_slow = True

    def resumeProducing(self) -> None:
        self._is_slow = False
        self._watcher.show_all(self)

    def stopProducing(self) -> None:
        self.gone()


class BodilessRequest(SiteRequest):
    """A request whose body is not kept: nobody may fill the memory or the disk with what is refused."""

    def gotLength(self, length: int | None) -> None:
        super().gotLength(0)

    def handleContentChunk(self, data: bytes) -> None:
        """Drop it."""


class QuietSite(Site):
    """A site that writes no log of requests, as tokens are in their addresses."""

    requestFactory = BodilessRequest
    noisy = False
    displayTracebacks = False

    def log(self, request: Request) -> None:
        """Write nothing."""


def _typed(request: Request, content_type: str, data: bytes) -> bytes:
    request.setHeader(b"Content-Type", content_type.encode())
    request.setHeader(b"Content-Length", str(len(data)).encode())
    return data


def _argument(request: Request, name: str) -> str:
    values = request.args.get(name.encode(), [b""])
    return values[0].decode("utf-8", "replace")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 16
