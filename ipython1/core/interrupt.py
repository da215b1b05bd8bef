"""Interrupts exactly the intended command.

A signal is delivered with a delay, perhaps when its command has ended and the next one is running.  So the gate
compares ids on arrival in the main thread, where nothing can happen in between.

============  ==============================  =========================================================
state         event                           what happens
============  ==============================  =========================================================
idle          request(any)                    refused (False)
idle          SIGINT                          absorbed
A runs        request(B)                      refused (False)
A runs        request(A)                      SIGINT is sent to the main thread (True)
A runs        SIGINT requested for A          KeyboardInterrupt in the main thread, once per request
A runs        SIGINT requested for B          absorbed: it is late
A runs        unrequested SIGINT              absorbed, or KeyboardInterrupt if ``terminal_interrupts``
A runs        ``RESERVE_SIGNAL``              as a requested SIGINT; sent where user code has taken SIGINT away
any           unrequested SIGINT, long after  ``on_terminal`` is called instead, if it is set
              the last one sent here
============  ==============================  =========================================================
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, suppress
from inspect import CO_VARARGS
from itertools import starmap
from signal import getsignal  # user code may replace the one in the module
from types import FrameType, TracebackType
from typing import Any, Final

from ipython1.core.lowlevel import RESERVE_SIGNAL, interrupt_main_thread

try:
    # What Python's module converts numbers to enums with takes ten times as long as the rest.
    import _signal as _plain_signal  # type: ignore[import-not-found]
except ImportError:
    _plain_signal = signal

get_signal: Final[Callable[[int], Any]] = _plain_signal.getsignal
_INT_HANDLER: Final = _plain_signal.default_int_handler
set_signal: Final[Callable[[int, Any], Any]] = _plain_signal.signal

_FIRST_DELAY: Final = 0.01
_LAST_DELAY: Final = 1.0
"""Seconds before an unhandled signal is sent again, at first and at most."""

_PATIENCE: Final = 0.3
"""From this delay on, a handler of the user's that does not end the command is passed over."""

_LATEST: Final = 1.0
"""Seconds after the last signal sent here in which another one may belong to the same request."""


