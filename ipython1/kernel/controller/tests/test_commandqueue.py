"""An engine's queue of commands, with a real engine's memory, links that break and controllers that restart."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.controller.commandqueue import LOOK_AHEAD, CommandQueue, Key
from ipython1.kernel.engine.commandmemory import MOST_NUMBERS, Came, CommandMemory
from ipython1.kernel.tests.wiresupport import quick
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.messages import Outcome

ANN, BOB = b"a" * 16, b"b" * 16


@dataclass(eq=False)
class Item:
    """A command."""

    key: Key
    size: int = 10
    ready: bool = True


class QueueTests(SynchronousTestCase):
    def setUp(self):
        self.held: set[Key] = set()
        self.claimed: set[Key] = set()
        self.queue: CommandQueue[Item] = CommandQueue(
            lambda key: key not in self.held, lambda key: key in self.claimed
        )

    def add(self, *items: Item) -> None:
        for item in items:
            self.queue.add(item)

    def sent(self) -> list[Key]:
        """All that can be sent, each after the end of the one before."""
        keys = []
        while (item := self.queue.next_to_send()) is not None:
            keys.append(item.key)
            self.queue.finished(item.key)
        return keys

    def test_an_empty_one(self):
        self.assertIsNone(self.queue.next_to_send())
        self.assertIsNone(self.queue.finished((ANN, 1)))
        self.assertEqual(self.queue.drain(), ([], [], []))
        self.assertFalse(self.queue)

    def test_a_command_that_comes_late_goes_before_the_later_ones_of_its_client(self):
        self.add(Item((ANN, 2)), Item((BOB, 1)), Item((ANN, 4)), Item((ANN, 3)), Item((ANN, 1)))
        self.assertEqual(self.sent(), [(ANN, 1), (ANN, 2), (BOB, 1), (ANN, 3), (ANN, 4)])

    def test_a_client_that_is_held_back_holds_back_nobody_else(self):
        self.held.add((ANN, 1))
        self.add(Item((ANN, 1)), Item((ANN, 2)), Item((BOB, 1)))
        self.assertEqual(self.sent(), [(BOB, 1)])
        self.held.clear()
        self.assertEqual(self.sent(), [(ANN, 1), (ANN, 2)])

    def test_data_that_is_not_here_holds_back_its_client(self):
        late = Item((ANN, 1), ready=False)
        self.add(late, Item((ANN, 2)), Item((BOB, 1)))
        self.assertEqual(self.sent(), [(BOB, 1)])
        late.ready = True
        self.assertEqual(self.sent(), [(ANN, 1), (ANN, 2)])

    def test_only_what_is_near_is_fetched(self):
        items = [Item((ANN, n), LOOK_AHEAD // 4, False) for n in range(1, 10)]
        self.add(*items)
        self.assertEqual(self.queue.near(), items[:4])
        self.held.add((ANN, 3))
        self.assertEqual(self.queue.near(), items[:2])

    def test_what_is_larger_than_that_is_fetched_when_it_is_next(self):
        self.add(Item((BOB, 1)), Item((ANN, 1), 2 * LOOK_AHEAD, False))
        self.queue.next_to_send()
        self.assertEqual(self.queue.near(), [])
        self.queue.finished((BOB, 1))
        self.assertEqual([item.key for item in self.queue.near()], [(ANN, 1)])

    def test_an_engine_that_is_back_has_it_or_finished_it_or_never_had_it(self):
        for held, finished, sent, fetched, again in (
            ([(ANN, 1)], [], (ANN, 1), [], []),
            ([], [(ANN, 1)], None, [(ANN, 1)], []),
            ([], [], None, [], [(ANN, 1)]),
            ([(ANN, 1)], [(ANN, 1)], None, [(ANN, 1)], []),
        ):
            self.setUp()
            self.add(Item((ANN, 1)), Item((ANN, 2)))
            self.queue.next_to_send()
            result = self.queue.back(held, finished)
            self.assertEqual(self.queue.running_key, sent)
            self.assertEqual([item.key for item in result.fetch], fetched)
            self.assertEqual([item.key for item in result.again], again)
            waiting = [item.key for item in self.queue.waiting]
            self.assertEqual(waiting, [*again, (ANN, 2)])

    def test_nothing_is_sent_before_a_stranger_has_ended(self):
        self.claimed.add((ANN, 5))
        self.add(Item((BOB, 1)))
        self.queue.back([(ANN, 5)], [])
        self.assertIsNone(self.queue.next_to_send())
        self.assertEqual(self.queue.running_key, (ANN, 5))
        self.assertIsNone(self.queue.finished((ANN, 5)))
        self.assertEqual(self.sent(), [(BOB, 1)])
        self.assertTrue(self.queue.add(Item((ANN, 5))))  # its client has come, and it is done

    def test_a_stranger_is_claimed_while_it_runs(self):
        self.queue.back([(ANN, 5)], [])
        self.assertFalse(self.queue.add(Item((ANN, 5))))
        self.assertEqual((self.queue.running_key, self.queue.strangers), ((ANN, 5), ()))

    def test_what_nobody_can_ask_for_is_not_kept_at_the_engine(self):
        self.claimed.add((ANN, 1))
        result = self.queue.back([], [(ANN, 1), (BOB, 1)])
        self.assertEqual(result.unwanted, [(BOB, 1)])
        self.assertEqual(self.queue.forget_strangers(lambda key: key[0] == ANN), [(ANN, 1)])
        self.assertEqual(self.queue.forget_strangers(lambda key: True), [])


@dataclass
class Engine:
    """An engine: its memory is the real one, and running takes a step."""

    memory: CommandMemory = field(default_factory=CommandMemory)
    waiting: list[Key] = field(default_factory=list)
    ran: list[Key] = field(default_factory=list)
    inbox: list[Key] = field(default_factory=list)

    def take(self) -> None:
        """A command arrives, in whole."""
        key = self.inbox.pop(0)
        if self.memory.came(key) is Came.NEW and self.memory.arrived(key):
            self.waiting.append(key)

    def run(self) -> None:
        key = self.waiting.pop(0)
        self.ran.append(key)
        self.memory.ended(key, Outcome(0, messages.OK))


class Machine:
    """A controller's queue, an engine, and what is between them."""

    def __init__(self, claims: bool) -> None:
        self.claims = claims
        self.engine = Engine()
        self.outbox: list[Key] = []
        self.connected = True
        self.submitted: list[Key] = []
        self.ended: list[Key] = []
        self.queue = self.new_queue()

    def new_queue(self) -> CommandQueue[Item]:
        return CommandQueue(lambda key: True, lambda key: self.claims)

    def submit(self, origin: bytes) -> None:
        key = (origin, len(self.submitted) + 1)
        self.submitted.append(key)
        self.queue.add(Item(key))
        self.go_on()

    def go_on(self) -> None:
        if self.connected and (item := self.queue.next_to_send()) is not None:
            self.engine.inbox.append(item.key)

    def outcome(self, key: Key) -> None:
        """An outcome comes; it is safe at once."""
        if key not in self.ended:
            self.ended.append(key)
        self.queue.finished(key)
        self.queue.confirmed(key)
        self.engine.memory.confirm(*key)
        self.go_on()

    def tell(self) -> None:
        """The engine tells its next outcome."""
        if self.connected and self.outbox:
            self.outcome(self.outbox.pop(0))

    def run(self) -> None:
        if self.engine.waiting:
            key = self.engine.waiting[0]
            self.engine.run()
            if self.connected:
                self.outbox.append(key)

    def lose(self) -> None:
        self.connected = False
        self.engine.memory.link_lost()
        self.engine.inbox.clear()
        self.outbox.clear()

    def come_back(self) -> None:
        self.connected = True
        memory = self.engine.memory
        result = self.queue.back(memory.held, memory.finished)
        for origin, number in result.unwanted:
            memory.confirm(origin, number)
        self.outbox += [item.key for item in result.fetch]
        self.go_on()

    def restart(self) -> None:
        """A new controller knows what has not ended, from the journal or from clients."""
        self.lose()
        self.queue = self.new_queue()
        for key in self.submitted:
            if key not in self.ended:
                self.queue.add(Item(key))

    def forget(self) -> None:
        """A new controller, whose clients come only after the engine is back."""
        self.lose()
        self.queue = self.new_queue()
        self.come_back()
        for key in self.submitted:
            if key not in self.ended and self.queue.add(Item(key)):
                self.outbox.append(key)
        self.go_on()

    def duplicate(self) -> None:
        """The last command comes once more."""
        if self.connected and self.engine.memory.held:
            self.engine.inbox.append(self.engine.memory.held[-1])

    def finish(self) -> None:
        """All goes well from now on."""
        if not self.connected:
            self.come_back()
        for _ in range(10 * len(self.submitted) + 10):
            while self.engine.inbox:
                self.engine.take()
            self.run()
            self.tell()


