"""A process that a nanny starts: how it is forked, and how its exit status is read.

This is separate from the nanny's loop because everything after the fork runs in another process, where different
rules apply: code must not use the nanny's objects, and errors are written to the child's own log.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ipython1 import system
from ipython1.daemon import osprocess
from ipython1.daemon.protocol import Spawn
from ipython1.daemon.pythoncommand import python_command
from ipython1.daemon.ready import LEAVE, READY, READY_VARIABLE
from ipython1.daemon.readyends import PipeEnd, ReadyEnd
from ipython1.daemon.renew import (
    renew_main_module,
    renew_random,
    renew_reactor,
    renew_signals,
)
from ipython1.daemon.streams import open_stream
from ipython1.daemon.titles import set_title
from ipython1.ownfiles import open_to_append

OWNER_VARIABLE = "IPYTHON1_PROCESS"
"""The environment variable that tells each descendant which supervised process it belongs to."""

READ_AT_START = ("TZ", "LANG", "LANGUAGE", "GLIBC_TUNABLES")
READ_AT_START_PREFIXES = ("PYTHON", "LC_", "LD_", "DYLD_", "MALLOC_")
"""Environment variables that Python, the loader and the C library read once, when a process starts."""

TAIL_BYTES = 16384


class SpawnError(Exception):
    """A process could not be started; the message is one line for the user."""


class BecomeProgram(BaseException):
    """Raised in a forked child to leave the nanny's loop and run a program instead.

    It is a BaseException, so that no handler on the way treats it as an error.
    """

    def __init__(self, module: str, argv: Sequence[str]) -> None:
        super().__init__(module)
        self.module = module
        self.argv: list[str] = list(argv)


@dataclass(slots=True)
class Child:
    """A started process.

    :ivar tail: the number of last lines of its output that are told when it ends.
    :ivar ready: through which it reports, if it can.
    :ivar token: by which it is recognised when it connects; empty if it has a pipe.
    :ivar process: the process, if it was not forked.
    :ivar log_start: the length of its log file before it started.
    :ivar watch: the seconds of silence after which to say so; 0 for never.
    :ivar heard: when it last gave a sign of life.
    :ivar silent: whether its silence was told.
    :ivar left: whether it reported that its exit was requested.
    """

    key: str
    pid: int
    owner: str
    log: str
    log_start: int
    tail: int = 20
    ready: ReadyEnd | None = None
    token: str = ""
    process: subprocess.Popen[bytes] | None = None
    stopping: bool = False
    watch: float = 0.0
    heard: float = 0.0
    silent: bool = False
    left: bool = False
    rest: bytes = b""

    def reports(self, data: bytes) -> list[str]:
        """Take what came through its pipe; return the texts of the reports of readiness in it."""
        *lines, rest = (self.rest + data).split(b"\n")
        self.rest = rest[-1000:]
        self.left = self.left or LEAVE in lines
        found = (line.partition(b" ") for line in lines)
        return [text.decode(errors="replace").strip() for word, _, text in found if word == READY]

    def last_lines(self) -> tuple[str, ...]:
        """Return the last lines that it wrote to its log, or a note if there are none because the disk is full."""
        if not self.log:
            return ()
        lines = tail(self.log, self.tail, start=self.log_start)
        if not lines and osprocess.disk_is_full(self.log):
            lines = [f"no space left on the disk of its log {self.log}"]
        return tuple(lines)


def tail(path: str, lines: int, *, start: int = 0) -> list[str]:
    """Return the last lines of a file after byte ``start``; empty if there is no such file."""
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            begin = max(start if start <= end else 0, end - TAIL_BYTES)
            file.seek(begin)
            data = file.read()
    except OSError:
        return []
    return [line for line in data.decode(errors="replace").splitlines() if line.strip()][-lines:]


def import_program(name: str) -> ModuleType:
    """Import the module of a program, and call its ``preload()``, if any, to import what it needs.

    :raises SpawnError: if the import fails.
    """
    try:
        module = importlib.import_module(name)
        preload = getattr(module, "preload", None)
        if preload is not None:
            preload()
    except Exception as problem:
        raise SpawnError(f"cannot import {name}: {type(problem).__name__}: {problem}") from problem
    return module


def _open_log(path: str) -> tuple[int, int]:
    """Open a log file for appending; return its descriptor and its length."""
    if not path:
        return os.open(os.devnull, os.O_WRONLY), 0
    try:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = open_to_append(path)
        return descriptor, os.fstat(descriptor).st_size
    except OSError as problem:
        raise SpawnError(f"cannot open the log file {path}: {problem.strerror}") from problem


def _is_read_at_start(name: str) -> bool:
    """Return whether a process heeds an environment variable only if it has it from its very beginning."""
    return name in READ_AT_START or name.startswith(READ_AT_START_PREFIXES)


def _environment(request: Spawn, owner: str) -> dict[str, str]:
    environment = dict(os.environ)
    for name, value in request.env.items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value
    environment[OWNER_VARIABLE] = owner
    return environment


@dataclass(slots=True)
class _Command:
    """What is started, and with what."""

    argv: list[str]
    environment: dict[str, str]
    cwd: str
    owner: str


def _command(request: Spawn, warm: bool) -> _Command:
    """Return how to start a process.

    :param warm: whether a module's program is forked.
    :raises SpawnError: if it cannot be started.
    """
    argv = list(request.argv)
    if request.module and not warm:
        argv = python_command(request.module, argv, python=os.path.expanduser(request.python))
    owner = f"{os.getpid()}/{request.key}"
    environment = _environment(request, owner)
    cwd = os.path.expanduser(request.cwd or ".")
    if not os.path.isdir(cwd):
        raise SpawnError(f"could not be started: the working directory {cwd} does not exist")
    if not request.module or request.python:
        found = shutil.which(argv[0], path=environment.get("PATH"))
        if found is None:
            raise SpawnError(
                f"could not be started: program {argv[0]!r} not found on this host (in PATH)"
            )
    # Another program would pass the variable on to processes that do not have the pipe.
    environment.pop(READY_VARIABLE, None)
    return _Command(argv, environment, cwd, owner)


def start_process(request: Spawn, place: Callable[[str], str]) -> Child:
    """Start a process without forking this one.

    :param place: gives for a token what the process needs to know to connect.
    :raises SpawnError: if the process cannot be started.
    """
    command = _command(request, warm=False)
    log_path = os.path.expanduser(request.log)
    log, log_start = _open_log(log_path)
    token = ""
    if request.module:
        token = system.new_token()
        command.environment[READY_VARIABLE] = place(token)
    try:
        process = subprocess.Popen(
            command.argv,
            env=command.environment,
            cwd=command.cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            **system.apart(),
        )
    except OSError as problem:
        raise SpawnError(f"cannot run {command.argv[0]}: {problem.strerror}") from problem
    finally:
        os.close(log)
    child = Child(request.key, process.pid, command.owner, log_path, log_start, request.tail)
    child.token, child.process = token, process
    return child


def start_child(request: Spawn, *, warm: bool, close: Iterable[int]) -> Child:
    """Fork a process in its own session, which the operating system kills if this process dies.

    :param warm: continue with a module's program in the child instead of starting a new Python, unless it needs one.
    :param close: descriptors of this process that the child must close.
    :raises SpawnError: if the process cannot be started.
    :raises BecomeProgram: in the child, if the program is forked.
    """
    warm = warm and not request.python and not any(map(_is_read_at_start, request.env))
    if warm and request.module:
        import_program(request.module)
    command = _command(request, warm)
    parent = os.getpid()
    log_path = os.path.expanduser(request.log)
    log, log_start = _open_log(log_path)
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    gc.freeze()  # existing objects stay shared, as the children's collectors do not touch them
    # A signal right after the fork must not run this process's handlers in the child.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
    except OSError as problem:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for descriptor in (log, reader, writer):
            os.close(descriptor)
        raise SpawnError(f"cannot start another process: {problem.strerror}") from problem
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(log)
        os.close(writer)
        ready = PipeEnd(reader)
        return Child(request.key, pid, command.owner, log_path, log_start, request.tail, ready)
    _in_child(request, command, parent, log, writer, (*close, reader), warm)
    raise AssertionError("not reached")


def _in_child(
    request: Spawn,
    command: _Command,
    parent: int,
    log: int,
    ready: int,
    close: Iterable[int],
    warm: bool,
) -> None:
    argv, environment = command.argv, command.environment
    try:
        renew_signals()
        os.setsid()
        osprocess.end_with_parent(parent)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        for descriptor in (null, log, *close):
            if descriptor > 2:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        os.chdir(command.cwd)
        if request.module:
            environment[READY_VARIABLE] = str(ready)
        if warm and request.module:
            set_title(request.argv[0])
            for name in os.environ.keys() - environment.keys():
                del os.environ[name]
            os.environ.update(environment)
            raise BecomeProgram(request.module, argv)
        os.set_inheritable(ready, bool(request.module))
        for name in ("SIGINT", "SIGPIPE"):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        os.execvpe(argv[0], argv, environment)
    except BecomeProgram:
        raise
    except BaseException as problem:
        message = f"cannot run {argv[0]}: {problem}\n"
        os.write(2, message.encode(errors="replace"))
        os._exit(127)


def run_program(task: BecomeProgram) -> int:
    """Run the program in the forked child; return its exit status."""
    renew_random()
    renew_reactor()
    renew_main_module()
    sys.argv = list(task.argv)
    # The template's file objects use descriptors that now refer to other files.
    for descriptor in range(3):
        open_stream(descriptor)
    gc.enable()
    status = importlib.import_module(task.module).main(task.argv[1:])
    return 0 if status is None else int(status)


def collect_forked() -> Iterator[tuple[int, int]]:
    """Collect processes below this one that have ended; give their pids and exit codes."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def collect_started(
    processes: Iterable[subprocess.Popen[bytes] | None],
) -> Iterator[tuple[int, int]]:
    """Collect those of some processes that have ended; give their pids and exit codes."""
    for process in processes:
        code = None if process is None else process.poll()
        if process is not None and code is not None:
            yield process.pid, code


def end_code(code: int) -> tuple[int | None, int | None]:
    """Return ``(exit status, signal)`` for an exit code of :mod:`subprocess`; one of them is None."""
    return (None, -code) if code < 0 else (code, None)


def below(adopts: bool, table: Mapping[int, osprocess.ProcessEntry] | None = None) -> list[int]:
    """Return all descendants of this process, as far as the system can tell.

    :param adopts: whether orphans below this process have become its children.
    :param table: the process table, if it is known already.
    """
    known = osprocess.process_table() if table is None else table
    found = osprocess.descendants(os.getpid(), known)
    if not adopts:
        # Orphans have another parent; the environment that they inherited shows where they come from.
        mark = f"{os.getpid()}/"
        found += [
            pid
            for pid, entry in known.items()
            if pid not in found
            and entry.state != "Z"
            and osprocess.environment_of(pid).get(OWNER_VARIABLE, "").startswith(mark)
        ]
    return found
