"""FastBroker against stock Foolscap, over in-memory transports.

The same script of messages is played through every pairing of the two; what is delivered, in which order, and every
byte on the wire must be the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import foolscap.eventual
from foolscap.broker import Broker
from foolscap.constraint import ByteStringConstraint
from foolscap.referenceable import Referenceable, TubRef
from foolscap.remoteinterface import RemoteInterface
from foolscap.tokens import Violation
from twisted.internet import error, task
from twisted.internet.address import IPv4Address
from twisted.internet.defer import fail
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from ipython1.kernel.basics.error import MessageSizeError
from ipython1.kernel.tub import fastbroker
from ipython1.kernel.tub.bananawire import CLOSE, LONGINT, OPEN, STRING, Extent, b128, from_b128
from ipython1.kernel.tub.fastbroker import FastBroker, send_batch

PARAMETERS = {"banana-decision-version": 3, "initial-vocab-table-index": 1}
NO_VOCABULARY = {"banana-decision-version": 3, "initial-vocab-table-index": 0}


class ManualQueue:
    """Replaces Foolscap's queue of eventual calls; runs them when the test says so."""

    def __init__(self) -> None:
        self._calls: list[tuple[Callable[..., Any], Any, Any]] = []

    def append(self, call: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self._calls.append((call, args, kwargs))

    def run(self) -> None:
        while self._calls:
            call, args, kwargs = self._calls.pop(0)
            call(*args, **kwargs)


class Wire:
    """One direction of a connection: what was written, and how much of it has arrived."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.arrived = 0
        self.writes = 0
        self.lost = False
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.writes += 1
        self.written += data

    def loseConnection(self) -> None:
        self.lost = True

    def abortConnection(self) -> None:
        self.aborted = True

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 1)

    def take(self, size: int) -> bytes:
        piece = bytes(self.written[self.arrived : self.arrived + size])
        self.arrived += len(piece)
        return piece


SHORT = ByteStringConstraint(40)


class RIStrict(RemoteInterface):
    def deliver(batch=SHORT):
        return None


def shown(value: Any) -> Any:
    """``value`` in a form that compares equal between two runs."""
    if isinstance(value, (list, tuple)):
        return [shown(one) for one in value]
    return value if isinstance(value, (int, float, bytes, str, dict)) else type(value).__name__


class Recorder(Referenceable):
    """Keeps what reached it, in order."""

    def __init__(self, name: str, seen: list[Any]) -> None:
        self.name = name
        self.seen = seen
        self.kept: list[Any] = []

    def remote_deliver(self, batch: Any, extra: Any = None) -> None:
        self.seen.append((self.name, "deliver", batch, extra))
        if batch == b"raise":
            raise RuntimeError("a handler that fails")

    def remote_add(self, first: int, second: int) -> int:
        self.seen.append((self.name, "add", first, second))
        return first + second

    def remote_note(self, *args: Any, **kwargs: Any) -> Any:
        plain = shown(list(args))
        self.seen.append((self.name, "note", plain, sorted(kwargs.items())))
        self.kept.append(args)
        return plain

    def remote_fail(self) -> None:
        self.seen.append((self.name, "fail"))
        raise ValueError("asked to fail")


@implementer(RIStrict)
class StrictRecorder(Recorder):
    """Has a schema, which only stock code checks."""


class End:
    """One end of a connection, with its objects and what the other end's objects look like from here."""

    def __init__(self, broker_class: type[Broker], parameters: dict[str, int]) -> None:
        self.wire = Wire()
        self.broker = broker_class(TubRef("a" * 32), parameters)
        self.broker.unsafeTracebacks = False
        self.broker.logReceiveErrors = False
        self.broker.makeConnection(self.wire)
        self.seen: list[Any] = []
        self.results: list[Any] = []
        self.own: list[Recorder] = [
            Recorder("plain", self.seen),
            StrictRecorder("strict", self.seen),
            Recorder("third", self.seen),
        ]
        self.remote: list[Any] = []

    def call(self, target: Any, name: str, *args: Any, **kwargs: Any) -> None:
        number = len(self.results)
        self.results.append(None)

        def done(result: Any) -> None:
            failed = isinstance(result, Failure)
            self.results[number] = result.type.__name__ if failed else shown(result)

        target.callRemote(name, *args, **kwargs).addBoth(done)


class Pair:
    """Two connected ends; each holds references to all objects of the other."""

    def __init__(
        self,
        case: SynchronousTestCase,
        left: type[Broker] = FastBroker,
        right: type[Broker] = FastBroker,
        parameters: dict[str, int] = PARAMETERS,
    ) -> None:
        self.queue = ManualQueue()
        case.patch(foolscap.eventual, "_theSimpleQueue", self.queue)
        self.left = End(left, parameters)
        self.right = End(right, parameters)
        for giver, taker in ((self.left, self.right), (self.right, self.left)):
            taker.broker.remote_getReferenceByName = lambda name, own=taker.own: own[int(name)]
            for number in range(len(taker.own)):
                got: list[Any] = []
                giver.broker.getYourReferenceByName(b"%d" % number).addCallback(got.append)
                self.settle()
                giver.remote += got

    def settle(self) -> None:
        """Everything that was written arrives, and every eventual call runs."""
        for _ in range(20):
            self.arrive(self.left, self.right)
            self.arrive(self.right, self.left)
            self.queue.run()

    def arrive(self, sender: End, receiver: End, size: int = 2**30) -> None:
        piece = sender.wire.take(size)
        if piece:
            receiver.broker.dataReceived(piece)


PAIRINGS = {
    "stock to stock": (Broker, Broker),
    "fast to stock": (FastBroker, Broker),
    "stock to fast": (Broker, FastBroker),
    "fast to fast": (FastBroker, FastBroker),
}


class Script:
    """A reproducible mixture of messages, segment boundaries and turns."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.parameters = NO_VOCABULARY if seed % 7 == 3 else PARAMETERS

    def payload(self, dice: random.Random) -> bytes:
        kind = dice.randrange(12)
        if kind == 0:
            return dice.choice([b"", b"call", b"arguments", b"immutable-set", b"none", b"calls"])
        if kind == 1:
            return dice.randbytes(dice.choice([127, 128, 16383, 16384, 70000]))
        if kind == 2:
            # What looks like messages inside a batch must stay inside.
            return b"\x00\x88\x0b\x87\x00\x81\x01\x81\x07\x82deliver\x01\x88\x0c\x87\x01\x81" * 2
        return dice.randbytes(dice.randrange(60))

    def send(self, end: End, dice: random.Random) -> None:
        target = dice.choice(end.remote)
        kind = dice.randrange(22)
        if kind < 11:
            batch = self.payload(dice)
            if dice.randrange(3):
                send_batch(target, batch)
            else:
                cut = dice.randrange(len(batch) + 1)
                send_batch(target, [batch[:cut], memoryview(batch)[cut:], bytearray()])
        elif kind == 11:
            target.callRemoteOnly("deliver", self.payload(dice))
        elif kind == 12:
            end.call(end.remote[0], "add", dice.randrange(1000), dice.randrange(-(2**40), 2**40))
        elif kind == 13:
            end.remote[0].callRemoteOnly("note", 1.5, [1, b"two", {b"k": [3]}], key="v\u00e9")
        elif kind == 14:
            end.call(end.remote[2], "note", dice.choice(end.own), dice.choice(end.remote), end.own)
        elif kind == 15:
            end.broker.sendPING(dice.choice([0, 5, 300]))
        elif kind == 16:
            end.call(end.remote[2], "fail")
        elif kind == 17:
            end.call(target, "note", object())  # cannot be sent: an ABORT in the middle
        elif kind == 18:
            end.remote[0].callRemoteOnly("deliver", b"with another argument", b"extra")
        elif kind == 19:
            end.remote[2].callRemoteOnly("deliver", b"with a keyword", extra=dice.randrange(9))
        elif kind == 20:
            end.remote[0].callRemoteOnly("deliver", [b"not", "bytes"])
        else:
            send_batch(dice.choice(end.remote[::2]), b"raise")

    def play(self, pair: Pair) -> None:
        dice = random.Random(self.seed)
        longest = dice.choice([1, 7, 60, 4000, 100_000])
        for _ in range(40):
            action = dice.randrange(5)
            if action < 3:
                self.send(dice.choice([pair.left, pair.right]), dice)
            elif action == 3:
                for sender, receiver in ((pair.left, pair.right), (pair.right, pair.left)):
                    for _ in range(dice.randrange(30)):
                        pair.arrive(sender, receiver, 1 + dice.randrange(longest))
                        if dice.randrange(8) == 0:
                            pair.queue.run()
                # In the same turn stock code has delivered nothing yet, FastBroker has.
                pair.queue.run()
            else:
                pair.settle()
        pair.settle()


class DifferentialTests(SynchronousTestCase):
    """The same script, every pairing."""

    def outcome(self, script: Script, pairing: str) -> dict[str, Any]:
        pair = Pair(self, *PAIRINGS[pairing], script.parameters)
        script.play(pair)
        # Failing handlers, and batches that the schema refuses.
        self.flushLoggedErrors(RuntimeError, Violation)
        ends = {"left": pair.left, "right": pair.right}
        outcome: dict[str, Any] = {}
        for name, end in ends.items():
            self.assertFalse(end.wire.lost, f"{pairing} dropped the connection")
            outcome[f"delivered {name}"] = end.seen
            outcome[f"results {name}"] = end.results
            outcome[f"bytes from {name}"] = bytes(end.wire.written)
            outcome[f"objects counted {name}"] = end.broker.objectCounter
            outcome[f"opens counted {name}"] = end.broker.openCount
        return outcome

    def test_every_pairing_does_the_same(self) -> None:
        for seed in range(120):
            script = Script(seed)
            expected = self.outcome(script, "stock to stock")
            for pairing in list(PAIRINGS)[1:]:
                found = self.outcome(script, pairing)
                for what, value in expected.items():
                    self.assertEqual(value, found[what], f"{what}, {pairing}, seed {seed}")

    def heard(self, kind: type[Broker], stream: bytes, steps: list[int]) -> list[Any]:
        """What the right end of a new pair makes of ``stream``."""
        pair = Pair(self, Broker, kind)
        pair.right.broker.clock = task.Clock()
        pair.right.broker.reportReceiveError = lambda failure: None
        position = 0
        for step in steps:
            pair.right.broker.dataReceived(stream[position : position + step])
            position += step
            pair.queue.run()
        self.flushLoggedErrors()
        return pair.right.seen

    def test_damaged_streams_are_taken_alike(self) -> None:
        dice = random.Random(7)
        for case in range(150):
            pair = Pair(self, Broker, Broker)
            start = len(pair.left.wire.written)
            for _ in range(6):
                target = dice.choice(pair.left.remote[::2])
                send_batch(target, dice.randbytes(dice.randrange(40)))
                if dice.randrange(4) == 0:
                    target.callRemoteOnly("note", 5, [b"x"], key=b"y")
            stream = bytearray(pair.left.wire.written[start:])
            for _ in range(dice.randrange(1, 4)):
                place = dice.randrange(len(stream))
                match dice.randrange(3):
                    case 0:
                        stream[place] = dice.randrange(256)
                    case 1:
                        del stream[place]
                    case _:
                        stream.insert(place, dice.randrange(0x80, 0x90))
            steps = [dice.choice([1, 5, 40, 500]) for _ in range(len(stream))]
            damaged = bytes(stream)
            expected = self.heard(Broker, damaged, steps)
            self.assertEqual(self.heard(FastBroker, damaged, steps), expected, f"case {case}")


def deliver_call(size: int, batch: bytes, number: int = 5) -> bytes:
    """What a message to the first reference given out looks like, announcing ``size`` bytes."""
    return (
        b128(number) + OPEN + b"\x0b\x87\x00\x81\x01\x81\x07\x82deliver"
        + b128(number + 1) + OPEN + b"\x0c\x87\x01\x81" + b128(size) + STRING
        + batch + b128(number + 1) + CLOSE + b128(number) + CLOSE
    )  # fmt: skip


class SendTests(SynchronousTestCase):
    """What the sender sees."""

    def test_a_message_is_one_write(self) -> None:
        pair = Pair(self)
        writes = pair.left.wire.writes
        self.assertIs(send_batch(pair.left.remote[0], [b"a" * 300_000, memoryview(b"b" * 7)]), True)
        self.assertEqual(pair.left.wire.writes, writes + 1)
        pair.settle()
        self.assertEqual(pair.right.seen, [("plain", "deliver", b"a" * 300_000 + b"b" * 7, None)])
        self.assertIs(type(pair.right.seen[0][2]), bytes)

    def test_parts_count_in_bytes(self) -> None:
        numbers = memoryview(bytearray(800)).cast("d")
        pair = Pair(self)
        send_batch(pair.left.remote[0], [b"x", numbers])
        pair.settle()
        self.assertEqual(pair.right.seen, [("plain", "deliver", b"x" + bytes(800), None)])

    def test_a_batch_over_the_limit_is_refused_before_it_does_harm(self) -> None:
        pair = Pair(self)
        before = len(pair.left.wire.written)
        with self.assertRaises(MessageSizeError):
            send_batch(pair.left.remote[0], bytes(FastBroker.max_batch + 1))
        self.assertEqual(len(pair.left.wire.written), before)
        send_batch(pair.left.remote[0], bytes(FastBroker.max_batch))
        pair.settle()
        self.assertEqual(len(pair.right.seen[0][2]), FastBroker.max_batch)

    def test_a_dead_reference_says_so_and_raises_nothing(self) -> None:
        for left in (FastBroker, Broker):
            pair = Pair(self, left)
            pair.left.broker.connectionLost(Failure(error.ConnectionDone()))
            self.assertIs(send_batch(pair.left.remote[0], b"late"), False)


class ReceiveTests(SynchronousTestCase):
    """What a peer can and cannot do."""

    def test_a_batch_may_come_in_single_bytes(self) -> None:
        batch = random.Random(1).randbytes(20_000)
        pair = Pair(self)
        send_batch(pair.left.remote[0], batch)
        while pair.left.wire.arrived < len(pair.left.wire.written):
            pair.arrive(pair.left, pair.right, 1)
        self.assertEqual(pair.right.seen, [("plain", "deliver", batch, None)])

    def test_a_batch_announced_over_the_limit_ends_the_connection(self) -> None:
        pair = Pair(self)
        pair.right.broker.clock = task.Clock()
        pair.right.broker.dataReceived(deliver_call(FastBroker.max_batch + 1, b""))
        self.assertTrue(pair.right.wire.lost)
        pair.right.broker.dataReceived(deliver_call(3, b"abc"))
        self.assertEqual(pair.right.seen, [])
        # Closing waits for the peer, and not for ever.
        self.assertFalse(pair.right.wire.aborted)
        pair.right.broker.clock.advance(fastbroker.CLOSE_GRACE)
        self.assertTrue(pair.right.wire.aborted)

    def assert_dropped(self, data: bytes) -> None:
        for step in (len(data), 1000, 3):
            pair = Pair(self)
            pair.right.broker.clock = task.Clock()
            for start in range(0, len(data), step):
                pair.right.broker.dataReceived(data[start : start + step])
            self.assertTrue(pair.right.wire.lost, data[:30])
            self.assertEqual(pair.right.seen, [])

    def test_what_foolscap_leaves_unbounded_is_bounded(self) -> None:
        call = b"\x05" + OPEN + b"\x0b\x87\x00\x81\x00\x81"  # a call to the Broker itself
        limit = FastBroker.message_limit
        self.assert_dropped(call + b128(limit) + STRING)  # the name of a method
        self.assert_dropped(call + b"\x03\x82foo" + (b"\x06" + OPEN + b"\x04\x87") * 20)  # depth
        self.assert_dropped(call + b128(2000) + LONGINT)
        self.assert_dropped(b"\x01" * 100)  # a number without end
        self.assert_dropped(call + (b"\x06" + OPEN + b"\x04\x87" + b"\x06" + CLOSE) * (limit // 6))

    def test_a_schema_is_checked(self) -> None:
        pair = Pair(self)
        for size in (40, 41):
            call = deliver_call(size, bytes(size)).replace(b"\x01\x81\x07", b"\x02\x81\x07")
            pair.right.broker.dataReceived(call)
        pair.settle()
        self.assertEqual(pair.right.seen, [("strict", "deliver", bytes(40), None)])
        self.assertFalse(pair.right.wire.lost)

    def test_a_failing_handler_changes_nothing_else(self) -> None:
        pair = Pair(self)
        pair.right.own[0].remote_deliver = lambda batch: fail(ValueError("later"))  # type: ignore[method-assign]
        send_batch(pair.left.remote[0], b"x")
        send_batch(pair.left.remote[2], b"raise")
        send_batch(pair.left.remote[2], b"goes on")
        pair.settle()
        self.assertEqual(pair.right.seen[-1], ("third", "deliver", b"goes on", None))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_nothing_is_delivered_after_a_handler_closed_the_connection(self) -> None:
        pair = Pair(self)
        pair.right.broker.clock = task.Clock()
        seen: list[bytes] = []

        def close(batch: bytes) -> None:
            seen.append(batch)
            pair.right.broker.shutdown(Failure(error.ConnectionDone()))

        pair.right.own[0].remote_deliver = close  # type: ignore[method-assign]
        for number in range(3):
            send_batch(pair.left.remote[0], b"%d" % number)
        pair.settle()
        self.assertEqual(seen, [b"0"])

    def test_a_transport_that_calls_back_at_once_keeps_the_order(self) -> None:
        pair = Pair(self)
        seen: list[bytes] = []
        later = deliver_call(1, b"b", 100)

        def handle(batch: bytes) -> None:
            if batch == b"a":
                pair.right.broker.dataReceived(later)
            seen.append(batch)

        pair.right.own[0].remote_deliver = handle  # type: ignore[method-assign]
        pair.right.broker.dataReceived(deliver_call(1, b"a", 90))
        self.assertEqual(seen, [b"a", b"b"])

    def test_a_released_object_gets_nothing_more(self) -> None:
        pair = Pair(self)
        send_batch(pair.left.remote[2], b"before")
        pair.settle()
        clid = pair.left.remote[2].tracker.clid
        del pair.left.remote[2]
        pair.settle()
        self.assertNotIn(clid, pair.right.broker.myReferenceByCLID)
        pair.right.broker.dataReceived(
            deliver_call(5, b"after").replace(b"\x01\x81\x07", b"\x03\x81\x07")
        )
        pair.settle()
        self.assertEqual(pair.right.seen, [("third", "deliver", b"before", None)])
        self.assertFalse(pair.right.wire.lost)

    def test_a_third_partys_furl_is_not_taken(self) -> None:
        # An attempt to resolve it, or to log that it failed, would spread a capability.
        pair = Pair(self)
        tracker = type(
            "Tracker", (), {"broker": None, "clid": 1, "getURL": lambda self: "pb://secret"}
        )()
        gift = type(pair.left.remote[0])(tracker)
        pair.left.call(pair.left.remote[0], "note", gift)
        pair.settle()
        self.assertEqual(pair.left.results, ["Violation"])
        self.assertEqual(pair.right.seen, [])


class LossTests(SynchronousTestCase):
    """The end of a connection."""

    def test_the_reason_is_told(self) -> None:
        def lose(pair: Pair, action: Callable[[FastBroker], object]) -> str:
            broker = pair.left.broker
            self.assertEqual(broker.lost_reason, "")
            broker.clock = task.Clock()
            action(broker)
            return broker.lost_reason

        def lost(problem: Exception) -> Callable[[FastBroker], object]:
            return lambda broker: broker.connectionLost(Failure(problem))

        for action, reason in (
            (lost(error.ConnectionDone()), "the other side closed the connection"),
            (lost(error.ConnectionLost()), "the other side or the network failed"),
            (lost(error.ConnectionAborted()), "it was aborted on this side"),
            (lambda broker: broker.abort("too slow"), "too slow"),
            (
                lambda broker: broker.shutdown(Failure(error.ConnectionDone())),
                "it was closed on this side",
            ),
        ):
            self.assertEqual(lose(Pair(self), action), reason)

    def test_unanswered_calls_of_an_aborted_connection_log_nothing(self) -> None:
        pair = Pair(self)
        del pair.left.remote[2]  # tells the other end, which does not answer
        pair.queue.run()
        pair.left.broker.connectionLost(Failure(error.ConnectionAborted()))
        pair.queue.run()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_closing_waits_for_the_peer_a_bounded_time(self) -> None:
        pair = Pair(self)
        clock = pair.left.broker.clock = task.Clock()
        pair.left.broker.shutdown(Failure(error.ConnectionDone()))
        clock.advance(fastbroker.CLOSE_GRACE - 0.1)
        self.assertFalse(pair.left.wire.aborted)
        clock.advance(0.2)
        self.assertTrue(pair.left.wire.aborted)

    def test_a_peer_that_takes_part_is_not_aborted(self) -> None:
        pair = Pair(self)
        clock = pair.left.broker.clock = task.Clock()
        pair.left.broker.shutdown(Failure(error.ConnectionDone()))
        pair.left.broker.connectionLost(Failure(error.ConnectionDone()))
        self.assertEqual(clock.getDelayedCalls(), [])


class WireTests(SynchronousTestCase):
    """The pieces of Banana."""

    def test_numbers(self) -> None:
        for number in (0, 1, 127, 128, 16383, 16384, 2**31 - 1, 2**35):
            self.assertEqual(from_b128(b128(number)), number)
        self.assertEqual(b128(300), b"\x2c\x02")

    def test_the_end_of_an_item_is_found_in_any_pieces(self) -> None:
        items = [deliver_call(4, b"\x88\x88\x89\x82"), b"\x8e", b"\x05\x8f", deliver_call(0, b"")]
        stream = b"".join(items)
        for step in range(1, len(stream) + 1):
            extent = Extent()
            ends: list[int] = []
            for start in range(0, len(stream), step):
                data = stream[start : start + step]
                position = 0
                while position < len(data):
                    position = extent.scan(data, position, 1000)
                    if extent.between_items:
                        ends.append(start + position)
            lengths = [len(item) for item in items]
            self.assertEqual(ends, [sum(lengths[: n + 1]) for n in range(4)])
