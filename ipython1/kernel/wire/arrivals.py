"""Keeping the order of what arrives, when some of it comes as bulk transfers that take their time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ipython1.kernel.wire.bulk import WritableBuffer, unpack_reference
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.link import FrameLink


class _Place:
    __slots__ = ("data", "here", "take")

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self.take = take
        self.here = False
        self.data: bytes | None = None


class Arrivals:
    """Hands over what arrives in the order in which it was announced."""

    def __init__(self) -> None:
        self._places: deque[_Place] = deque()

    def __len__(self) -> int:
        return len(self._places)

    def in_turn(self, take: Callable[[], None]) -> None:
        """Call ``take`` when everything announced before is here; at once if it is."""
        if not self._places:
            take()
            return
        place = _Place(lambda data: take())
        place.here, place.data = True, b""
        self._places.append(place)

    def transfer(self, link: FrameLink, reference: Buffer, take: Callable[[bytes], None]) -> None:
        """Call ``take`` with the bytes of a bulk transfer, in turn; never, if they do not come."""
        place = _Place(take)
        self._places.append(place)

        def complete(buffers: list[WritableBuffer] | None, reason: str) -> None:
            place.here = True
            place.data = None if buffers is None else b"".join(buffers)
            self._admit()

        link.bulk.take(unpack_reference(reference), complete)

    def clear(self) -> None:
        """Forget what has not come."""
        self._places.clear()

    def _admit(self) -> None:
        while self._places and self._places[0].here:
            place = self._places.popleft()
            if place.data is not None:
                place.take(place.data)
