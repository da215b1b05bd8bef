"""When a client says that it has a batch of results, and what it makes of those that do not come."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.calls.clientlink import ClientEnd
from ipython1.kernel.tasks.deliveries import Deliveries
from ipython1.kernel.tasks.methods import read_value
from ipython1.kernel.wire import bulk, frames, messages, taskwire
from ipython1.kernel.wire.bulk import pack_reference
from ipython1.kernel.wire.link import FrameLink
from ipython1.kernel.wire.payload import pack_sizes
from ipython1.kernel.wire.taskwire import DONE_HEAD, Status
from ipython1.testing.memory import Pump, connect_in_memory

LARGE = 600_000


class Controller:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.confirmed: list[int] = []
        self.refused: list[int] = []

    def frame_received(self, kind: int, flags: int, ident: int, meta: Any, payload: Any) -> None:
        if kind == taskwire.CONFIRM:
            self.confirmed.append(ident)

    def link_lost(self, reason: str) -> None:
        pass


class DeliveriesTests(SynchronousTestCase):
    """Frames come as the tests say."""

    def setUp(self) -> None:
        self.pump = Pump()
        self.end = ClientEnd(bytes(16))
        self.end.reconnects = True
        self.controller = Controller()
        self.stored: list[bytes] = []
        self.unwanted: set[int] = set()
        self.deliveries = Deliveries(
            self.end, self.stored.append, lambda task_id: task_id not in self.unwanted
        )
        self.end.handlers[taskwire.DONE] = self.deliveries.received
        self.connect()

    def connect(self) -> None:
        self.here, self.there = connect_in_memory(self.pump, self.end, self.controller)
        self.end.attach(self.here, messages.Welcome(instance="i", known=True))

    def head(self, task_id: int, size: int = 0) -> bytes:
        return DONE_HEAD.pack(task_id, size, Status.OK, 0, 1, 0.0, 0.0, 0.0)

    def batch(self, number: int, *task_ids: int) -> None:
        for frame in taskwire.pack_done([(self.head(each), b"") for each in task_ids], number):
            self.there.send_packed(*frame)
        self.pump.run()

    def announce(self, transfer: int, task_id: int, link: FrameLink | None = None) -> None:
        link = link or self.there
        link.send(frames.BULK_OPEN, transfer, b"", pack_sizes([bytes(LARGE)]))
        head = self.head(task_id, LARGE)
        link.send(taskwire.DONE, 0, head, pack_reference(transfer), frames.BULK)

    def pieces(self, transfer: int) -> None:
        for size in (frames.PIECE_SIZE, LARGE - frames.PIECE_SIZE):
            self.there.send(frames.BULK_PIECE, transfer, b"", bytes(size))
        self.pump.run()

    def test_small_ones_are_confirmed_at_once(self) -> None:
        self.batch(1, 5, 6)
        self.batch(0, 7)
        self.assertEqual(self.controller.confirmed, [1])
        self.assertEqual(self.stored, [self.head(5) + self.head(6), self.head(7)])

    def test_a_batch_is_confirmed_when_all_of_it_is_here(self) -> None:
        self.announce(1, 5)
        self.announce(2, 6)
        self.batch(1, 7)
        self.announce(3, 8)
        self.batch(2, 9)
        self.batch(3, 10)
        self.assertEqual(self.controller.confirmed, [])
        self.pieces(2)
        self.pieces(3)
        self.assertEqual(self.controller.confirmed, [])
        self.pieces(1)
        self.assertEqual(self.controller.confirmed, [1, 2, 3])
        self.batch(4, 11)
        self.assertEqual(self.controller.confirmed, [1, 2, 3, 4])
        self.assertIn(self.head(6, LARGE) + bytes(LARGE), self.stored)

    def test_no_memory_for_a_result(self) -> None:
        def refuse(*_: object) -> bytearray:
            raise MemoryError("not enough memory for 300000 bytes on the receiving side")

        self.patch(bulk, "allocate", refuse)
        self.announce(1, 5)
        self.batch(1, 7)
        self.pieces(1)
        self.assertEqual(self.controller.confirmed, [1])
        refused = self.stored[-1]
        head = DONE_HEAD.unpack_from(refused)
        self.assertEqual((head[0], head[2]), (5, Status.REFUSED))
        value = read_value(head[2], refused[DONE_HEAD.size :], -1, None)
        self.assertEqual(
            str(value.failure),
            "the result of task 5 did not arrive at this client: "
            "not enough memory for 300000 bytes on the receiving side",
        )

    def test_what_the_controller_gives_up_fails_as_well(self) -> None:
        self.announce(1, 5)
        self.there.send(frames.BULK_ABORT, 1, b"its file is damaged")
        self.batch(1, 7)
        self.assertIn(b"did not arrive at this client: its file is damaged", self.stored[0])
        self.assertEqual(self.controller.confirmed, [1])

    def test_what_is_here_is_not_received_again(self) -> None:
        self.unwanted.add(5)
        self.announce(1, 5)
        self.batch(1, 7)
        self.assertEqual(self.controller.confirmed, [1])
        self.assertEqual(self.stored, [self.head(7)])
        self.assertEqual(self.here.bulk.active, 0)

    def test_what_a_lost_link_brought_in_part_never_came(self) -> None:
        self.announce(1, 5)
        self.batch(1, 7)
        self.here.connection_lost("it was cut")
        self.connect()
        self.announce(9, 5)
        self.batch(1, 6)
        self.assertEqual(self.controller.confirmed, [])
        self.pieces(9)
        self.assertEqual(self.controller.confirmed, [1])
        self.assertEqual(
            self.stored, [self.head(7), self.head(6), self.head(5, LARGE) + bytes(LARGE)]
        )
