"""Memory of messages."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.tub import bananawire
from ipython1.kernel.tub.bananawire import Incoming, SpareMemory

SIZE = 300_000


class IncomingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(bananawire, "spare_memory", SpareMemory())
        self.kept: list[object] = []

    def receive(self, data: bytes, keep: bool) -> bytearray:
        """Receive a message whose target keeps it, or does not; return the memory that it was in."""
        incoming = Incoming(self.kept.append if keep else len, b"", b"", len(data))
        self.assertEqual(incoming.add(data, 0), len(data))
        incoming.target(incoming.payload())
        incoming.handed_over()
        return incoming.memory

    def test_memory_that_nobody_refers_to_is_used_again(self) -> None:
        first = self.receive(b"a" * SIZE, False)
        self.assertIs(self.receive(b"b" * (SIZE - 1), False), first)
        self.assertIs(self.receive(b"c" * SIZE, False), first)
        self.assertEqual(len(first), SIZE)

    def test_what_is_kept_stays_as_it_is(self) -> None:
        batches = [bytes([number]) * (SIZE - number) for number in range(5)]
        for batch in batches:
            self.receive(batch, True)
            self.receive(b"x" * SIZE, False)
        self.assertEqual(self.kept, batches)

    def test_a_small_message_has_small_memory(self) -> None:
        self.receive(b"a" * SIZE, False)
        self.receive(b"b" * 1000, True)
        small = self.kept[0]
        assert isinstance(small, memoryview)
        self.assertEqual(len(small.obj), 1000)

    def test_one_message_is_kept_at_most(self) -> None:
        large = self.receive(b"a" * SIZE, False)
        self.receive(b"b" * 1000, False)
        self.assertIs(self.receive(b"c" * SIZE, False), large)
