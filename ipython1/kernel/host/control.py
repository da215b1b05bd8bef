"""Orders to a running process: one JSON object a line, over a socket that only its user can open.

A request is ``{"id": 1, "do": "add", "count": 2}``; its answer ``{"id": 1, "value": ...}`` or ``{"id": 1, "error":
[name, text]}``.  A side that asked to ``watch`` also gets ``{"event": "say", "text": ...}`` and ``{"event":
"progress", ...}``.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import selectors
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ipython1.daemon.protocol import LineBuffer
from ipython1.kernel.basics import error
from ipython1.kernel.basics.error import (
    ClusterError,
    ConnectionError,
    ProtocolError,
    ResultNotCompleted,
)
from ipython1.kernel.host.private_files import read_private_if_there, write_private
from ipython1.system import LOOPBACK, SELECTOR, UNIX_SOCKETS

LINE_LIMIT = 8 << 20
"""The longest message, in bytes: a status with the last words of thousands of engines."""

CLUSTER = "the cluster"

_PATH_LIMIT = 100  # bytes; the systems' own limits begin at 104


def encode(content: dict[str, Any]) -> bytes:
    """The line for a message."""
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The message of a line.

    :raises ProtocolError: when it is none.
    """
    try:
        content = json.loads(line)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ProtocolError("this is not a control connection")
    return content


def line_buffer() -> LineBuffer:
    """What cuts a control connection's stream into lines."""
    return LineBuffer(LINE_LIMIT, "on a control connection")


def error_to_wire(problem: BaseException) -> list[str]:
    """The name and text under which an error travels."""
    if isinstance(problem, ClusterError):
        return ["ClusterError", str(problem)]
    return list(error.to_wire(problem))


def error_from_wire(content: Any) -> Exception:
    """The error for what :func:`error_to_wire` gave."""
    try:
        name, text = content
    except (TypeError, ValueError):
        return ProtocolError("a malformed error came over a control connection")
    if name == "ClusterError":
        return ClusterError(str(text))
    return error.from_wire(str(name), str(text))


# -- where the socket is


def choose_socket_path(wanted: Path) -> Path:
    """Where to listen: ``wanted``, or a new private directory where that path is too long for the system."""
    if not UNIX_SOCKETS or len(os.fsencode(wanted)) <= _PATH_LIMIT:
        return wanted
    return Path(tempfile.mkdtemp(prefix="ipython1-")) / wanted.name


def note_socket_path(path: Path, wanted: Path) -> None:
    """Write down where a socket is, if it is not where it is looked for.

    :raises SecurityError: if that cannot be written.
    """
    if path != wanted:
        write_private(_note_of(wanted), f"{path}\n".encode())


def find_socket(wanted: Path) -> Path:
    """Return where the socket is that is looked for at ``wanted``.

    :raises SecurityError: if others can have a hand in it.
    """
    note = read_private_if_there(_note_of(wanted), "note of a socket")
    return wanted if note is None else Path(note.decode().strip())


def _note_of(wanted: Path) -> Path:
    return wanted.with_name(f"{wanted.name}.path")


def remove_socket(path: Path, wanted: Path) -> None:
    """Remove a socket, and the directory and the note that were made for it."""
    with contextlib.suppress(OSError):
        mode = path.lstat().st_mode
        if stat.S_ISSOCK(mode) if UNIX_SOCKETS else stat.S_ISREG(mode):
            path.unlink()
    if path != wanted and path.name == wanted.name:
        with contextlib.suppress(OSError):
            path.parent.rmdir()
        with contextlib.suppress(OSError):
            _note_of(wanted).unlink()


def connect_control(path: str, timeout: float = 5.0, who: str = CLUSTER) -> socket.socket:
    """Connect to a control socket.

    :param who: takes orders there, for messages.
    :raises ConnectionError: when nobody answers there.
    """
    try:
        return _connect(path, timeout)
    except OSError as problem:
        why = problem.strerror or "no answer"
        raise ConnectionError(f"{who} does not answer at {path}: {why}") from None


def _connect(path: str, timeout: float) -> socket.socket:
    family = socket.AF_UNIX if UNIX_SOCKETS else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        if UNIX_SOCKETS:
            connection.connect(path)
        else:
            port, secret = read_place(Path(path))
            connection.connect((LOOPBACK, port))
            connection.sendall(f"{secret}\n".encode())
    except BaseException:
        connection.close()
        raise
    return connection


# -- where sockets cannot be files: a private file with a port of loopback, and what those must show who connect


def write_place(path: Path, port: int, secret: str) -> None:
    """Write down where orders are taken, and what those must show who give some.

    :raises SecurityError: if that cannot be written.
    """
    write_private(path, f"{port} {secret}\n".encode())