class MachineTests(SynchronousTestCase):
    """Each command runs once, in its client's order, and its outcome comes, whatever breaks at whatever step."""

    @settings(quick, max_examples=1000)
    @given(st.lists(st.sampled_from("aabtttrrroolbRFd"), max_size=60))
    def test_whatever_happens(self, events):
        machine = Machine(claims=True)
        for event in events:
            if event in "ab":
                machine.submit(ANN if event == "a" else BOB)
            elif event == "t" and machine.engine.inbox:
                machine.engine.take()
            elif event == "r":
                machine.run()
            elif event == "o":
                machine.tell()
            elif event == "l" and machine.connected:
                machine.lose()
            elif event == "B" or (event == "d" and not machine.connected):
                machine.come_back()
            elif event == "R":
                machine.restart()
            elif event == "F":
                machine.forget()
            elif event == "d":
                machine.duplicate()
            self.check(machine)
        machine.finish()
        self.check(machine)
        self.assertEqual(sorted(machine.engine.ran), sorted(machine.submitted))
        self.assertEqual(sorted(machine.ended), sorted(machine.submitted))
        self.assertEqual((machine.engine.memory.held, machine.engine.memory.finished), ((), ()))
        self.assertFalse(machine.queue)

    def check(self, machine: Machine) -> None:
        ran = machine.engine.ran
        self.assertEqual(len(set(ran)), len(ran))
        for origin in (ANN, BOB):
            numbers = [number for each, number in ran if each == origin]
            self.assertEqual(numbers, sorted(numbers))


