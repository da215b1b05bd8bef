"""Random histories of an engine's tasks: links are lost and made again at every point, controllers are started anew.

A model of a controller does what a real one does at the other end of real links.  What must hold: no run runs twice, no
result is lost or counted twice, and nothing is left in the end.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.core.interrupt import InterruptGate
from ipython1.kernel.engine import taskresults
from ipython1.kernel.engine.tasks import EngineTasks, Key
from ipython1.kernel.wire import bulk, frames, messages, taskwire
from ipython1.kernel.wire.bulk import WritableBuffer, unpack_reference
from ipython1.kernel.wire.link import FrameLink, ThreadOutbox
from ipython1.kernel.wire.taskwire import Result, Status
from ipython1.testing import memory
from ipython1.testing.memory import MemoryTransport, Pump, connect_in_memory

HISTORIES = 120
LARGE = taskwire.INLINE + 1


class LateGate(InterruptGate):
    """Has the running task end when it looks next."""

    __slots__ = ("wanted",)

    def __init__(self) -> None:
        super().__init__()
        self.wanted: object = None

    def request(self, run_id: Any) -> bool:
        if self.current != run_id:
            return False
        self.wanted = run_id
        return True

    def look(self) -> None:
        """Raise what was requested."""
        if self.wanted is not None and self.wanted == self.current:
            raise KeyboardInterrupt


class OneThreadTasks(EngineTasks):
    """Tasks in the reactor's thread."""

    def _sync(self) -> None:
        if self._link is not None:
            self._link.flush()


class Runner:
    """Notes what it runs; runs may be cut short by what happens meanwhile."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self.ran: list[bytes] = []
        self._meanwhile = meanwhile

    note = None

    def run(self, payload: bytes, stopping: Callable[[], bool]) -> tuple[Status, bytes, float]:
        self.ran.append(payload[:32])
        try:
            self._meanwhile()
        except KeyboardInterrupt:
            return (Status.STOPPED if stopping() else Status.FAILED), b"", 0.0
        return Status.OK, payload, 0.001

    def failed(self, problem: BaseException) -> bytes:
        return repr(problem).encode()

    def depends(self, digest: bytes) -> tuple[bool, str]:
        return True, ""

    def add_function(self, digest: bytes, data: bytes) -> None:
        pass

    def lack_function(self, digest: bytes, reason: str) -> None:
        pass

    def forget_function(self, digest: bytes) -> None:
        pass


class Engine:
    """The engine's end of the link."""

    def __init__(self, pump: Pump, meanwhile: Callable[[], None]) -> None:
        self.runner = Runner(meanwhile)
        self.outbox = ThreadOutbox(pump.callFromThread)
        self.gate = LateGate()
        self.tasks = OneThreadTasks(self.runner, self.gate, self.outbox, pump, lambda: None)

    def frame_received(self, kind: int, flags: int, ident: int, meta: Any, payload: Any) -> None:
        self.tasks.handlers[kind](flags, ident, meta, payload)

    def link_lost(self, reason: str) -> None:
        self.outbox.link = None


