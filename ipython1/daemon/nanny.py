"""The nanny: the ancestor of all processes of a cluster on one host.

It starts processes on request, reports when they end with the last lines of their output, and leaves nothing behind:

* It is a *warm template*: it has imported what engines and controllers need, and forks them in milliseconds.
* It has a lifeline to its supervisor.  When the supervisor ends in any way, the nanny ends every process below it.
* It adopts the orphans of its processes, so none can escape; when a process dies, its descendants are ended, too.
  The operating system kills the nanny's processes if the nanny itself is killed.

* It tells the supervisor which of its processes have stopped to give signs of life, and the user if the supervisor has.

It runs a plain selector loop without a reactor, has only one thread (because it forks), and its loop waits only for
its descriptors.  States: *serving* -> *ending* (all processes are asked to end at once, with a grace period) ->
*killing* (until no descendant is left) -> gone.
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from ipython1 import system
from ipython1.daemon import osprocess
from ipython1.daemon.channel import Channel, Wire
from ipython1.daemon.children import (
    OWNER_VARIABLE,
    BecomeProgram,
    Child,
    SpawnError,
    below,
    collect_forked,
    collect_started,
    end_code,
    import_program,
    run_program,
    start_child,
    start_process,
)
from ipython1.daemon.files import read_text, write_text
from ipython1.daemon.handover import take
from ipython1.daemon.protocol import (
    Alive,
    AtEnd,
    End,
    Ended,
    Failed,
    FileText,
    Goodbye,
    Hello,
    Message,
    ReadFile,
    Ready,
    Signal,
    Spawn,
    Started,
    Warm,
    WriteFile,
    Written,
)
from ipython1.daemon.readyends import ReadyDoor, ReadyEnd
from ipython1.daemon.settings import Settings, receive_settings
from ipython1.daemon.silence import Silences
from ipython1.daemon.streams import private_stdio
from ipython1.daemon.titles import NANNY, preload_titles, set_title
from ipython1.version import __version__

GRACE_AFTER_LOSS = 1.0
"""Seconds that processes have to end by themselves when the supervisor is gone."""

ENDING = (int(signal.SIGTERM), system.PAUSE)
"""The signals that ask a process to end, which it cannot do while it is stopped."""

END_COMMANDS_LIMIT = 20.0
"""Seconds that the commands of :class:`AtEnd` may take."""

KILL_LIMIT = 10.0
"""Seconds after which the nanny gives up on a process that survives SIGKILL (in a system call)."""


LOOK_EVERY = 0.05
"""Seconds between looks for processes that have ended, where no signal tells of it."""


class Nanny:
    """The loop; see the module's docstring.

    :param reader: the descriptor for requests, or a socket; end of file ends everything.
    :param writer: the descriptor for events (the same for a socket).
    :param silence: end everything if nothing arrives for this many seconds; 0 for never.
    :param watch: say so if nothing arrives for this many seconds; 0 for never.
    :param log: the file where to say it, besides standard error; empty for none.
    :param title: what ``ps`` shows of it; empty for its name.
    :param keep: descriptors to hold open until the nanny exits, without passing them to its processes.
    """

    def __init__(
        self,
        reader: Wire,
        writer: Wire,
        *,
        silence: float = 0.0,
        watch: float = 0.0,
        log: str = "",
        title: str = "",
        keep: Sequence[int] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keep = tuple(keep)
        self._title = title or NANNY
        self._silence = silence
        self._clock = clock
        self._children: dict[int, Child] = {}
        self._enders: dict[int, subprocess.Popen[bytes]] = {}
        self._reads: list[tuple[float, ReadFile]] = []
        self._warm: list[str] = []
        self._were_ready: set[str] = set()
        self._held_back: list[Spawn] = []
        self._end_commands: tuple[tuple[str, ...], ...] = ()
        self._deadline: float | None = None
        self._enders_deadline = 0.0
        self._killing = False
        self._killed = 0
        self._finished = False
        self._adopts = False
        self._selector: selectors.BaseSelector = system.SELECTOR()
        self._channel = Channel(
            self._selector,
            reader,
            writer,
            self._on_request,
            lambda: self._begin_end(GRACE_AFTER_LOSS),
        )
        self._send = self._channel.send
        self._silences = Silences(
            clock, lambda: self._children.values(), self._send, watch=watch, log=log
        )
        self._wake_reader, self._wake_writer = system.connected_pair()
        self._door: ReadyDoor | None = None

    # -- the loop

    def run(self) -> int:
        """Serve until everything has ended; return the exit status.

        :raises BecomeProgram: in a forked child.
        """
        self._set_up()
        while not self._finished:
            timeout, before = self._timeout(), self._clock()
            for key, _ in self._selector.select(timeout):
                key.data()
            self._silences.turn_took(self._clock() - before, timeout)
            self._reap()
            self._tick()
        self._channel.flush()
        return 0

    def _set_up(self) -> None:
        self._adopts = osprocess.adopt_orphans()
        set_title(self._title)
        for end in (self._wake_reader, self._wake_writer):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        if system.LINUX:
            signal.signal(signal.SIGCHLD, lambda *_: None)
        else:
            self._door = ReadyDoor(self._selector, self._tokens, self._on_connected)
        signal.signal(signal.SIGTERM, lambda *_: self._begin_end(GRACE_AFTER_LOSS))
        for number in system.OF_TERMINALS:
            signal.signal(number, signal.SIG_IGN)
        self._channel.open()
        self._selector.register(self._wake_reader, selectors.EVENT_READ, self._on_wake)
        entry = osprocess.process_entry(os.getpid())
        self._send(
            Hello(
                pid=os.getpid(),
                started=entry.started if entry else 0.0,
                host=socket.gethostname(),
                home=os.path.expanduser("~"),
                python=".".join(map(str, sys.version_info[:2])),
                version=__version__,
                forks=osprocess.can_fork_warm(),
            )
        )

    def _timeout(self) -> float | None:
        if self._finished or (self._warm and self._deadline is None):
            return 0.0
        moments = [0.02] if self._reads or self._killing else []
        if not system.LINUX and (self._children or self._enders):
            moments.append(LOOK_EVERY)
        if self._deadline is not None:
            moments.append(max(0.0, min(self._deadline - self._clock(), 0.2)))
        if self._deadline is None:
            moments += self._silences.next_look()
            if self._silence:
                moments.append(max(0.0, self._silences.heard + self._silence - self._clock()))
        return min(moments) if moments else None

    def _tick(self) -> None:
        now = self._clock()
        if self._deadline is None:
            if self._silence and now - self._silences.heard >= self._silence:
                self._begin_end(GRACE_AFTER_LOSS)
            elif self._warm:
                with contextlib.suppress(SpawnError):  # reported when the module is actually needed
                    import_program(self._warm.pop(0))
            self._silences.look()
        self._answer_reads(now)
        if self._deadline is not None:
            self._go_on_ending(now)

    def _on_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_reader.recv(4096)

    # -- talking

    def _on_request(self, message: Message) -> None:
        self._silences.supervisor_heard()
        self._handle(message)

    # -- requests

    def _handle(self, message: Message) -> None:
        match message:
            case Spawn():
                self._spawn(message)
            case Signal():
                for child in self._children.values():
                    if child.key == message.key:
                        child.stopping = True
                        self._tell(child, message.number, group=message.group)
            case Warm():
                if osprocess.can_fork_warm():
                    self._warm.extend(message.modules)
            case WriteFile():
                self._write_file(message)
            case ReadFile():
                self._reads.append((self._clock() + message.wait, message))
            case AtEnd():
                self._end_commands = message.commands
            case Alive():
                self._send(message)
            case End():
                self._held_back.clear()
                self._begin_end(message.grace)

    def _tell(self, child: Child, number: int, *, group: bool = False) -> None:
        """Send a signal to a process, or what stands for it."""
        # What a process is asked to do it is told by the connection, if it has one; where there is one, signals may
        # not exist.
        asked = number in ENDING and child.ready is not None and child.ready.order(number)
        if not asked:
            osprocess.send_signal(child.pid, number, group=group)
        if number in ENDING:
            osprocess.let_go_on(child.pid)

    def _spawn(self, request: Spawn) -> None:
        if self._deadline is not None:
            self._send(Failed(request.key, "the cluster is being stopped"))
            return
        if request.after and request.after not in self._were_ready:
            if any(child.key == request.after for child in self._children.values()):
                self._held_back.append(request)
            else:
                self._send(Failed(request.key, f"{request.after} did not start"))
            return
        if request.module in self._warm:
            self._warm.remove(request.module)
        try:
            child = self._start(request)
        except (SpawnError, OSError) as problem:
            self._send(Failed(request.key, str(problem)))
            return
        child.watch, child.heard = request.watch, self._clock()
        self._children[child.pid] = child
        self._listen_to(child)
        entry = osprocess.process_entry(child.pid)
        self._send(Started(request.key, child.pid, entry.started if entry else 0.0))

    def _start(self, request: Spawn) -> Child:
        if self._door is not None:
            return start_process(request, self._door.place)
        mine = [*self._channel.descriptors, *self._keep]
        mine += [self._wake_reader.fileno(), self._wake_writer.fileno()]
        mine += [each.ready.fileno() for each in self._children.values() if each.ready is not None]
        return start_child(request, warm=osprocess.can_fork_warm(), close=mine)

    def _listen_to(self, child: Child) -> None:
        if child.ready is not None:
            events = selectors.EVENT_READ
            self._selector.register(child.ready, events, lambda: self._on_ready(child))

    def _tokens(self) -> list[str]:
        return [child.token for child in self._children.values() if child.token]

    def _on_connected(self, token: str, end: ReadyEnd) -> None:
        for child in self._children.values():
            if child.token == token:
                child.token, child.ready = "", end
                self._listen_to(child)

    def _on_ready(self, child: Child) -> None:
        if child.ready is None:
            return
        try:
            data = child.ready.read()
        except BlockingIOError:
            return
        if not data:
            self._forget_ready(child)
            self._release_held_back(child.key)
            return
        self._silences.child_heard(child)
        for text in child.reports(data):
            self._send(Ready(child.key, text))
            self._were_ready.add(child.key)
            self._release_held_back(child.key)

    def _release_held_back(self, key: str) -> None:
        released = [request for request in self._held_back if request.after == key]
        self._held_back = [request for request in self._held_back if request.after != key]
        for request in released:
            self._spawn(request)

    def _forget_ready(self, child: Child) -> None:
        if child.ready is not None:
            self._selector.unregister(child.ready)
            child.ready.close()
            child.ready = None

    def _write_file(self, request: WriteFile) -> None:
        try:
            write_text(request.path, request.text)
        except OSError as problem:
            self._send(Failed(request.key, f"cannot write {request.path}: {problem.strerror}"))
        else:
            self._send(Written(request.key))

    def _answer_reads(self, now: float) -> None:
        waiting, self._reads = self._reads, []
        for until, request in waiting:
            try:
                text = read_text(request.path, request.lines)
            except OSError as problem:
                if now < until and self._deadline is None:
                    self._reads.append((until, request))
                else:
                    failed = f"cannot read {request.path}: {problem.strerror}"
                    self._send(Failed(request.key, failed))
            else:
                self._send(FileText(request.key, text))

    # -- ends of processes

    def _reap(self) -> None:
        if system.LINUX:
            ended = collect_forked()
        else:
            started = [child.process for child in self._children.values()]
            ended = collect_started([*started, *self._enders.values()])
        for pid, status in ended:
            self._enders.pop(pid, None)
            child = self._children.pop(pid, None)
            if child is None:
                continue  # an adopted orphan
            if child.ready is not None:
                self._on_ready(child)
                self._forget_ready(child)
            self._were_ready.discard(child.key)
            self._release_held_back(child.key)
            self._end_orphans_of(child)
            code, number = end_code(status)
            self._send(Ended(child.key, pid, code, number, child.last_lines(), child.left))

    def _end_orphans_of(self, child: Child) -> None:
        """Kill what a dead process left behind: the rest of its session, and processes with its mark."""
        for _ in range(5):  # repeat, as they may fork in the meantime
            table = osprocess.process_table()
            left = [
                pid
                for pid in below(self._adopts, table)
                if table[pid].session == child.pid
                or osprocess.environment_of(pid).get(OWNER_VARIABLE) == child.owner
            ]
            if not left:
                return
            for pid in left:
                self._killed += osprocess.send_signal(pid, system.KILL)
            time.sleep(0.002)

    # -- the end of everything

    def _begin_end(self, grace: float) -> None:
        now = self._clock()
        if self._deadline is not None:
            self._deadline = min(self._deadline, now + grace)
            return
        self._deadline = now + grace
        self._enders_deadline = now + END_COMMANDS_LIMIT
        for command in self._end_commands:
            with contextlib.suppress(OSError):
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    **system.apart(),
                )
                if system.LINUX:
                    process.returncode = 0  # collected with all others
                self._enders[process.pid] = process
        for child in list(self._children.values()):
            child.stopping = True
            self._tell(child, signal.SIGTERM)

    def _go_on_ending(self, now: float) -> None:
        assert self._deadline is not None
        if self._children and now < self._deadline:
            return
        self._killing = True
        below = below(self._adopts)
        if now > self._enders_deadline:
            self._enders.clear()
        spared = {pid for ender in self._enders for pid in (ender, *osprocess.descendants(ender))}
        left = [pid for pid in below if pid not in spared]
        for pid in left:
            self._killed += osprocess.send_signal(pid, system.KILL)
        stuck = now > max(self._deadline, self._enders_deadline) + KILL_LIMIT
        if stuck or not (left or self._enders or self._children):
            self._send(Goodbye(self._killed))
            self._finished = True

    def kill_everything(self) -> None:
        """Kill all descendants immediately: for when the loop itself has failed."""
        for pid in below(self._adopts):
            osprocess.send_signal(pid, system.KILL)


def _settings_by_socket(connection: socket.socket, program: str) -> Settings | None:
    """Wait for the settings; what there is to import is imported first."""
    if program and osprocess.can_fork_warm():
        with contextlib.suppress(SpawnError):  # reported when the program is to be started
            import_program(program)
    preload_titles()
    return receive_settings(connection)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a nanny.

    :param argv: ``--fd N`` (a socket, by which its settings come) and ``--program MODULE``, which it imports; or
        ``--stdio`` and ``--silence SECONDS``.
    """
    # Garbage collection during imports takes time, and would unshare the pages of forked children.
    gc.disable()
    arguments = list(sys.argv[1:] if argv is None else argv)
    over_pipes = "--stdio" in arguments
    if over_pipes:
        arguments.remove("--stdio")
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    settings: Settings | None
    reader: Wire
    writer: Wire
    if over_pipes:
        reader, writer = private_stdio()
        settings = Settings(silence=float(options.get("--silence", 0)))
    else:
        reader = writer = connection = take(int(options["--fd"]))
        settings = _settings_by_socket(connection, options.get("--program", ""))
    if settings is None:
        return 0
    for descriptor in settings.keep:
        os.set_inheritable(descriptor, False)
    nanny = Nanny(reader, writer, **settings._asdict())
    try:
        return nanny.run()
    except BecomeProgram as program:
        task = program.with_traceback(None)
    except BaseException:
        nanny.kill_everything()
        raise
    del nanny
    sys.exit(run_program(task))


if __name__ == "__main__":
    # Import the module by its own name (not __main__), so that its classes exist only once.
    from ipython1.daemon.nanny import main as _main

    sys.exit(_main())
