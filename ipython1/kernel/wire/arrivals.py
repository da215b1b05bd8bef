"""Keeping the order of what arrives, when some of it comes as bulk transfers that take their time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ipython1.kernel.wire.bulk import WritableBuffer, joined, unpack_reference
from ipython1.kernel.wire.frames import Buffer, Bytes
from ipython1.kernel.wire.link import Link


class _Place:
    __slots__ = ("call",)

    def __init__(self) -> None:
        self.call: Callable[[], None] | None = None


class Arrivals:
    """Hands over what arrives on a link in the order in which it was announced.

    What has not been handed over when the link is lost never came: neither a transfer that was not whole, nor what was
    announced after it.
    """

    def __init__(self) -> None:
        self._places: deque[_Place] = deque()

    def __len__(self) -> int:
        return len(self._places)

    def in_turn(self, take: Callable[[], None]) -> None:
        """Call ``take`` when everything announced before is here; at once if it is."""
        if not self._places:
            take()
            return
        place = _Place()
        place.call = take
        self._places.append(place)

    def transfer(
        self,
        link: Link,
        reference: Buffer,
        take: Callable[[Bytes], None],
        failed: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """Call ``take`` with the bytes of a bulk transfer, in turn.

        :param failed: called instead, with the reason, if this side or the sender gives the transfer up.
        """
        place = _Place()
        self._places.append(place)

        def complete(buffers: list[WritableBuffer] | None, reason: str) -> None:
            if link.lost:
                self.clear()
            elif buffers is None:
                place.call = lambda: failed(reason)
            else:
                place.call = self._joined(buffers, take, failed)
            self._admit()

        link.bulk.take(unpack_reference(reference), complete)

    @staticmethod
    def _joined(
        buffers: list[WritableBuffer], take: Callable[[Bytes], None], failed: Callable[[str], None]
    ) -> Callable[[], None]:
        try:
            data = joined(buffers)
        except MemoryError:
            size = sum(map(len, buffers))
            return lambda: failed(f"not enough memory for {size} bytes on the receiving side")
        return lambda: take(data)

    def clear(self) -> None:
        """Forget what has not come."""
        self._places.clear()

    def _admit(self) -> None:
        places = self._places
        while places and places[0].call is not None:
            call = places.popleft().call
            assert call is not None
            call()