class Controller:
    """What a controller remembers of one engine.

    :ivar sent: the runs that the engine has for all that is known.
    :ivar fates: how runs came out.
    """

    def __init__(self, pump: Pump, chance: random.Random) -> None:
        self._pump = pump
        self._chance = chance
        self.link: FrameLink | None = None
        self.sent: dict[Key, bytes] = {}
        self.stopping: set[Key] = set()
        self.fates: dict[Key, Status] = {}
        self.returned: set[Key] = set()
        self.last_row = 0
        self._safe_row = 0
        self._arriving: set[int] = set()
        self.stale: set[Key] = set()
        self.refused = 0

    def frame_received(self, kind: int, flags: int, ident: int, meta: Any, payload: Any) -> None:
        if kind == taskwire.RESULTS and flags & frames.BULK:
            self._large(ident, taskwire.unpack_result_head(meta), payload)
        elif kind == taskwire.RESULTS:
            for row, result in enumerate(taskwire.unpack_results(payload), ident):
                self._result(row, result)
        elif kind == taskwire.GIVEN_BACK:
            for key in taskwire.unpack_keys(payload):
                del self.sent[key]
                self.returned.add(key)

    def link_lost(self, reason: str) -> None:
        self.link = None
        self._arriving.clear()

    def _large(self, row: int, head: tuple[int, int, int, float], payload: Any) -> None:
        link = self.link
        assert link is not None
        self._arriving.add(row)

        def complete(buffers: list[WritableBuffer] | None, reason: str) -> None:
            if link.lost:
                return
            self._arriving.discard(row)
            task_id, attempt, status, duration = head
            if buffers is None:
                status = Status.REFUSED
            self._result(row, (task_id, attempt, status, duration, b"".join(buffers or ())))

        link.bulk.take(unpack_reference(payload), complete)

    def _result(self, row: int, result: Result) -> None:
        key, status = (result[0], result[1]), Status(result[2])
        self.stale.discard(key)
        if key in self.sent:
            del self.sent[key]
            assert key not in self.fates, "a result was counted twice"
            self.fates[key] = status
            self.stopping.discard(key)
            self.refused += status is Status.REFUSED
        self.last_row = max(self.last_row, row)

    def confirm(self) -> None:
        """Tell some of what is safe."""
        if self.link is not None:
            most = min(self._arriving) - 1 if self._arriving else self.last_row
            if most > self._safe_row:
                self._safe_row = self._chance.randint(self._safe_row + 1, most)
                self.link.send(taskwire.SAFE, self._safe_row)

    def send(self, key: Key, payload: bytes) -> None:
        self.sent[key] = payload
        self._send(key, payload)

    def _send(self, key: Key, payload: bytes) -> None:
        if self.link is None:
            return
        flags = self._chance.choice((0, 0, taskwire.GUARDED))
        if len(payload) > taskwire.INLINE:
            self.link.send_large(taskwire.RUN, 0, taskwire.pack_run(*key, 0, flags), [payload])
        else:
            for frame in taskwire.pack_runs([(*key, flags, payload)]):
                self.link.send_packed(*frame)

    def stop(self, key: Key) -> None:
        self.stopping.add(key)
        if self.link is not None:
            self.link.send(taskwire.STOP, key[0], taskwire.pack_attempt(key[1]))

    def welcome(self, holds: messages.Holds) -> None:
        """The engine is back; send again what never came, and stops."""
        here = {*holds.runs, *holds.ended}
        for key, payload in list(self.sent.items()):
            if key not in here or self._chance.random() < 0.2:
                self._send(key, payload)
        for key in self.stopping & self.sent.keys():
            self.stop(key)

    def start_anew(self, holds: messages.Holds) -> None:
        """Another controller, which knows nothing but what the greeting says is not done."""
        self.sent.clear()
        self.stopping.clear()
        self.stale = set(holds.runs)


