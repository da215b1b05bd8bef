"""An engine that runs in a thread of this process, for clusters in the test's own process.

Its worker, its tasks and its end of the link are those of any engine.  It has no IPython, captures only what Python
code prints, and can be interrupted only between two instructions of Python.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
import uuid
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from ipython1.core.failures import record_exception
from ipython1.core.interrupt import InterruptGate
from ipython1.core.results import CallOutcome
from ipython1.core.userhandlers import UserHandlers
from ipython1.kernel.engine.service import EngineService
from ipython1.kernel.engine.side import Session, Side
from ipython1.kernel.engine.worker import Command, CommandRunner, Worker
from ipython1.kernel.host.hosts import host_identity
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.link import FrameLink
from ipython1.testing.memory import Pump, connect_in_memory
from ipython1.testing.plaininterpreter import PlainInterpreter
from ipython1.testing.threadoutput import ThreadOutput

if TYPE_CHECKING:
    from ipython1.kernel.controller.enginefc import FCEngines

AGAIN: Final = 0.01
"""Seconds between interrupts of an engine that is to end."""

_raise_in: Final = ctypes.pythonapi.PyThreadState_SetAsyncExc


class ThreadGate(InterruptGate):
    """Interrupts the code of one thread, and nothing else that the thread does."""

    __slots__ = ("_depth", "_ident", "_lock")

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._ident = 0
        self._depth = 0

    @contextmanager
    def running(self, run_id: Hashable) -> Iterator[None]:
        self.current = run_id
        try:
            yield
        finally:
            self.current = None

    def request(self, run_id: Hashable) -> bool:
        with self._lock:
            if run_id is None or self.current != run_id or not self._depth:
                return False
            _raise_in(ctypes.c_ulong(self._ident), ctypes.py_object(KeyboardInterrupt))
            return True

    def begin(self) -> None:
        """User code begins in this thread."""
        self._ident = threading.get_ident()
        self._depth += 1

    def end(self) -> None:
        """It has ended: no interrupt comes any more when this returns."""
        while True:
            try:
                with self._lock:
                    self._depth = 0
                    _raise_in(ctypes.c_ulong(self._ident), None)
                return
            except KeyboardInterrupt:
                continue


class ThreadInterpreter(PlainInterpreter):
    """Runs plain Python in a thread, with its own namespace and its own output."""

    def __init__(self, gate: ThreadGate) -> None:
        super().__init__()
        self.output: ThreadOutput = ThreadOutput()
        self._gate = gate
        self._inside = False

    def call(
        self,
        function: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        remember: bool = False,
    ) -> CallOutcome:
        __tracebackhide__ = True
        started = time.time()
        value, failure = None, None
        outermost, self._inside = not self._inside, True
        try:
            with self.output.capture():
                try:
                    if outermost:
                        self._gate.begin()
                    value = function(*args, **(kwargs or {}))
                except BaseException as problem:
                    failure = record_exception(problem)
                finally:
                    if outermost:
                        self._gate.end()
        finally:
            self._inside = not outermost
        now = time.time()
        return CallOutcome(value, *self.output.take(), (), started, now, now - started, failure)


class ThreadEngine:
    """An engine of an :class:`~ipython1.testing.InProcessCluster`; made in the reactor's thread.

    :param engines_face: what engines register with.
    :param pump: makes all calls in the reactor's thread.
    :ivar id: its id.
    """

    def __init__(self, engines_face: FCEngines, pump: Pump) -> None:
        self._pump = pump
        gate = ThreadGate()
        self.interpreter: ThreadInterpreter = ThreadInterpreter(gate)
        self._service = EngineService(self.interpreter)  # type: ignore[arg-type]
        handlers = UserHandlers()
        self._worker = Worker(CommandRunner(self._service), gate, self._command_ended, handlers)
        self._service.stop = self._worker.stop
        side = Side(
            Session(
                self._service,
                self._worker,
                gate,
                self.interpreter.output,
                self._worker.displays,
                handlers,
                pump,
                self.die,
            )
        )
        self._gate, self._side = gate, side
        self._service.before_user_code = side.end.commands.before_user_code
        self._worker.source = side.tasks
        self._service.properties.on_change = side.tasks.properties_changed
        self._register(engines_face)
        self._thread = threading.Thread(
            target=self._run, name=f"ipython1-engine-{self.id}", daemon=True
        )
        self._thread.start()

    def _register(self, engines_face: FCEngines) -> None:
        hello = messages.Hello(
            uuid=uuid.uuid4().hex,
            pid=os.getpid(),
            host=host_identity(),
            role=messages.ENGINE,
            secret=messages.new_secret(),
            holds=self._side.holds(),
        )
        session = engines_face.accept(hello)
        self._link: FrameLink
        self._link, controllers = connect_in_memory(self._pump, self._side.end, session)
        welcome = session.attach(controllers)
        self.id: int = -1 if welcome.engine_id is None else welcome.engine_id
        self._service.id = self.id
        self._side.attach(self._link, welcome, "")
        session.opened()

    def _run(self) -> None:
        self._service.is_of_this_thread()
        self._worker.loop()
        self._pump.soon(lambda: self._link.abort("the engine ended"))

    def _command_ended(self, command: Command, outcome: messages.Outcome) -> None:
        if command.owner is not None:
            command.owner.ended(command, outcome)

    def die(self) -> None:
        """End as a killed process does, in the reactor's thread: its connection is lost, and it says nothing more.

        What it runs is interrupted; code that waits in a call of the system goes on until that returns, unnoticed.
        """
        self._link.abort("it was killed")
        self._worker.stop()
        self._insist()

    def _insist(self) -> None:
        """Interrupt what runs, again and again until the thread ends."""
        if self._thread.is_alive():
            self._gate.request(self._gate.current)
            self._pump.callLater(AGAIN, self._insist)

    def wait_ended(self, seconds: float) -> None:
        """Wait until the thread has ended, but no longer than that; one that waits in a call of the system goes on."""
        self._thread.join(max(seconds, 0.0))
