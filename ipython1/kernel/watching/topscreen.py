"""The terminal of ``ipcluster top``: looks at the controller again and again, reads keys, and draws.

A thread asks the controller, so that keys work while it does not answer; the main thread waits for keys, for news and
for a terminal of another size.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final, Protocol

from rich.console import Console
from rich.live import Live

from ipython1.kernel.watching.topcontrols import Controls
from ipython1.kernel.watching.topstate import TopState
from ipython1.kernel.watching.topview import Screen, render, share_rows
from ipython1.kernel.wire.monitoring import News
from ipython1.system import connected_pair, termios

SILENCE: Final = 5.0
"""Seconds without an answer after which that is shown."""

ENDS: Final = frozenset({"q", "Q", "\x04"})
"""Keys that end it, besides Ctrl-C."""

SEQUENCES: Final = {
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1bOA": "up",
    "\x1bOB": "down",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[H": "home",
    "\x1b[F": "end",
    "\x1b[1~": "home",
    "\x1b[4~": "end",
    "\x1bOH": "home",
    "\x1bOF": "end",
}
"""What terminals send for keys that are no characters."""


class LooksAtController(Protocol):
    """A client that tells what a controller does; see ``MonitorClient``."""

    def news(self, mark: int) -> News:
        """Return what has changed since an earlier look."""


def keys_of(text: str) -> Iterator[str]:
    """Split what a terminal sends into keys."""
    at = 0
    while at < len(text):
        known = next((each for each in SEQUENCES if text.startswith(each, at)), "")
        if known:
            yield SEQUENCES[known]
            at += len(known)
        else:
            yield text[at]
            at += 1


class Looking:
    """Asks a controller in a thread, and tells when there is something new.

    :param interval: seconds between two questions.
    :param tell: called in the thread whenever something has changed.
    :ivar state: what is known; hold :attr:`lock` to look at it.
    """

    def __init__(
        self, client: LooksAtController, interval: float, tell: Callable[[], None]
    ) -> None:
        self.state: TopState = TopState()
        self.lock: threading.Lock = threading.Lock()
        self.failure: Exception | None = None
        self._client = client
        self._interval = interval
        self._tell = tell
        self._answered = time.monotonic()
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="ipython1-top", daemon=True).start()

    @property
    def silent(self) -> float:
        """For how many seconds there has been no answer, if that is long; else 0."""
        seconds = time.monotonic() - self._answered - self._interval
        return seconds if seconds > SILENCE else 0.0

    def end(self) -> None:
        """Ask no more."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                news = self._client.news(self.state.mark)
            except Exception as problem:
                self.failure = problem
                self._tell()
                return
            with self.lock:
                self.state.apply(news)
            self._answered = time.monotonic()
            self._tell()
            self._ended.wait(self._interval)


def show_once(client: LooksAtController, console: Console) -> None:
    """Print what the controller does now."""
    state = TopState()
    state.apply(client.news(0))
    view = render(state, Controls(), Screen(console.width))
    if console.is_terminal:
        console.print(view)
        return
    with console.capture() as capture:
        console.print(view)
    # Programs and files get no spaces that nobody sees.
    for line in capture.get().splitlines():
        console.out(line.rstrip(), highlight=False)


def show_live(client: LooksAtController, interval: float) -> None:
    """Show what the controller does until the user ends it.

    :param interval: seconds between two looks.
    :raises KernelError: if the controller cannot be asked any more.
    """
    console = Console()
    reader, writer = connected_pair()
    writer.setblocking(False)

    def wake(*_: object) -> None:
        with contextlib.suppress(OSError):  # full: it is awake
            writer.send(b".")

    before = signal.signal(signal.SIGWINCH, wake) if hasattr(signal, "SIGWINCH") else None
    looking = Looking(client, interval, wake)
    try:
        with (
            _ended_by_signals(),
            _keys_at_once(sys.stdin.fileno()),
            Live(console=console, screen=True, auto_refresh=False, redirect_stderr=False) as live,
        ):
            _follow(looking, live, console, reader)
    except KeyboardInterrupt:
        return
    finally:
        looking.end()
        reader.close()
        writer.close()
        if before is not None:
            signal.signal(signal.SIGWINCH, before)
    if looking.failure is not None:
        raise looking.failure


def _follow(looking: Looking, live: Live, console: Console, reader: socket.socket) -> None:
    controls = Controls()
    with selectors.DefaultSelector() as selector:
        for descriptor in (reader, sys.stdin.fileno()):
            selector.register(descriptor, selectors.EVENT_READ)
        while looking.failure is None:
            width, height = console.size
            with looking.lock:
                controls, rows = _bounded(controls, looking.state, height)
                screen = Screen(width, height, looking.silent)
                view = render(looking.state, controls, screen)
            live.update(view, refresh=True)
            ready = {key.fd for key, _ in selector.select(1.0)}
            if reader.fileno() in ready:
                reader.recv(4096)
            if sys.stdin.fileno() in ready:
                data = os.read(sys.stdin.fileno(), 4096)
                for key in keys_of(data.decode(errors="replace")):
                    if key in ENDS:
                        return
                    controls = controls.after(key, rows)
                if not data:
                    return


def _bounded(controls: Controls, state: TopState, height: int) -> tuple[Controls, int]:
    """How far it is scrolled, at most to the end; and how many engines fit."""
    rows = share_rows(state, controls, height).engines
    count = len(controls.chosen(state.engines))
    return replace(controls, first=controls.scrolled(count, rows)), rows


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Have the signals that end a program leave the terminal as it was."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _keys_at_once(descriptor: int) -> Iterator[None]:
    """Have the terminal pass on each key, without showing it; Ctrl-Z is a key, too."""
    if termios is None:
        yield
        return
    before: list[Any] = termios.tcgetattr(descriptor)
    changed = termios.tcgetattr(descriptor)
    changed[3] &= ~(termios.ICANON | termios.ECHO)
    changed[6][termios.VSUSP] = b"\0"
    try:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, changed)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def is_terminal() -> bool:
    """Return whether both input and output are a terminal that can be drawn on."""
    try:
        found = sys.stdin.isatty() and sys.stdout.isatty()
    except (AttributeError, ValueError):
        return False
    return found and os.environ.get("TERM", "dumb") != "dumb"
