"""Light engines: many in one process, each with a TLS connection and a link of its own, that run nothing.

They show what an engine costs the controller and its clients when the engines themselves cost almost nothing: how long
a thousand take to register, how long a call to all of them takes, and how much memory each of them needs.

As a program it connects engines to a controller and stays until its standard input ends::

    python -m tests.lightengines FURL_FILE NUMBER

It prints ``ready`` when it has made the identities of its engines, connects them when a line comes on its standard
input, and prints ``registered`` when all are, or why the first of those that could not be was refused.  :func:`measure`
starts a controller and some of these programs.
"""

from __future__ import annotations

import gc
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ipython1.core.results import CommandResult
from ipython1.kernel.host.furl import Furl
from ipython1.kernel.host.hosts import host_identity, user_label
from ipython1.kernel.host.processusage import own_usage
from ipython1.kernel.objects.commands import EXECUTE
from ipython1.kernel.tub import tubs
from ipython1.kernel.wire import frames, messages, taskwire
from ipython1.kernel.wire.baselink import Link
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.lanes import Lanes
from ipython1.kernel.wire.link import FrameLink, TurnFlusher
from ipython1.kernel.wire.payload import join_inline
from ipython1.testing.processes import private_environ

CONNECT_TIMEOUT: Final = 120.0
"""Seconds that an engine waits for the controller, which has a thousand others to serve."""

CODE: Final = "pass"
"""What the engines are told to execute."""


TASK_SECONDS: Final = 0.002
"""What they say that a task has taken."""


class LightSide:
    """What a light engine has for one controller: it answers each command as if it had executed :data:`CODE`.

    It ends each task at once, as if that had taken :data:`TASK_SECONDS`.

    :ivar link: leads to the controller.
    """

    link: Link

    def __init__(self) -> None:
        self.id = -1
        self._answer = b""
        self._row = 0

    def welcomed(self, welcome: messages.Welcome) -> None:
        """The controller has registered the engine."""
        assert welcome.engine_id is not None
        self.id = welcome.engine_id
        now = time.time()
        result = CommandResult(1, CODE, CODE, "", "", None, (), now, now, 0.0)
        self._answer = join_inline(EXECUTE.value.pack(result, self))

    def load(self, buffers: object) -> None:
        """Nothing is ever unpickled here."""

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        if kind == frames.COMMAND:
            origin = bytes(meta[: messages.ORIGIN_SIZE])
            self.link.send(frames.OUTCOME, ident, origin + bytes((messages.OK,)), self._answer)
        elif kind == taskwire.RUN:
            runs = taskwire.unpack_runs(payload)
            done = [(task_id, attempt, 0, TASK_SECONDS, b"") for task_id, attempt, _, _ in runs]
            for parts, size in taskwire.pack_results(done, self._row + 1):
                self.link.send_packed(parts, size)
            self._row += len(done)
        elif kind == frames.STATUS:
            usage = (time.monotonic(), *own_usage())
            answer = {"running": None, "pid": os.getpid(), "usage": usage}
            self.link.send(frames.REPLY, ident, b"", messages.pack_json(answer))
        elif kind == frames.WELCOMED:
            self.welcomed(messages.unpack_welcome(payload))
        elif kind == frames.STOP:
            self.link.abort("it was told to stop")

    def link_lost(self, reason: str) -> None:
        """It does not come back."""


class LightEngine:
    """Registers as an engine, also with the controller behind its gateway if that is one."""

    def __init__(self, flusher: TurnFlusher) -> None:
        self._tub = tubs.make_tub()
        self._side = LightSide()
        self._side.link = self._link = FrameLink(flusher, self._side)
        self._lanes = Lanes(self._link, self._asked)

    def _hello(self) -> messages.Hello:
        return messages.Hello(
            uuid=uuid.uuid4().hex,
            pid=os.getpid(),
            host=host_identity(),
            role=messages.ENGINE,
            secret=messages.new_secret(),
            label=user_label(),
        )

    async def register(self, furl: Furl, reactor: Any) -> None:
        """Connect to the controller and register.

        :raises KernelError: why it cannot.
        """
        from ipython1.kernel.tub.gate import register

        gate = await tubs.connect(self._tub, furl, CONNECT_TIMEOUT, reactor)
        welcome = await register(gate, self._hello(), self._link, CONNECT_TIMEOUT, reactor)
        self._side.welcomed(welcome)

    def _asked(self, number: int, kind: int, payload: Buffer) -> None:
        if kind == frames.GREET:
            side = LightSide()
            side.link = lane = self._lanes.add(number, side)
            lane.open(frames.pack_frame(frames.GREET, 0, b"", self._hello().pack()))


def main(furl_file: str, number: int) -> int:
    """Be ``number`` engines; see the module's docstring."""
    from twisted.internet import reactor as installed_reactor
    from twisted.internet.defer import Deferred, DeferredList

    from ipython1.kernel.host.security import read_furl

    reactor: Any = installed_reactor
    furl = read_furl(furl_file)

    def begin() -> None:
        flusher = TurnFlusher(lambda flush: reactor.callLater(0, flush))
        engines = [LightEngine(flusher) for _ in range(number)]
        # What lives as long as the process need not be looked through again and again.
        gc.freeze()
        print("ready", flush=True)
        reactor.callInThread(serve, engines)

    def serve(engines: Sequence[LightEngine]) -> None:
        sys.stdin.readline()
        reactor.callFromThread(connect, engines)
        sys.stdin.read()
        reactor.callFromThread(reactor.stop)

    def connect(engines: Sequence[LightEngine]) -> None:
        registering = [Deferred.fromCoroutine(each.register(furl, reactor)) for each in engines]
        DeferredList(registering, consumeErrors=True).addCallback(registered)

    def registered(results: list[tuple[bool, Any]]) -> None:
        gc.freeze()
        problems = [failure.getErrorMessage() for good, failure in results if not good]
        print(problems[0] if problems else "registered", flush=True)

    reactor.callWhenRunning(begin)
    reactor.run()
    return 0