class History:
    """One history.

    :ivar scarce: whether there may be no memory for a transfer.
    """

    def __init__(self, seed: int) -> None:
        self.scarce = seed % 3 == 0
        self.chance = random.Random(seed)
        self.pump = Pump()
        self.controller = Controller(self.pump, self.chance)
        self.engine = Engine(self.pump, self._meanwhile)
        self.links: tuple[FrameLink, ...] = ()
        self.next_id = 0
        self.epoch = 1
        self.kept = False
        self.running = False
        self.steps = (
            *[self._pump] * 20,
            *[self._main_thread] * 8,
            *[self._submit] * 4,
            *[self.controller.confirm] * 3,
            self._stop,
            self._retract,
            self._disconnect,
            self._connect,
            self._connect,
            self._time,
            self._read_slowly,
            self._read_on,
        )

    def run(self) -> None:
        self._connect()
        for _ in range(self.chance.randint(20, 250)):
            self._step()
        self._finish()

    def _step(self) -> None:
        self.chance.choice(self.steps)()
        limit = taskresults.MOST_RESULTS + 120  # what waited may all be stopped or refused
        assert self.engine.tasks._results.unconfirmed <= limit, "too much is kept"

    def _meanwhile(self) -> None:
        self.running = True
        try:
            while self.chance.random() < 0.6:
                self._step()
                self.engine.gate.look()
        finally:
            self.running = False

    def _pump(self) -> None:
        for _ in range(self.chance.randint(1, 6)):
            self.pump.step()

    def _main_thread(self) -> None:
        if not self.running and not self.engine.tasks.run_one():
            self.engine.tasks.idle()

    def _submit(self) -> None:
        for _ in range(self.chance.randint(1, 5)):
            key = (self.next_id, taskwire.attempt_number(self.epoch, 1))
            self.next_id += 1
            size = self.chance.choice((32, 32, 32, 32, LARGE, 3 * LARGE))
            self.controller.send(key, (b"%d" % key[0]).ljust(size))

    def _some(self) -> list[Key]:
        keys = list(self.controller.sent)
        return self.chance.sample(keys, min(len(keys), 2))

    def _stop(self) -> None:
        for key in self._some():
            self.controller.stop(key)

    def _retract(self) -> None:
        link = self.controller.link
        if link is not None:
            link.send(taskwire.RETRACT, 0, b"", taskwire.pack_keys(self._some()))

    def _time(self) -> None:
        self.pump.advance(self.chance.choice((0.001, 0.006, 0.02)))

    def _read_slowly(self) -> None:
        for link in self.links:
            MemoryTransport.of(link).stop_reading()

    def _read_on(self) -> None:
        for link in self.links:
            MemoryTransport.of(link).read_on()

    def _disconnect(self) -> None:
        for link in self.links:
            link.connection_lost("it was cut")
        self.links = ()

    def _connect(self) -> None:
        if self.links:
            return
        greeting = self.engine.tasks.add_to(messages.Holds())
        if not self.running:
            # What goes on between the greeting and the welcome.
            self._main_thread()
        elif self.chance.random() < 0.3:
            return
        self.links = connect_in_memory(self.pump, self.engine, self.controller)
        kept = self.kept and self.chance.random() < 0.9
        self.controller.link = self.links[1]
        if kept:
            self.controller.welcome(greeting)
        else:
            self.epoch += 1
            self.controller.start_anew(greeting)
        self.kept = True
        self.engine.outbox.link = self.links[0]
        self.engine.tasks.registered(kept, 0)

    def _finish(self) -> None:
        controller = self.controller
        for _ in range(10_000):
            self._connect()
            self._read_on()
            self._main_thread()
            self.pump.step()
            controller.confirm()
            if not controller.sent and not self.engine.tasks._results.unconfirmed:
                break
        else:
            raise AssertionError(f"left over: {controller.sent.keys()}")
        self.pump.run()
        self.pump.advance(1)
        self.pump.advance(1)
        assert not controller.stale, "the end of a stale run was not told"
        assert not self.pump.getDelayedCalls(), "something goes on for ever"
        assert self.engine.tasks.add_to(messages.Holds()) == messages.Holds(), "something is held"
        for key, status in controller.fates.items():
            ran = self.engine.runner.ran.count((b"%d" % key[0]).ljust(32))
            assert ran <= 1, f"{key} ran {ran} times"
            assert ran or status in (Status.STOPPED, Status.REFUSED), f"{key}: {status}, not run"
        assert self.scarce or Status.REFUSED not in controller.fates.values(), "there was memory"
        twice = len(self.engine.runner.ran) - len(set(map(bytes, self.engine.runner.ran)))
        assert not twice, "something ran twice"


class HistoryTests(SynchronousTestCase):
    """Many histories, each with a seed of its own."""

    def test_nothing_is_lost_and_nothing_runs_twice(self) -> None:
        self.patch(taskresults, "MOST_RESULTS", 12)
        self.patch(memory, "HIGH_WATER", 100_000)
        allocate = bulk.allocate
        for seed in range(HISTORIES):
            chance = random.Random(-seed)

            def scarce(size: int, chance: random.Random = chance) -> WritableBuffer:
                if size == LARGE and chance.random() < 0.1:
                    raise MemoryError(f"not enough memory for {size} bytes on the receiving side")
                return allocate(size)

            history = History(seed)
            if history.scarce:
                self.patch(bulk, "allocate", scarce)
            try:
                history.run()
            except BaseException:
                print("seed", seed)
                raise
            finally:
                self.patch(bulk, "allocate", allocate)