def read_place(path: Path) -> tuple[int, str]:
    """Return the port and the secret that :func:`write_place` wrote.

    :raises FileNotFoundError: if there is nothing.
    :raises SecurityError: if others can have a hand in it.
    """
    text = read_private_if_there(path, "address of a control connection")
    if text is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    port, _, secret = text.decode().strip().partition(" ")
    return int(port), secret


def no_answer(what: str, who: str = CLUSTER) -> ResultNotCompleted:
    """Return the error for an answer that does not come.

    :param what: the order.
    :param who: is at the other side.
    """
    return ResultNotCompleted(f"{who} did not answer in time: {what}")


class BlockingControl:
    """The asking side, for code that blocks; any number of threads may ask at the same time.

    One of the threads that wait reads for all of them.

    :param on_event: takes the events that come while an answer is waited for.
    :param who: is at the other side, for messages.
    """

    def __init__(
        self,
        connection: socket.socket,
        on_event: Callable[[dict[str, Any]], object] = lambda event: None,
        who: str = CLUSTER,
    ) -> None:
        self._connection = connection
        self._connection.setblocking(False)
        self.on_event = on_event
        self._who = who
        self._lines = line_buffer()
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._reading = False
        self._users = 0
        self._closed = False
        self._waiting: set[int] = set()
        self._answers: dict[int, dict[str, Any]] = {}

    def call(self, do: str, timeout: float | None = 30.0, **arguments: Any) -> Any:
        """Give an order and wait for the answer.

        :raises ResultNotCompleted: when none comes in time.
        :raises ConnectionError: when the cluster is gone.
        """
        number = next(self._numbers)
        until = None if timeout is None else time.monotonic() + timeout
        self._waiting.add(number)
        try:
            self._send(encode({"id": number, "do": do, **arguments}), until)
            self._read_until(lambda: number in self._answers, until, do)
        finally:
            self._waiting.discard(number)
            answer = self._answers.pop(number, {})
        if "error" in answer:
            raise error_from_wire(answer["error"])
        return answer.get("value")

    def wait_closed(self, timeout: float) -> bool:
        """Wait until the other side has closed; False when it has not in time."""
        try:
            self._read_until(lambda: False, time.monotonic() + timeout, "its end")
        except ResultNotCompleted:
            return False
        except ConnectionError:
            return True
        raise AssertionError("not reached")

    def close(self) -> None:
        """End the connection; who waits for an answer is told that the cluster is gone."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        with self._changed:
            self._closed = True
            self._close_if_unused()

    @contextlib.contextmanager
    def _use(self) -> Iterator[None]:
        """Keep the descriptor, which could belong to something else once it is closed, while a thread waits for it."""
        with self._changed:
            if self._closed:
                raise ConnectionError(f"{self._who} is gone")
            self._users += 1
        try:
            yield
        finally:
            with self._changed:
                self._users -= 1
                self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._closed and not self._users:
            self._connection.close()

    def _read_until(self, condition: Callable[[], bool], until: float | None, what: str) -> None:
        while True:
            with self._changed:
                while self._reading and not condition():
                    left = None if until is None else until - time.monotonic()
                    if left is not None and left <= 0:
                        raise self._no_answer(what)
                    self._changed.wait(left)
                if condition():
                    return
                self._reading = True
            try:
                self._receive(until, what)
            finally:
                with self._changed:
                    self._reading = False
                    self._changed.notify_all()

    def _wait(self, event: int, until: float | None, what: str) -> None:
        left = None if until is None else max(0.0, until - time.monotonic())
        # Not select(), which knows no descriptors from 1024 on.
        with SELECTOR() as selector:
            selector.register(self._connection, event)
            if not selector.select(left):
                raise self._no_answer(what)

    def _send(self, data: bytes, until: float | None) -> None:
        view = memoryview(data)
        with self._sending, self._use():
            while view:
                self._wait(selectors.EVENT_WRITE, until, "sending")
                try:
                    view = view[self._connection.send(view) :]
                except OSError:
                    raise ConnectionError(f"{self._who} is gone") from None

    def _receive(self, until: float | None, what: str) -> None:
        with self._use():
            self._wait(selectors.EVENT_READ, until, what)
            try:
                data = self._connection.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                data = b""
        if not data:
            raise ConnectionError(f"{self._who} is gone")
        for line in self._lines.feed(data):
            content = decode(line)
            number = int(content.get("id", 0))
            if "event" in content:
                self.on_event(content)
            elif number in self._waiting:
                self._answers[number] = content

    def _no_answer(self, what: str) -> ResultNotCompleted:
        return no_answer(what, self._who)
