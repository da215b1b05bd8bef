"""Tests of the monitor's server, over real connections: who gets what."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import stat
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial import unittest

from ipython1.kernel.basics.error import ClusterError, SecurityError
from ipython1.kernel.host.security import ClusterFiles, IPythonDirs
from ipython1.kernel.watching import server
from ipython1.kernel.watching.admission import metrics_token
from ipython1.kernel.watching.browser import RedirectFile
from ipython1.kernel.watching.logtails import LogTails
from ipython1.kernel.watching.server import MonitorServer
from ipython1.kernel.watching.tests.simulated import SimulatedSource
from ipython1.kernel.watching.web import MonitorPages

TIMEOUT = 20.0


class Answer:
    """What the server has answered."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.text = response.read().decode()


class ServerCase(unittest.TestCase):
    async def begin(self, metrics: str = "") -> None:
        dirs = IPythonDirs(Path(self.mktemp()).absolute())
        dirs.log.mkdir(parents=True)
        (dirs.log / "ipcontroller.log").write_text("all is well\n")
        self.source = SimulatedSource(3, 0.05)
        self.entered: list[bool] = []

        async def open() -> SimulatedSource:
            return self.source

        self.server = MonitorServer(
            reactor, open, LogTails(ClusterFiles(dirs)), metrics, lambda: self.entered.append(True)
        )
        await self.server.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.server.close()))
        self.port = self.server.port
        self.token = self.server.url.partition("token=")[2]

    def ask(
        self, path: str, method: str = "GET", body: bytes = b"", **headers: str
    ) -> Deferred[Answer]:
        def ask() -> Answer:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
            try:
                connection.request(
                    method,
                    path,
                    body or None,
                    {name.replace("_", "-"): text for name, text in headers.items()},
                )
                return Answer(connection.getresponse())
            finally:
                connection.close()

        return deferToThread(ask)

    async def enter(self) -> tuple[str, str]:
        """The page's path, and the cookie."""
        answer = await self.ask(f"/?token={self.token}")
        self.assertEqual(answer.status, 200)
        found = re.search(r'url=(/[^"]+/)"', answer.text)
        assert found is not None
        return found[1], answer.headers["Set-Cookie"]


