"""Faults 22 to 27: strangers at the port, holders of the wrong capability, and files that others could touch."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ipython1.daemon import osprocess
from tests.faults.common import (
    LONG,
    SOON,
    Cluster,
    FaultCase,
    Witness,
    baseline,
    engine_pids,
    limit,
    open_files,
    say,
    stopped,
    timed,
    until,
    user,
)

PATIENCE = 10.0
"""Seconds that somebody without a capability may stay."""

OTHER = 12345
"""The uid of another user."""


def interface(cluster: Cluster, name: str) -> Any:
    """The FURL of an interface."""
    from ipython1.kernel.host.security import read_furl

    return read_furl(cluster.ipython_dir / "security" / f"ipcontroller-{name}.furl")


def command(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of the commands to its end."""
    return subprocess.run(
        [sys.executable, "-P", "-m", f"ipython1.kernel.scripts.{program}", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SOON,
        check=False,
    )


def in_reactor(function: Callable[..., Any], *args: Any) -> Any:
    """Run a coroutine function in the reactor's thread."""
    from ipython1.kernel.calls.twistedutil import blockingCallFromThread, reactor_in_thread

    reactor_in_thread.start()
    return blockingCallFromThread(function, *args)


def time_to_drop(connections: Iterable[socket.socket], within: float) -> tuple[int, float]:
    """How many connections the other side has closed, and the seconds until the last one was."""
    begin = last = time.monotonic()
    waiting = {each.fileno(): each for each in connections}
    count, poll = len(waiting), select.poll()
    for descriptor in waiting:
        poll.register(descriptor, select.POLLIN)
    while waiting and time.monotonic() < begin + within:
        for descriptor, _ in poll.poll(200):
            try:
                data = waiting[descriptor].recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                poll.unregister(descriptor)
                del waiting[descriptor]
                last = time.monotonic()
    return count - len(waiting), last - begin


def run_a_controller() -> Path:
    """Run a controller in this process for a moment; returns the directory that it leaves."""
    from twisted.internet import reactor

    from ipython1.kernel.controller.process import start_controller
    from ipython1.kernel.scripts.controlleroptions import parse_controller

    config = parse_controller(["--client-ip=127.0.0.1"])
    running = in_reactor(start_controller, config, reactor, lambda: None)
    in_reactor(running.stop)
    return Path(os.environ["IPYTHONDIR"])


class Listener:
    """Somebody else's program at a controller's port, which notes what it hears."""

    def __init__(self, port: int, certificate: bytes = b"") -> None:
        self.heard = b""
        self._server = socket.create_server(("127.0.0.1", port))
        self._certificate = certificate
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                with contextlib.suppress(OSError), connection:
                    self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(SOON)
        self.heard += connection.recv(1 << 16)
        if not self._certificate:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nhello")
            self.heard += connection.recv(1 << 16)
            return
        # As Foolscap does, up to and including TLS with a certificate of its own.
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: TLS/1.0, PB/1.0\r\n\r\n")
        path = Path(os.environ["TMPDIR"]) / "listener.pem"
        path.write_bytes(self._certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.sendall(
                b"banana-negotiation-range: 3 3\r\ninitial-vocab-table-range: 0 1\r\n\r\n"
            )
            while data := secure.recv(1 << 16):
                self.heard += data

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()


class StrangerFaults(FaultCase):
    @limit(120)
    def test_22_strangers_at_the_port(self) -> None:
        """Garbage, HTTP, an endless header and 2,000 idle sockets: gone within 10 s, and everybody else is served."""
        with Cluster(2, ["--client-ip=127.0.0.1"]) as cluster:
            furl = interface(cluster, "tc")
            place = furl.hints[0]
            hello = f"GET /id/{furl.tub_id} HTTP/1.1\r\nUpgrade: TLS/1.0\r\n\r\n".encode()
            words = [
                *(
                    b"\x00" * 5000,
                    b"\x16\x03\x01" + bytes(5000),
                    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                ),
                *(b"GET /id/" + b"a" * 100_000, hello + b"this is no TLS", hello + bytes(70_000)),
                *(b"GET /id/" + b"a" * 32 + b" HTTP/1.1\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n"),
                *(secrets.token_bytes(50_000), "Ünïcödé\r\n\r\n".encode(), b"\r\n\r\n", hello),
            ]
            files = open_files(cluster.controller)
            with contextlib.ExitStack() as stack, Witness(cluster, patience=8.0):

                def stranger(words: bytes = b"") -> socket.socket:
                    made = stack.enter_context(socket.create_connection(place, SOON))
                    with contextlib.suppress(OSError):
                        made.sendall(words)
                    return made

                loud = [stranger(each) for each in words * 10]
                idle = [stranger() for _ in range(2000)]
                say(f"{open_files(cluster.controller)} files with the strangers, {files} without")
                seconds, tasks = timed(cluster.tc)
                self.assertLess(seconds, 5.0, "a new client was not let in")
                self.assertEqual(tasks.map(lambda x: x + 1, range(10)), list(range(1, 11)))
                dropped, seconds = time_to_drop([*loud, *idle], PATIENCE + 5)
                say(f"{dropped} strangers dropped, the last after {seconds:.1f} s")
                self.assertEqual(dropped, len(loud) + len(idle))
                self.assertLess(seconds, PATIENCE + 2)
            until(lambda: open_files(cluster.controller) <= files + 4, "their sockets are closed")
            self.assertNotIn("Traceback", cluster.log())

    def test_23_no_secret_in_any_log(self) -> None:
        """Nor in a traceback, in what is printed, in a command line or in an environment."""
        secret = secrets.token_hex(16)
        with Cluster(1, ["--client-ip=127.0.0.1", "--log-level=debug"]) as cluster:
            security = cluster.ipython_dir / "security"
            furls = [path.read_text().strip() for path in security.glob("*.furl")]
            in_reactor(come_and_go, furls, secret)
            mec = cluster.mec()
            with contextlib.suppress(Exception):
                mec.execute(f"raise ValueError({furls[0]!r})")
            self.assertEqual(command("ipcontroller", "furl", "rotate", "task").returncode, 0)
            furls += [path.read_text().strip() for path in security.glob("*.furl")]
            with user(
                "client.MultiEngineClient('pb://nonsense@x/y')", stderr=subprocess.STDOUT
            ) as program:
                program.wait(SOON)
            seen = cluster.printed()
            for path in sorted((cluster.ipython_dir / "log").iterdir()):
                seen += path.read_text(errors="replace")
            for pid in (cluster.controller, cluster.ipcluster):
                for name in ("cmdline", "environ"):
                    seen += Path(f"/proc/{pid}/{name}").read_text(errors="replace")
            self.assertGreater(len(seen), 1000)
            for each in {secret, *(furl.rpartition("/")[2] for furl in furls)}:
                self.assertGreaterEqual(len(each), 32)
                self.assertNotIn(each, seen)

    @limit(120)
    def test_23_and_24_wrong_capabilities(self) -> None:
        """The right Tub id and a wrong capability, 500 times (ten thousand in the long form): refused.

        Whoever holds the FURL for tasks can neither register elsewhere nor use what belongs to another interface.
        """
        from ipython1.kernel import client

        with Cluster(1, ["--client-ip=127.0.0.1"]) as cluster:
            security = cluster.ipython_dir / "security"
            files = {
                name: security / f"ipcontroller-{name}.furl" for name in ("tc", "mec", "monitor")
            }
            for made, wrong in (
                (client.MultiEngineClient, "tc"),
                (client.MultiEngineClient, "monitor"),
                (client.TaskClient, "mec"),
                (client.TaskClient, "monitor"),
                (client.MonitorClient, "tc"),
            ):
                with self.assertRaisesRegex(client.SecurityError, "is for"):
                    made(files[wrong], timeout=5)
            ended = command("ipengine", f"--furl-file={files['tc']}", "--connect-timeout=5")
            self.assertEqual(ended.returncode, 1)
            self.assertIn("is for Task clients", ended.stderr)
            for name, role in (("tc", "task"), ("monitor", "monitor")):
                self.assertEqual(in_reactor(overreach, interface(cluster, name), role), 7)
            self.assertNotIn("hush", cluster.log())
            furl = interface(cluster, "mec")
            guesses, seconds = 10_000 if LONG else 500, time.monotonic()
            with baseline(cluster.controller, files=4), Witness(cluster, 0):
                found, left_open = in_reactor(guess, furl, guesses)
            say(f"{guesses} guesses in {time.monotonic() - seconds:.1f} s")
            self.assertEqual(found, 0)
            self.assertEqual(left_open, 0, "connections that guessed eight times stayed open")
            # The capability itself still works, for whoever comes from there.
            self.assertEqual(cluster.mec().get_ids(), [0])

    def test_25_a_stale_furl_tells_others_nothing(self) -> None:
        """Where somebody else has the port, he is found out by his certificate before he hears the capability."""
        from ipython1.kernel import client
        from ipython1.kernel.host.certificates import make_certificate
        from ipython1.kernel.host.security import read_furl

        security = run_a_controller() / "security"
        furl = read_furl(security / "ipcontroller-mec.furl")
        port = furl.hints[0][1]
        for certificate, kind in (
            (b"", client.ProtocolError),
            (make_certificate(), client.SecurityError),
        ):
            listener = Listener(port, certificate)
            try:
                seconds, problem = timed(client.MultiEngineClient, str(furl), 5)
            finally:
                listener.close()
            self.assertIsInstance(problem, kind)
            self.assertLess(seconds, 8)
            self.assertIn(furl.tub_id.encode(), listener.heard)
            self.assertNotIn(furl.name.encode(), listener.heard)
            self.assertNotIn(furl.name, str(problem))


async def guess(furl: Any, count: int) -> tuple[int, int]:
    """Ask for names that are wrong; how many were right, and how many connections stayed open after eight."""
    from foolscap.referenceable import TubRef
    from twisted.internet.defer import Deferred, DeferredList, gatherResults

    from ipython1.kernel.host.furl import format_hint
    from ipython1.kernel.tub import tubs

    place = TubRef(furl.tub_id, [format_hint(host, port) for host, port in furl.hints])
    left, right, left_open = count, 0, 0

    async def one_after_another() -> None:
        nonlocal left, right, left_open
        while left > 0:
            tub = tubs.make_tub()
            broker = await tub.getBrokerForTubRef(place)
            asked = []
            for _ in range(8):
                left -= 1
                # Also names that begin as the right one does, or are as long.
                name = secrets.choice((furl.name[:-1] + "?", "a" * 32, "", secrets.token_hex(16)))
                asked.append(broker.getYourReferenceByName(name.encode()))
            for found, _ in await DeferredList(asked, consumeErrors=True):
                right += found
            left_open += not broker.disconnected
            await tubs.close(tub)

    await gatherResults([Deferred.fromCoroutine(one_after_another()) for _ in range(10)])
    return right, left_open


class Party:
    """Somebody with a capability who sends what he likes.

    :param furl: the capability.
    :param greeting: fields of the greeting that are to differ.
    """

    def __init__(self, furl: Any, role: str, **greeting: Any) -> None:
        from twisted.internet.defer import Deferred

        from ipython1.kernel.wire import messages

        fields = {"uuid": uuid.uuid4().hex, "pid": 1, "host": "h", "secret": messages.new_secret()}
        self.hello = messages.Hello(**(fields | {"role": role} | greeting))
        self.furl = furl
        self.welcome: Any = None
        self.ended: Deferred[str] = Deferred()
        self.link: Any = None
        self._tub: Any = None

    def frame_received(self, *frame: object) -> None:
        pass

    def link_lost(self, reason: str) -> None:
        self.ended.callback(reason)

    async def come(self) -> Party:
        from twisted.internet import reactor

        from ipython1.kernel.tub import tubs
        from ipython1.kernel.tub.gate import register
        from ipython1.kernel.wire.link import FrameLink, TurnFlusher

        flusher = TurnFlusher(lambda flush: reactor.callLater(0, flush))  # type: ignore[attr-defined]
        self._tub = tubs.make_tub()
        self.link = FrameLink(flusher, self)
        gate = await tubs.connect(self._tub, self.furl, 10)
        self.welcome = await register(gate, self.hello, self.link, 10, reactor)
        return self

    async def leave(self) -> None:
        from ipython1.kernel.tub import tubs

        await tubs.close(self._tub)


async def come_and_go(furls: list[str], secret: str) -> None:
    """Register everywhere with right and with wrong capabilities, and send the FURLs where they do not belong."""
    from ipython1.kernel.basics.error import KernelError

    for furl in furls:
        for wrong in (furl, furl[:-1] + "?", furl + "x"):
            party = Party(wrong, "task", secret=secret)
            with contextlib.suppress(KernelError):
                await party.come()
                party.link.send(250, 1, b"", furl.encode())
            await party.leave()


async def overreach(furl: Any, role: str) -> int:
    """Send what other parties send, from one that may not; how often that ended the connection."""
    from twisted.internet import reactor
    from twisted.internet.defer import TimeoutError

    from ipython1.kernel.wire import frames, messages, taskwire
    from ipython1.kernel.wire.payload import join_inline

    source = join_inline([messages.pack_json({"source": "print('hush')"})])
    ended = 0
    for kind, meta, payload in (
        (frames.SUBMIT, messages.SubmitMeta("execute", None).pack(), source),
        (frames.COMMAND, messages.CommandMeta(b"c" * 16, "execute").pack(), source),
        (frames.OUTCOME, b"c" * 16 + b"\0", source),
        (frames.STOP, b"", b""),
        (taskwire.RUN, b"", b"x"),
        (taskwire.RESULTS, b"", b"x"),
        (255, b"", b""),
    ):
        party = await Party(furl, role).come()
        party.link.send(kind, 1, meta, payload)
        party.ended.addTimeout(5, reactor)  # type: ignore[arg-type]
        with contextlib.suppress(TimeoutError):
            await party.ended
            ended += 1
        await party.leave()
    return ended


class LyingEngines(FaultCase):
    """Engines of somebody else's making."""

    @limit(120)
    def test_false_process_ids_and_the_highest_ids(self) -> None:
        """Nobody's process is killed because an engine says that it is the engine's."""
        from ipython1.kernel.host.hosts import host_identity

        victim = subprocess.Popen(["sleep", "300"])
        self.addCleanup(victim.wait)
        self.addCleanup(victim.kill)
        with Cluster(1, ["--client-ip=127.0.0.1"]) as cluster:
            mec, controller = cluster.mec(), cluster.controller
            furl = interface(cluster, "engine")
            for pid in (victim.pid, controller, cluster.ipcluster):
                liar = Party(furl, "engine", pid=pid, host=host_identity())
                in_reactor(liar.come)
                mec.kill(targets=[liar.welcome.engine_id])
                until(lambda: mec.get_ids() == [0], "the liar is gone")
                in_reactor(liar.leave)
            (pid,) = engine_pids(mec).values()
            liar = Party(furl, "engine", pid=pid, host=host_identity())
            in_reactor(liar.come)
            asked = {"targets": [liar.welcome.engine_id], "within": 0.2}
            ((_, told),) = in_reactor(lambda: mec._connection.end.ask("stacks", **asked))
            self.assertEqual(told["state"], "silent")
            self.assertNotIn("dump", told, "the engine that it pretended to be was signalled")
            in_reactor(liar.leave)
            self.assertIsNone(victim.poll())
            self.assertEqual(cluster.controller, controller)
            self.assertIn("end it where it runs", cluster.log())
            # An engine that stops answering is killed all the same.
            with stopped(pid):
                mec.kill(targets=[0])
                until(lambda: not osprocess.is_alive(pid), "the engine is killed")
            until(lambda: mec.get_ids() == [], "no engine is left")
            self.check_highest_ids(cluster, mec)

    def check_highest_ids(self, cluster: Cluster, mec: Any) -> None:
        """One near the limit is refused, and the next engine gets an id with which it can do everything."""
        from ipython1.kernel import client

        furl = interface(cluster, "engine")
        for wanted in (2**31 - 1, 2**31, 2**63, -1):
            greedy = Party(furl, "engine", wanted_id=wanted)
            with self.assertRaisesRegex(client.IdInUse, "range from 0 to"):
                in_reactor(greedy.come)
            in_reactor(greedy.leave)
        highest = Party(furl, "engine", wanted_id=2**30)
        in_reactor(highest.come)
        self.assertEqual(highest.welcome.engine_id, 2**30)
        in_reactor(highest.leave)
        engine = [sys.executable, "-P", "-m", "ipython1.kernel.scripts.ipengine"]
        with subprocess.Popen(engine, stdin=subprocess.DEVNULL) as process:
            self.addCleanup(process.kill)
            (came,) = until(lambda: set(mec.get_ids()) - {2**30}, "it came")
            self.assertGreater(came, 2**30)
            self.assertEqual(mec.execute("print(7)", targets=came)[0]["stdout"], "7\n")
            # Tasks for the one that has left wait for it, as it may come back.
            until(lambda: mec.get_ids() == [came], "the other one is given up")
            result = cluster.tc().run(client.Task("n = 5", pull="n"), block=True)
            self.assertEqual((result["n"], result.engineid), (5, came))
            process.kill()


@contextlib.contextmanager
def changed(path: Path, change: Callable[[Path], object]) -> Iterator[None]:
    """Change a file or directory, and restore it."""
    is_file = path.is_file()
    content, mode = path.read_bytes() if is_file else b"", path.lstat().st_mode & 0o7777
    change(path)
    try:
        yield
    finally:
        if is_file:
            path.unlink(missing_ok=True)
            path.write_bytes(content)
        path.chmod(mode)
        with contextlib.suppress(PermissionError):
            os.chown(path, os.geteuid(), -1)


def cut(path: Path) -> None:
    """Truncate a file in the middle."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_link(path: Path) -> None:
    """Move a file elsewhere, and leave a symbolic link."""
    elsewhere = path.with_name(f"elsewhere-{path.name}")
    elsewhere.write_bytes(path.read_bytes())
    elsewhere.chmod(0o600)
    path.unlink()
    path.symlink_to(elsewhere)


class FileFaults(FaultCase):
    def refusal(self) -> str:
        """Why a controller does not start here, from the command line on, in one line."""
        from twisted.internet import reactor

        from ipython1.kernel.basics.error import KernelError
        from ipython1.kernel.controller.process import start_controller
        from ipython1.kernel.scripts.controlleroptions import parse_controller

        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                config = parse_controller(["--client-ip=127.0.0.1"])
            running = in_reactor(start_controller, config, reactor, lambda: None)
        except KernelError as problem:
            text = str(problem)
        except SystemExit as end:
            self.assertEqual(end.code, 1)
            text = said.getvalue().strip()
        else:
            in_reactor(running.stop)
            self.fail("it started")
        self.assertNotIn("\n", text)
        return text

    def assert_refused(self, *words: str) -> None:
        text = self.refusal()
        for word in words:
            self.assertIn(word, text)

    def assert_command_refuses(
        self, program: str, *words: str, arguments: tuple[str, ...] = ()
    ) -> str:
        ended = command(program, *arguments)
        self.assertEqual(ended.returncode, 1, ended.stdout + ended.stderr)
        self.assertEqual(len(ended.stderr.splitlines()), 1, ended.stderr)
        for word in words:
            self.assertIn(word, ended.stderr)
        return ended.stderr

    @limit(120)
    def test_26_files_and_directories_that_others_can_touch(self) -> None:
        """Refused at the start, with the command that mends it; and mended by that command."""
        ipython_dir = run_a_controller()
        security, log = ipython_dir / "security", ipython_dir / "log"
        pem, furl = security / "ipcontroller.pem", security / "ipcontroller-tc.furl"
        ini = ipython_dir / "ipython1.kernel.ini"
        ini.write_text("[engine]\n")
        ini.chmod(0o600)
        for path, mode in (
            *((security, mode) for mode in (0o770, 0o755, 0o711, 0o707)),
            *((log, mode) for mode in (0o777, 0o750)),
            *((pem, mode) for mode in (0o640, 0o604)),
            *((furl, 0o644), (ini, 0o622), (ipython_dir, 0o777)),
        ):
            with changed(path, lambda each: each.chmod(mode)):
                self.assert_refused(str(path), "chmod")
                self.assertEqual(path.stat().st_mode & 0o7777, mode)
        for path in (pem, furl):
            with changed(path, make_link):
                self.assert_refused(str(path), "symbolic link")
            (path.with_name(f"elsewhere-{path.name}")).unlink()
        if os.geteuid() == 0:
            for path in (security, log, pem, furl, ini):
                with changed(path, lambda each: os.chown(each, OTHER, -1)):
                    self.assert_refused(str(path), "another user", "chown")
        with changed(security, lambda each: each.chmod(0o750)):
            self.assert_command_refuses("ipengine", "chmod 700")
            said = self.assert_command_refuses("ipcontroller", "chmod 700")
            subprocess.run(said.partition("run: ")[2].strip(), shell=True, check=True)
            self.assertEqual(security.stat().st_mode & 0o7777, 0o700)

    def test_26_links_in_place_of_logs(self) -> None:
        """A log is never written through a link, wherever it leads."""
        ipython_dir = run_a_controller()
        precious = ipython_dir / "precious"
        precious.write_text("precious")
        for name, program, arguments in (
            ("ipcontroller.log", "ipcontroller", ()),
            ("ipcluster.log", "ipcluster", ("-n", "1")),
            ("ipengine-0.log", "ipengine", ("--engine-id=0",)),
        ):
            path = ipython_dir / "log" / name
            path.unlink(missing_ok=True)
            path.symlink_to(precious)
            self.assert_command_refuses(program, str(path), "symbolic link", arguments=arguments)
            path.unlink()
        self.assertEqual(precious.read_text(), "precious")

    def test_27_damaged_keys_and_furls(self) -> None:
        """A loud error, and never a new identity in silence: the files stay as they are."""
        from ipython1.kernel import client
        from ipython1.kernel.host.certificates import make_certificate

        security = run_a_controller() / "security"
        names = ("ipcontroller.pem", *(path.name for path in security.glob("*.furl")))
        self.assertEqual(len(names), 5)
        for name in names:
            path = security / name
            for change in (
                lambda each: each.write_bytes(b""),
                cut,
                lambda each: each.write_text("x"),
            ):
                with changed(path, change):
                    before = path.read_bytes()
                    self.assert_refused(str(path))
                    self.assertEqual(path.read_bytes(), before)
        # A key and FURLs that do not belong together.
        with changed(security / names[0], lambda each: each.write_bytes(make_certificate())):
            self.assert_refused("another certificate")
        furl = security / "ipcontroller-mec.furl"
        for text in ("", "pb://", furl.read_text()[:40]):
            with changed(furl, lambda each: each.write_text(text)):
                self.assertRaises(client.SecurityError, client.MultiEngineClient)
        with changed(furl, cut):
            arguments = (f"--furl-file={furl}", "--connect-timeout=3")
            self.assert_command_refuses("ipengine", str(furl), arguments=arguments)