# -- measuring


@dataclass(frozen=True)
class Figures:
    """What :func:`measure` found.

    :ivar engines: how many there were.
    :ivar processes: how many processes held them.
    :ivar registered: seconds from the first connection attempt until all were registered.
    :ivar controller_cpu: seconds of the controller's processor time for that.
    :ivar engines_cpu: seconds of the processor time of all engines' processes for that.
    :ivar memory: bytes that an engine adds to the controller's resident memory.
    :ivar broadcast: seconds of each blocking call to all engines.
    :ivar broadcast_controller_cpu: seconds of the controller's processor time for one such call.
    :ivar broadcast_client_cpu: the same of the client's process.
    """

    engines: int
    processes: int
    registered: float
    controller_cpu: float
    engines_cpu: float
    memory: float
    broadcast: tuple[float, ...]
    broadcast_controller_cpu: float
    broadcast_client_cpu: float

    @property
    def broadcast_median(self) -> float:
        """The median of :attr:`broadcast`."""
        return statistics.median(self.broadcast)


CONTROLLER: Final = (sys.executable, "-m", "ipython1.kernel.scripts.ipcontroller")


@contextmanager
def controller(
    command: Sequence[str] = CONTROLLER,
) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """Run a controller in a directory of its own; gives the directory and the process."""
    directory = Path(tempfile.mkdtemp(prefix="ipython1-light-"))
    try:
        process = _start(command, private_environ(directory))
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "multiengine:" in line:
                    break
            else:
                raise RuntimeError("the controller did not start")
            yield directory, process
        finally:
            process.terminate()
            _end(process)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _start(command: Sequence[str], environ: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    process.wait()
    process.stdout.close()


@contextmanager
def light_engines(directory: Path, number: int, processes: int) -> Iterator[list[LightProcess]]:
    """Prepare ``number`` engines in so many processes; each begins with :meth:`LightProcess.go`."""
    furl_file = directory / "security" / "ipcontroller-engine.furl"
    with ExitStack() as stack:
        started = []
        for index in range(processes):
            share = number // processes + (index < number % processes)
            started.append(LightProcess(furl_file, share, private_environ(directory)))
            stack.callback(started[-1].end)
        for each in started:
            each.expect("ready")
        yield started


class LightProcess:
    """A process with light engines."""

    def __init__(self, furl_file: Path, number: int, environ: dict[str, str]) -> None:
        command = [sys.executable, "-m", "tests.lightengines", str(furl_file), str(number)]
        self._process = _start(command, environ)
        self.pid = self._process.pid

    def expect(self, word: str) -> None:
        """Wait for the next line that it prints.

        :raises RuntimeError: if that is another one.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if line != word:
            raise RuntimeError(line or "the light engines have ended")

    def go(self) -> None:
        """Have it connect its engines."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """End it."""
        _end(self._process)


def measure(
    engines: int = 1000,
    processes: int = 4,
    calls: int = 15,
    command: Sequence[str] = CONTROLLER,
) -> Figures:
    """Register light engines with a controller, and call them all.

    :param calls: how many calls are measured.
    :param command: starts the controller.
    """
    import psutil

    from ipython1.kernel import client

    def cpu(*pids: int) -> float:
        times = [psutil.Process(pid).cpu_times() for pid in pids]
        return float(sum(each.user + each.system for each in times))

    with (
        controller(command) as (directory, process),
        light_engines(directory, engines, processes) as lights,
        closing(
            client.MultiEngineClient(str(directory / "security" / "ipcontroller-mec.furl"))
        ) as mec,
    ):
        pids = [each.pid for each in lights]
        size = psutil.Process(process.pid).memory_info().rss
        of_controller, of_engines = cpu(process.pid), cpu(*pids)
        begun = time.perf_counter()
        for each in lights:
            each.go()
        while len(mec.get_ids()) < engines:
            time.sleep(0.02)
        registered = time.perf_counter() - begun
        of_controller, of_engines = cpu(process.pid) - of_controller, cpu(*pids) - of_engines
        for each in lights:
            each.expect("registered")
        found = []
        for _ in range(2):
            mec.execute(CODE)
        grown = psutil.Process(process.pid).memory_info().rss - size
        calls_of_controller, own = cpu(process.pid), time.process_time()
        for _ in range(calls):
            begun = time.perf_counter()
            results = mec.execute(CODE)
            found.append(time.perf_counter() - begun)
            assert len(results) == engines
        return Figures(
            engines,
            processes,
            registered,
            of_controller,
            of_engines,
            grown / engines,
            tuple(found),
            (cpu(process.pid) - calls_of_controller) / calls,
            (time.process_time() - own) / calls,
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