class AdmissionTests(ServerCase):
    async def test_nothing_is_shown_without_the_token(self) -> None:
        await self.begin()
        path, _ = await self.enter()
        for wanted in (
            "/",
            f"/?token={self.token[:-1]}",
            f"{path}",
            f"{path}events",
            "/index.html",
        ):
            answer = await self.ask(wanted)
            self.assertEqual(answer.status, 403, wanted)
            self.assertIn("no valid token", answer.text)
        answer = await self.ask(path, Cookie="ipython1-monitor=wrong")
        self.assertEqual(answer.status, 403)

    async def test_the_token_is_exchanged_for_a_cookie(self) -> None:
        await self.begin()
        path, cookie = await self.enter()
        self.assertEqual(self.entered, [True])
        self.assertNotIn(self.token, path + cookie)
        self.assertRegex(cookie, r"(?i)httponly")
        self.assertRegex(cookie, r"(?i)samesite=strict")
        self.assertIn(f"Path={path}", cookie)
        page = await self.ask(path, Cookie=cookie.partition(";")[0])
        self.assertEqual(page.status, 200)
        self.assertIn("<title>Cluster monitor</title>", page.text)

    async def test_other_host_names_are_refused(self) -> None:
        await self.begin()
        for host in ("evil.example", "127.0.0.1.evil.example", "127.0.0.1:80@evil.example", ""):
            answer = await self.ask(f"/?token={self.token}", Host=host)
            self.assertEqual(answer.status, 403, host)
        for host in ("localhost", "localhost:9000", f"127.0.0.1:{self.port}", "[::1]:80"):
            answer = await self.ask(f"/?token={self.token}", Host=host)
            self.assertEqual(answer.status, 200, host)

    async def test_every_answer_is_kept_to_this_page(self) -> None:
        await self.begin()
        path, cookie = await self.enter()
        for wanted in ("/", "/metrics", path, f"{path}main.js", f"{path}nothing"):
            headers = (await self.ask(wanted, Cookie=cookie.partition(";")[0])).headers
            policy = headers["Content-Security-Policy"]
            self.assertIn("default-src 'self'", policy)
            self.assertIn("frame-ancestors 'none'", policy)
            self.assertNotIn("unsafe", policy)
            self.assertEqual(headers["Cache-Control"], "no-store")
            self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
            self.assertEqual(headers["Referrer-Policy"], "no-referrer")
            self.assertNotIn("Access-Control-Allow-Origin", headers)
            self.assertNotIn("Twisted", headers["Server"])

    async def test_it_only_answers_questions(self) -> None:
        await self.begin()
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            answer = await self.ask(f"/?token={self.token}", method)
            self.assertEqual((answer.status, answer.headers["Allow"]), (405, "GET, HEAD"))

    async def test_bodies_of_requests_are_not_kept(self) -> None:
        await self.begin()
        kept: list[int] = []

        class Pages(MonitorPages):
            def render(pages, request: Any) -> bytes | int:
                kept.append(request.content.seek(0, os.SEEK_END))
                return super().render(request)

        self.patch(self.server._pages, "__class__", Pages)
        answer = await self.ask("/", "POST", body=bytes(1_000_000))
        self.assertEqual((answer.status, kept), (405, [0]))

    async def test_others_cannot_take_all_connections(self) -> None:
        self.patch(server, "MOST_CONNECTIONS", 20)
        await self.begin()
        path, cookie = await self.enter()
        request = f"GET {path}events HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n"

        def flood() -> tuple[bytes, int]:
            with contextlib.ExitStack() as stack:

                def connect() -> socket.socket:
                    return stack.enter_context(
                        socket.create_connection(("127.0.0.1", self.port), TIMEOUT)
                    )

                page = connect()
                page.sendall(request.encode())
                first = page.recv(100)
                for _ in range(60):
                    connect().sendall(b"GET / HT")
                # It still gets news.
                for _ in range(3):
                    self.assertTrue(page.recv(1 << 20))
                return first, len(self.server._site.protocols)

        first, count = await deferToThread(flood)
        self.assertIn(b"200 OK", first)
        self.assertLessEqual(count, 21)
        self.assertEqual((await self.ask("/favicon.ico")).status, 200)

    async def test_only_this_host_can_connect(self) -> None:
        await self.begin()
        self.assertEqual(self.server._listening.getHost().host, "127.0.0.1")


class PageTests(ServerCase):
    async def test_files_outside_of_the_page_are_not_found(self) -> None:
        await self.begin()
        path, cookie = await self.enter()
        for name in ("../source.py", "%2e%2e/source.py", "web/main.js", "nothing.html"):
            answer = await self.ask(path + name, Cookie=cookie.partition(";")[0])
            self.assertIn(answer.status, (403, 404), name)

    async def test_the_page_loads_nothing_from_elsewhere(self) -> None:
        await self.begin()
        path, cookie = await self.enter()
        for name in ("index.html", "style.css", "main.js", "store.js"):
            text = (await self.ask(path + name, Cookie=cookie.partition(";")[0])).text
            self.assertNotRegex(text.replace("http://www.w3.org", ""), r"https?://|@import|url\(")

    async def test_events_come_and_end_with_the_server(self) -> None:
        await self.begin()
        path, cookie = await self.enter()

        def read() -> list[tuple[str, Any]]:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
            connection.request("GET", f"{path}events", headers={"Cookie": cookie.partition(";")[0]})
            response = connection.getresponse()
            self.assertEqual(response.headers["Content-Type"], "text/event-stream")
            found = []
            for line in response:
                if line.startswith(b"event: "):
                    found.append((line[7:].decode().strip(), json.loads(response.readline()[6:])))
                if len(found) == 3:
                    reactor.callFromThread(  # type: ignore[attr-defined]
                        lambda: Deferred.fromCoroutine(self.server.close())
                    )
            connection.close()
            return found

        events = await deferToThread(read)
        self.assertEqual([name for name, _ in events[:3]], ["whole", "news", "news"])
        self.assertEqual(len(events[0][1]["engines"]), 3)

    async def test_logs_and_tracebacks(self) -> None:
        await self.begin()
        path, cookie = await self.enter()

        async def get(name: str) -> Answer:
            return await self.ask(path + name, Cookie=cookie.partition(";")[0])

        self.assertEqual(json.loads((await get("logs")).text), ["ipcontroller.log"])
        tail = json.loads((await get("log?name=ipcontroller.log")).text)
        self.assertEqual(tail["text"], "all is well\n")
        self.assertEqual((await get("log?name=..%2F..%2Fetc%2Fpasswd")).status, 404)
        self.assertEqual((await get("traceback?number=99999")).status, 404)
        self.assertEqual((await get("traceback?number=x")).status, 404)

    async def test_a_taken_port_is_an_error_that_says_what_to_do(self) -> None:
        await self.begin()

        async def open() -> SimulatedSource:
            return SimulatedSource(1)

        other = MonitorServer(reactor, open)
        with self.assertRaisesRegex(ClusterError, f"port {self.port}: .*another --port"):
            await other.start(self.port)


