"""Random histories of a client's tasks: links are lost and made again, and the controller is killed, at every point.

What must hold: every task is known to the controller once, and its result is stored once; functions come before the
tasks that need them; what waits is told once; and what ``flush`` has waited for survives the controller.
"""

from __future__ import annotations

import random

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.calls.clientlink import ClientEnd
from ipython1.kernel.tasks import outbox
from ipython1.kernel.tasks.clienttasks import ClientTasks, Waiter
from ipython1.kernel.tasks.encoder import Encoded, Packed
from ipython1.kernel.tasks.tests.taskcontroller import ModelController
from ipython1.kernel.wire import bulk, frames, messages, taskwire
from ipython1.kernel.wire.bulk import WritableBuffer
from ipython1.kernel.wire.link import FrameLink
from ipython1.kernel.wire.taskwire import DONE_HEAD, OptionsSpec, Status
from ipython1.testing import memory
from ipython1.testing.memory import MemoryTransport, Pump, connect_in_memory

HISTORIES = 80
LARGE = taskwire.INLINE + 1


def packed(number: int) -> Packed:
    size = 3 * frames.PIECE_SIZE if number == 3 else 10
    return Packed(bytes([number]) * 16, bytes(size), b"t" * 16)


class History:
    """One history.

    :ivar scarce: whether the client may have no memory for a result.
    """

    def __init__(self, seed: int) -> None:
        self.scarce = seed % 3 == 0
        self.chance = random.Random(seed)
        self.pump = Pump()
        self.end = ClientEnd(bytes(16))
        self.end.reconnects = True
        self.tasks = ClientTasks(self.end, self.pump)
        self.controller = ModelController(self.chance, self.result_of, self.tasks.results.is_open)
        self.links: tuple[FrameLink, ...] = ()
        self.submitted: list[int] = []
        self.taken: set[int] = set()
        self.told: dict[int, int] = {}
        self.waiters: list[tuple[Waiter, dict[int, int]]] = []
        self.flushed = 0
        self.flushing = 0
        self.steps = (
            *[self.steps_of_the_reactor] * 20,
            *[self.submit] * 8,
            *[self.controller.write] * 4,
            *[self.controller.work] * 4,
            *[self.controller.tell_credit] * 4,
            self.flush,
            self.wait,
            self.ask,
            self.read,
            self.take_back,
            self.disconnect,
            self.kill,
            self.read_slowly,
            self.read_on,
            *[self.connect] * 3,
        )

    def result_of(self, task_id: int) -> bytes:
        return b"%d" % task_id + bytes(self.chance.choice((0, 0, 0, LARGE)))

    def run(self) -> None:
        self.connect()
        began = Deferred.fromCoroutine(self.tasks.begin())
        while not began.called:
            self.chance.choice((self.steps_of_the_reactor, self.disconnect, self.connect))()
        for _ in range(self.chance.randint(50, 600)):
            self.chance.choice(self.steps)()
            self.check()
        self.finish()

    def check(self) -> None:
        size = sum(entry.size for batch in self.tasks._outbox._kept for entry in batch)
        assert size < 2 * 10**6, "too much is kept"

    def steps_of_the_reactor(self) -> None:
        for _ in range(self.chance.randint(1, 8)):
            self.pump.step()

    def submit(self) -> None:
        for _ in range(self.chance.randint(1, 6)):
            number = self.chance.randint(0, 5)
            functions = [packed(number)] if number and self.chance.random() < 0.5 else []
            digests = tuple(function.digest for function in functions)
            options = OptionsSpec(b"t" * 16, functions=digests).pack()
            payload = bytes(self.chance.choice((5, 5, 100, 5000, LARGE)))
            recovery = [(options, b"r")] if self.chance.random() < 0.2 else []
            task_id = self.tasks.submit(Encoded(options, payload, recovery, functions))
            if task_id is not None:
                assert not self.submitted or task_id > self.submitted[-1]
                self.submitted.append(task_id)

    def flush(self) -> None:
        before = list(self.submitted)
        self.flushing += 1

        def flushed(result: object) -> None:
            assert result is None, result
            self.flushed += 1
            missing = set(before) - self.taken - self.controller.safe.tasks.keys()
            lost = [task_id for task_id in missing if self.tasks.results.is_open(task_id)]
            assert not lost, f"{lost} would be lost"

        self.tasks.flushed().addBoth(flushed).addErrback(self.failed)

    def failed(self, failure: object) -> None:
        self.problem = failure

    problem: object = None

    def wait(self) -> None:
        counts: dict[int, int] = {}

        def tell(task_ids: list[int]) -> None:
            assert task_ids, waiter.failure
            for task_id in task_ids:
                counts[task_id] += 1

        waiter = Waiter(tell)
        chosen = self.chance.sample(self.submitted, min(len(self.submitted), 5))
        wanted = [task_id for task_id in chosen if task_id not in self.taken]
        counts.update(dict.fromkeys(wanted, 0))
        for task_id in set(wanted) - self.tasks.add_waiter(waiter, wanted):
            counts[task_id] += 1
        self.waiters.append((waiter, counts))

    def ask(self) -> None:
        """Ask about tasks that were sent; they must be there before the question."""
        unsent = self.tasks.unsent()
        for task_id in self.submitted[-20:]:
            if task_id not in unsent and self.tasks.results.is_open(task_id):
                self.end.ask("has_begun", taskid=task_id).addErrback(self.failed)

    def read(self) -> None:
        """Read results, which are then forgotten."""
        for task_id in self.chance.sample(self.submitted, min(len(self.submitted), 3)):
            if task_id in self.tasks.results:
                self.look_at(task_id)
                self.tasks.forget([task_id])

    def look_at(self, task_id: int) -> None:
        place = self.tasks.results.get(task_id)
        assert place is not None
        data, offset = place
        head = DONE_HEAD.unpack_from(data, offset)
        payload = data[offset + DONE_HEAD.size :][: head[1]]
        assert head[0] == task_id
        if head[2] == Status.REFUSED:
            assert self.scarce, payload
            assert b"did not arrive at this client: not enough memory" in payload, payload
        else:
            assert payload.rstrip(bytes(1)) == b"%d" % task_id
        self.told[task_id] = self.told.get(task_id, 0) + 1

    def take_back(self) -> None:
        unsent = self.tasks.unsent()
        chosen = self.chance.sample(unsent, min(len(unsent), 2))
        waited = {task_id for waiter, _ in self.waiters for task_id in waiter.missing}
        self.taken |= self.tasks.take_back(set(chosen) - waited)

    def disconnect(self) -> None:
        for link in self.links:
            link.connection_lost("it was cut")
        if self.links:
            self.end.link_lost("it was cut")
        self.links = ()

    def read_slowly(self) -> None:
        if self.links and not self.links[0].lost:
            MemoryTransport.of(self.links[0]).stop_reading()

    def read_on(self) -> None:
        if self.links and not self.links[0].lost:
            MemoryTransport.of(self.links[0]).read_on()

    def kill(self) -> None:
        self.disconnect()
        self.controller.restart()

    def connect(self) -> None:
        if self.links:
            return
        self.links = connect_in_memory(self.pump, self.end, self.controller)
        self.controller.link = self.links[1]
        self.end.attach(self.links[0], messages.Welcome(instance="i", known=True))
        assert self.end.usable

    def finish(self) -> None:
        tasks, controller = self.tasks, self.controller
        for task_id in list(self.submitted):
            if task_id in tasks.results:
                self.look_at(task_id)
                tasks.forget([task_id])
        for _ in range(2000):
            self.connect()
            self.read_on()
            self.steps_of_the_reactor()
            controller.write()
            controller.work()
            controller.tell_credit()
            left = tasks.results.missing(self.submitted) - self.taken
            here = [task_id for task_id in self.submitted if task_id in tasks.results]
            for task_id in here:
                self.look_at(task_id)
            tasks.forget(here)
            if not left and not tasks._outbox._kept and not tasks._flushing:
                break
        else:
            raise AssertionError(f"left over: {left}")
        self.pump.run()
        assert not self.problem, self.problem
        assert self.flushed == self.flushing
        assert set(self.told) == set(self.submitted) - self.taken
        assert set(self.told.values()) <= {1}, "a result was stored twice"
        assert controller.aborted == self.taken, "others may wait for what was taken back"
        for waiter, counts in self.waiters:
            assert not waiter.missing
            assert set(counts.values()) <= {1}, "a waiter was told twice"
        outbox = tasks._outbox
        assert (outbox._tasks, outbox._size, len(outbox._items)) == (0, 0, 0)
        assert len(tasks.results) == 0
        assert not tasks.results._segments


class HistoryTests(SynchronousTestCase):
    """Many histories, each with a seed of its own."""

    def test_nothing_is_lost_and_nothing_comes_twice(self) -> None:
        self.patch(outbox, "OUTBOX_TASKS", 60)
        self.patch(memory, "HIGH_WATER", 100_000)
        self.patch(outbox, "MOST_SIZE_AT_ONCE", 300)
        allocate = bulk.allocate
        for seed in range(HISTORIES):
            chance = random.Random(-seed)

            def scarce(size: int, chance: random.Random = chance) -> WritableBuffer:
                if LARGE < size < LARGE + 10 and chance.random() < 0.3:
                    raise MemoryError(f"not enough memory for {size} bytes on the receiving side")
                return allocate(size)

            history = History(seed)
            self.patch(bulk, "allocate", scarce if history.scarce else allocate)
            try:
                history.run()
            except BaseException:
                print("seed", seed)
                raise