class MemoryTests(SynchronousTestCase):
    def test_the_clients_that_sent_nothing_for_long_are_forgotten(self):
        memory = CommandMemory(most_origins=2)
        for origin in (ANN, BOB, ANN, b"c" * 16):
            number = memory.seen.get(origin, 0) + 1
            self.assertIs(memory.came((origin, number)), Came.NEW)
            self.assertTrue(memory.arrived((origin, number)))
        self.assertEqual(list(memory.seen), [ANN, b"c" * 16])

    def test_the_life_of_a_command(self):
        memory, key = CommandMemory(), (ANN, 7)
        self.assertIs(memory.came(key), Came.NEW)
        self.assertIs(memory.came(key), Came.HELD)
        memory.link_lost()
        self.assertFalse(memory.arrived(key))
        self.assertIs(memory.came(key), Came.NEW)
        memory.arrived(key)
        self.assertIs(memory.came(key), Came.HELD)
        memory.ended(key, Outcome(0, messages.OK))
        self.assertIs(memory.came(key), Came.ENDED)
        memory.confirm(ANN, 5, 3)
        self.assertIs(memory.came(key), Came.FORGOTTEN)

    def run_them(self, memory: CommandMemory, origin: bytes, *numbers: int) -> None:
        for number in numbers:
            self.assertIs(memory.came((origin, number)), Came.NEW)
            self.assertTrue(memory.arrived((origin, number)))
            memory.ended((origin, number), Outcome(0, messages.OK))
            memory.confirm(origin, number)

    def test_one_that_was_never_here_is_told_from_one_that_ran(self):
        memory = CommandMemory()
        self.run_them(memory, ANN, 2, 5)
        came = [memory.came((ANN, number)) for number in range(1, 6)]
        ran, not_here = Came.FORGOTTEN, Came.OVERTAKEN
        self.assertEqual(came, [not_here, ran, not_here, not_here, ran])
        self.assertIs(memory.came((ANN, 6)), Came.NEW)

    def test_what_was_long_ago_may_have_run(self):
        memory = CommandMemory()
        self.run_them(memory, ANN, *range(2, 4 * MOST_NUMBERS, 2))
        first = 2 * MOST_NUMBERS
        self.assertIs(memory.came((ANN, first - 1)), Came.FORGOTTEN)
        self.assertIs(memory.came((ANN, first + 1)), Came.OVERTAKEN)

    def test_what_came_before_a_client_was_forgotten_may_have_run(self):
        memory = CommandMemory(most_origins=1)
        for origin, number in ((ANN, 1), (BOB, 1), (ANN, 3)):
            self.run_them(memory, origin, number)
        self.assertIs(memory.came((ANN, 1)), Came.FORGOTTEN)