class MetricsTests(ServerCase):
    async def test_prometheus_gets_numbers_with_its_own_token(self) -> None:
        await self.begin("for-prometheus")
        for answer in (
            await self.ask("/metrics", Authorization="Bearer for-prometheus"),
            await self.ask("/metrics?token=for-prometheus"),
            await self.ask("/metrics", Authorization=f"Bearer {self.token}"),
        ):
            self.assertEqual(answer.status, 200)
        from prometheus_client.parser import text_string_to_metric_families

        found = {each.name: each for each in text_string_to_metric_families(answer.text)}
        self.assertEqual(found["ipython1_up"].samples[0].value, 1)
        states = {each.labels["state"]: each.value for each in found["ipython1_engines"].samples}
        self.assertEqual(sum(states.values()), 3)
        self.assertEqual(found["ipython1_tasks_done"].type, "counter")
        self.assertEqual(found["ipython1_engine_cpu_percent"].type, "gauge")

    async def test_that_token_opens_nothing_else(self) -> None:
        await self.begin("for-prometheus")
        self.assertEqual((await self.ask("/?token=for-prometheus")).status, 403)
        for path in ("/metrics", "/metrics?token=wrong", "/metrics?token="):
            answer = await self.ask(path)
            self.assertEqual((answer.status, answer.headers["WWW-Authenticate"]), (401, "Bearer"))

    async def test_without_the_package_the_answer_says_what_to_install(self) -> None:
        await self.begin("for-prometheus")
        with mock.patch.dict("sys.modules", {"prometheus_client": None}):
            answer = await self.ask("/metrics?token=for-prometheus")
        self.assertEqual(answer.status, 501)
        self.assertIn("pip install 'ipython1[monitor]'", answer.text)

    async def test_a_controller_that_is_away_has_no_numbers(self) -> None:
        await self.begin("for-prometheus")
        self.source.broken = True
        while True:
            text = (await self.ask("/metrics?token=for-prometheus")).text
            if "ipython1_up 0.0" in text:
                break
        self.assertNotIn("ipython1_engines", text)


class FileTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(mode=0o700)

    def mode(self, path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    def test_the_redirect_file_is_private_and_goes_away(self) -> None:
        file = RedirectFile(self.directory / "it.html", "http://127.0.0.1:1/?token=a&b")
        self.assertEqual(self.mode(file.path), 0o600)
        self.assertIn("token=a&amp;b", file.path.read_text())
        file.remove()
        file.remove()
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_the_token_for_prometheus_stays(self) -> None:
        path = self.directory / "ipmonitor.token"
        token = metrics_token(path)
        self.assertGreaterEqual(len(token), 40)
        self.assertEqual(metrics_token(path), token)
        self.assertEqual(self.mode(path), 0o600)
        path.chmod(0o644)
        self.assertRaises(SecurityError, metrics_token, path)
