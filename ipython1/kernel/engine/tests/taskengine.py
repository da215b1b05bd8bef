"""An engine's tasks without an engine, for tests: what they run is noted, and what they send is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ipython1.core.interrupt import InterruptGate
from ipython1.kernel.engine.tasks import EngineTasks
from ipython1.kernel.wire import frames, taskwire
from ipython1.kernel.wire.failurenotes import Note, unpack_notes
from ipython1.kernel.wire.link import FrameLink, ThreadOutbox, TurnFlusher
from ipython1.kernel.wire.taskwire import Status


class Told:
    """Receives what the engine sends."""

    has_room = True

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.rows: list[tuple[str, int, int, Status]] = []
        self.refusals: list[bytes] = []
        self.notes: list[tuple[int, str]] = []
        self.ages: list[float] = []

    def send_batch(self, parts: list[Any]) -> None:
        frames.dispatch(b"".join(parts), self.received)

    def abort(self) -> None:
        pass

    def received(self, kind: int, flags: int, ident: int, meta: Any, payload: Any) -> None:
        if kind == taskwire.RESULTS and flags & frames.BULK:
            task_id, _, status, _ = taskwire.unpack_result_head(meta)
            self.result(ident, task_id, Status(status))
            self.note(meta[taskwire.RESULT_HEAD :], [task_id])
        elif kind == taskwire.RESULTS:
            entries = taskwire.unpack_results(payload)
            self.note(meta, [entry[0] for entry in entries])
            for row, entry in enumerate(entries, ident):
                self.result(row, entry[0], Status(entry[2]))
                if entry[2] == Status.REFUSED:
                    self.refusals.append(entry[4])
        elif kind == taskwire.BEGUN:
            self.log.append(("begun", ident, taskwire.unpack_attempt(meta)))
        elif kind == taskwire.GIVEN_BACK:
            self.log.append(("given back", taskwire.unpack_keys(payload)))
        elif kind == taskwire.DEPENDS:
            self.log.append(("depends", ident, *taskwire.unpack_depends(meta)))
        elif kind == frames.PROPERTIES:
            self.log.append(("properties", ident))

    def note(self, meta: Any, task_ids: list[int]) -> None:
        age, notes = unpack_notes(meta)
        self.ages.append(age)
        self.notes += [(task_ids[place], note.error) for place, note in notes]

    def result(self, row: int, task_id: int, status: Status) -> None:
        self.log.append(("result", task_id, status))
        self.rows.append(("result", row, task_id, status))


class Runner:
    """Notes what it runs."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.during: dict[bytes, Callable[[], None]] = {}
        self.functions: dict[bytes, bytes] = {}
        self.lacking: dict[bytes, str] = {}
        self.note: Note | None = None

    def run(self, payload: bytes, stopping: Callable[[], bool]) -> tuple[Status, bytes, float]:
        self.told.log.append(("run", payload))
        self.note = Note(str(payload[4:], "ascii"), "") if payload.startswith(b"bad ") else None
        try:
            self.during.get(payload, lambda: None)()
        except KeyboardInterrupt:
            return (Status.STOPPED if stopping() else Status.FAILED), b"", 0.0
        return (Status.FAILED if self.note else Status.OK), payload, 0.001

    def failed(self, problem: BaseException) -> bytes:
        return repr(problem).encode()

    def depends(self, digest: bytes) -> tuple[bool, str]:
        try:
            self.during.get(digest.rstrip(bytes(1)), lambda: None)()
        except KeyboardInterrupt:
            return False, "KeyboardInterrupt"
        return digest.startswith(b"y"), ""

    def add_function(self, digest: bytes, data: bytes) -> None:
        self.functions[digest] = data

    def lack_function(self, digest: bytes, reason: str) -> None:
        self.lacking[digest] = reason

    def forget_function(self, digest: bytes) -> None:
        del self.functions[digest]


class Ignoring:
    """Receives nothing; the tests deliver frames themselves."""

    def frame_received(self, *frame: Any) -> None:
        pass

    def link_lost(self, reason: str) -> None:
        pass


class OneThread(Clock):
    """A reactor in the only thread there is."""

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:
        function(*args)
        self.advance(0)
        self.advance(0)


class Gate(InterruptGate):
    """Interrupts by raising in the caller, which here is the running task itself."""

    __slots__ = ()

    def request(self, run_id: Any) -> bool:
        if self.current != run_id:
            return False
        raise KeyboardInterrupt


class EngineTasksCase(SynchronousTestCase):
    """One engine, driven step by step."""

    def setUp(self) -> None:
        self.told = Told()
        self.runner = Runner(self.told)
        self.clock = OneThread()
        self.outbox = ThreadOutbox(self.clock.callFromThread)
        self.woken = 0
        self.tasks = EngineTasks(self.runner, Gate(), self.outbox, self.clock, self.wake)
        self.receiver = Ignoring()
        self.link = self.connect(kept=False)

    def connect(self, kept: bool = True) -> FrameLink:
        """Register, perhaps again."""
        link = FrameLink(TurnFlusher(lambda flush: self.clock.callLater(0, flush)), self.receiver)
        link.connected(self.told)
        self.outbox.link = link
        self.tasks.registered(kept, 7)
        return link

    def disconnect(self) -> None:
        link, self.outbox.link = self.outbox.link, None
        if link is not None:
            link.connection_lost("it was cut")

    def wake(self) -> None:
        self.woken += 1

    def receive(self, *runs: tuple[int, int, bytes]) -> None:
        rows = [(task_id, 1, flags, payload) for task_id, flags, payload in runs]
        for parts, _ in taskwire.pack_runs(rows):
            frames.dispatch(b"".join(parts), self.deliver)

    def deliver(self, kind: int, flags: int, ident: int, meta: Any, payload: Any) -> None:
        self.tasks.handlers[kind](flags, ident, meta, payload)

    def run_all(self) -> None:
        while self.tasks.run_one():
            pass
        self.tasks.idle()