def _in_a_thread(delay: float, call: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # no thread can be started
        timer = threading.Timer(delay, call)
        timer.daemon = True
        timer.start()


_SIGNALS: Final = range(1, signal.NSIG)

_OWN_HANDLERS: Final = "ipython1."
"""How the names of the modules begin whose signal handlers touch nothing of the user's."""


_seen: tuple[Any, ...] = ()
"""The handlers of all signals when none of them was the user's."""


def has_other_handlers() -> bool:
    """Whether user code has set signal handlers, which may run, and raise, at any time in the main thread.

    Python's own raises too, and is only expected for SIGINT (see :class:`interrupts_deferred`).
    """
    global _seen
    handlers = tuple(map(get_signal, _SIGNALS))
    if handlers == _seen:
        return False
    if any(starmap(_is_users, zip(_SIGNALS, handlers, strict=True))):
        return True
    _seen = handlers
    return False


def users_handlers() -> list[tuple[int, Any]]:
    """The signals for which user code has set handlers, and these; without SIGINT, which an :class:`InterruptGate`
    takes back."""
    found = [(number, get_signal(number)) for number in _SIGNALS if number != signal.SIGINT]
    return [each for each in found if _is_users(*each)]


def _is_users(number: int, handler: Any) -> bool:
    if not callable(handler) or (number == signal.SIGINT and handler is _INT_HANDLER):
        return False
    return not (getattr(handler, "__module__", None) or "").startswith(_OWN_HANDLERS)


def raised_by_handler(problem: BaseException) -> bool:
    """Whether a signal handler has raised an exception, and not the code that it struck.

    Who called that code is to get it as it is, as with any other code of Python; what was under way can be done again.
    """
    handlers = {_code_of(handler) for handler in map(get_signal, _SIGNALS) if callable(handler)}
    trace = problem.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        # It may have put back another handler before.
        if frame.f_code in handlers or _is_called_as_handler(frame):
            return True
        trace = trace.tb_next
    return False


def _code_of(handler: object) -> object:
    return getattr(getattr(handler, "__func__", handler), "__code__", None)


def _is_called_as_handler(frame: FrameType) -> bool:
    """Whether the last arguments of a frame's function are a signal and a frame."""
    code, values = frame.f_code, frame.f_locals
    count = code.co_argcount
    arguments = [values.get(name) for name in code.co_varnames[:count]]
    if code.co_flags & CO_VARARGS:
        arguments += values.get(code.co_varnames[count + code.co_kwonlyargcount], ())
    return (
        len(arguments) >= 2
        and isinstance(arguments[-1], FrameType)
        and isinstance(arguments[-2], int)
        and arguments[-2] in _SIGNALS
    )


class InterruptGate:
    """The SIGINT handler of the process.

    :param terminal_interrupts: whether an unrequested SIGINT, such as Ctrl-C in a terminal that the process shares
        with others, interrupts the running command.
    :param send: sends a signal to the main thread; its arguments are the thread's ident and the signal.
    :param clock: returns the time in seconds.
    :param later: calls a function after some seconds, like ``reactor.callLater``; by default in a new thread, if one
        can be started.

    :ivar on_terminal: called in the main thread, whatever it is doing, on a SIGINT that was not sent here.
    :ivar current: the id of the running command or task, or None.  Set and cleared in the main thread.  For tasks,
        assigning it is a cheaper alternative to :meth:`running`, but then it must be cleared in a ``finally``.
    """

    __slots__ = (
        "_clock",
        "_handler",
        "_last_sent",
        "_later",
        "_main_thread",
        "_previous",
        "_reserve_handler",
        "_send",
        "_wanted",
        "current",
        "on_terminal",
        "terminal_interrupts",
    )

    def __init__(
        self,
        *,
        terminal_interrupts: bool = False,
        send: Callable[[int, int], None] = interrupt_main_thread,
        clock: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], None]], object] = _in_a_thread,
    ) -> None:
        self.current: Hashable | None = None
        self.on_terminal: Callable[[], None] | None = None
        self.terminal_interrupts: bool = terminal_interrupts
        self._wanted: Hashable | None = None
        self._send = send
        self._clock = clock
        self._later = later
        self._last_sent = -_LATEST
        self._main_thread = threading.main_thread().ident or 0
        self._previous: object = None
        # Single objects, so that they can be recognised.
        self._handler = self._arrived
        self._reserve_handler = self._reserve_arrived

    def install(self) -> None:
        """Become the process's SIGINT handler.

        :raises ValueError: if called outside the main thread.
        """
        previous = signal.signal(signal.SIGINT, self._handler)
        if previous is not self._handler:
            self._previous = previous
        if RESERVE_SIGNAL is not None and getsignal(RESERVE_SIGNAL) is signal.SIG_DFL:
            signal.signal(RESERVE_SIGNAL, self._reserve_handler)

    def uninstall(self) -> None:
        """Restore the handler from before :meth:`install`."""
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)  # type: ignore[arg-type]
            self._previous = None
        if self._has_reserve:
            signal.signal(RESERVE_SIGNAL, signal.SIG_DFL)  # type: ignore[arg-type]

    @property
    def _has_reserve(self) -> bool:
        return RESERVE_SIGNAL is not None and getsignal(RESERVE_SIGNAL) is self._reserve_handler

    @property
    def installed(self) -> bool:
        """Return whether this is the process's SIGINT handler (user code can replace it)."""
        return get_signal(signal.SIGINT) is self._handler

    def running(self, run_id: Hashable) -> AbstractContextManager[None]:
        """Return a context manager for code that may be interrupted; for the main thread only.

        It reinstalls the handler if user code of an earlier command replaced it.
        """
        return _Running(self, run_id)

    def request(self, run_id: Hashable) -> bool:
        """Interrupt ``run_id`` if it is running now; may be called in any thread
        in which ``later`` may be called.

        :return: whether it was running and the signal was sent.  It may still end by itself before the signal
            arrives, and code that holds the interpreter lock is interrupted only when it releases it.
        """
        if run_id is None or self.current != run_id:
            return False
        self._wanted = run_id
        self._send_now(_FIRST_DELAY)
        if self._wanted == run_id:
            self._later(_FIRST_DELAY, lambda: self._insist(run_id, _FIRST_DELAY))
        return True

    def _send_now(self, delay: float) -> None:
        """Send a signal that the main thread handles.

        SIGINT would end the process if user code restored its default action, and do nothing if it is ignored.
        """
        handler = getsignal(signal.SIGINT)
        own = handler is self._handler
        self._last_sent = self._clock()
        if self._has_reserve and (not callable(handler) or (not own and delay >= _PATIENCE)):
            self._send(self._main_thread, RESERVE_SIGNAL)  # type: ignore[arg-type]
        elif callable(handler):
            self._send(self._main_thread, signal.SIGINT)

    def _insist(self, run_id: Hashable, delay: float) -> None:
        """Send the signal again until it has been handled or the run is over.

        A signal that arrives after Python checked for signals, just before a blocking system call, does not interrupt
        the call.

        :param delay: the seconds since the last time.
        """
        if self._wanted != run_id or self.current != run_id:
            return
        self._send_now(delay)
        delay = min(2 * delay, _LAST_DELAY)
        self._later(delay, lambda: self._insist(run_id, delay))

    def _reserve_arrived(self, signum: int, frame: FrameType | None) -> None:
        if self._wanted is not None:
            self._arrived(signum, frame)

    def _arrived(self, signum: int, frame: FrameType | None) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is None and self.on_terminal is not None:
            if self._clock() - self._last_sent >= _LATEST:
                self.on_terminal()
            return
        if self.current is None:
            return
        if wanted is None:
            if not self.terminal_interrupts:
                return
        elif wanted != self.current:
            return
        raise KeyboardInterrupt


def _is_idle_gate(handler: object) -> bool:
    """Whether a signal handler is that of a gate which lets nothing through now."""
    gate = getattr(handler, "__self__", None)
    return isinstance(gate, InterruptGate) and gate.current is None


class interrupts_deferred:
    """A context that delays SIGINT until its end.  Does nothing outside the main thread."""

    __slots__ = ("_arrived", "_handler")

    def __enter__(self) -> None:
        self._arrived: list[int] = []
        self._handler: object = None
        if threading.get_ident() == threading.main_thread().ident:
            handler = get_signal(signal.SIGINT)
            if callable(handler) and not _is_idle_gate(handler):
                set_signal(signal.SIGINT, self._note)
                self._handler = handler

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._arrived.append(signum)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        handler = self._handler
        if callable(handler):
            set_signal(signal.SIGINT, handler)
            if self._arrived:
                handler(signal.SIGINT, None)


class _Running:
    __slots__ = ("_gate", "_run_id")

    def __init__(self, gate: InterruptGate, run_id: Hashable) -> None:
        self._gate = gate
        self._run_id = run_id

    def __enter__(self) -> None:
        if not self._gate.installed:
            self._gate.install()
        self._gate.current = self._run_id

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._gate.current = None
