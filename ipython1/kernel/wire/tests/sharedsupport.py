"""Shared memory for tests, in one process and without sockets."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from ipython1.kernel.wire.bulkport import BulkPort
from ipython1.kernel.wire.sharing import OwnMemory


class Hub:
    """All memories of a test.

    :ivar soon: what is to be called later, as the answers of sockets would; call them with :meth:`step`.
    """

    def __init__(self) -> None:
        self.numbers = count(1)
        self.memories: dict[int, bytearray] = {}
        self.sides: list[HubSide] = []
        self.soon: list[Callable[[], None]] = []

    def make(self, size: int) -> tuple[int, bytearray]:
        number = next(self.numbers)
        self.memories[number] = bytearray(size)
        return number, self.memories[number]

    def step(self) -> bool:
        if not self.soon:
            return False
        self.soon.pop(0)()
        return True

    def forget(self, number: int) -> None:
        if self.memories.pop(number, None) is not None:
            for side in self.sides:
                side.gone(number)

    def join(self, party: BulkPort, controller: BulkPort, refuses: bool = False) -> None:
        """Let both ends of a wire share memory; a party that ``refuses`` is on another host."""
        side = HubSide(self, controller)
        self.sides.append(side)
        controller.share(side)
        party.share(PartySide(self, side, refuses))


class HubSide:
    """What the controller's end of a wire has and may give."""

    def __init__(self, hub: Hub, port: BulkPort) -> None:
        self._hub = hub
        self.port = port
        self.held: set[int] = set()
        self.permitted: set[int] = set()
        self.closed = False

    def make(self, size, on_made):
        number, memory = self._hub.make(size)
        self.held.add(number)
        on_made(OwnMemory(number, memoryview(memory), lambda: self.withdrawn(number), offer=True))

    def fetch(self, number, on_fetched):
        on_fetched(None)

    def may_fetch(self, number):
        self.permitted.add(number)

    def withdrawn(self, number):
        if number in self.held:
            self.held.discard(number)
            self._hub.forget(number)

    def gone(self, number):
        if number in self.permitted:
            self.permitted.discard(number)
            self.port.memory.gone(number)

    def close(self):
        self.closed = True
        for number in list(self.held):
            self.withdrawn(number)


class PartySide:
    """A party's part."""

    def __init__(self, hub: Hub, side: HubSide, refuses: bool) -> None:
        self._hub = hub
        self._side = side
        self._refuses = refuses

    def make(self, size, on_made):
        self._hub.soon.append(lambda: self._make(size, on_made))

    def _make(self, size, on_made):
        if self._refuses or self._side.closed:
            on_made(None)
            return
        number, memory = self._hub.make(size)
        self._side.held.add(number)
        self._side.port.memory.add(number, memoryview(memory).toreadonly())
        on_made(OwnMemory(number, memoryview(memory), lambda: None))

    def fetch(self, number, on_fetched):
        self._hub.soon.append(lambda: on_fetched(self._fetch(number)))

    def _fetch(self, number):
        memory = self._hub.memories.get(number)
        if memory is None or self._refuses or number not in self._side.permitted:
            return None
        return memoryview(memory).toreadonly()

    def may_fetch(self, number):
        pass

    def withdrawn(self, number):
        pass

    def close(self):
        pass
