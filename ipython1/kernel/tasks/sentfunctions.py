"""Which functions the controller, and so the engines, keep for a client.

A function is sent once and named from then on.  Those of single tasks are kept as long as the client is there.
Those of maps are often made for one map and never used again, so only the last ones are kept:

============  =========================================  ======================================
a function    on                                         becomes
============  =========================================  ======================================
(unknown)     :meth:`~SentFunctions.add` by a task       kept
(unknown)     ``add`` by a map                           in use
in use, idle  ``add`` by a task                          kept
in use        :meth:`~SentFunctions.release`             idle, when no other map uses it
idle          ``add`` by a map                           in use
idle          ``release`` of others, too many or too     unknown
              large
============  =========================================  ======================================
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final

from ipython1.kernel.tasks.encoder import Packed

FEWEST_IDLE: Final = 4
"""So many are kept however large they are."""

MOST_IDLE: Final = 64

MOST_IDLE_SIZE: Final = 8 * 1024 * 1024
"""Bytes of idle functions, if there are more than the fewest."""


class SentFunctions:
    """The functions that the controller has of one client."""

    def __init__(self) -> None:
        self._kept: set[bytes] = set()
        self._users: Counter[bytes] = Counter()
        self._idle: OrderedDict[bytes, int] = OrderedDict()
        self._idle_size = 0

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._kept or digest in self._users or digest in self._idle

    def add(self, function: Packed, borrowed: bool = False) -> bool:
        """A task refers to a function; returns whether that must be sent first.

        :param borrowed: for a map, which releases it.
        """
        digest = function.digest
        if digest in self._kept:
            return False
        unknown = digest not in self
        self._idle_size -= self._idle.pop(digest, 0)
        if borrowed:
            self._users[digest] += 1
        else:
            self._kept.add(digest)
        return unknown

    def release(self, function: Packed) -> list[bytes]:
        """A map that had added it is done, with all its tasks; returns those that are to be forgotten."""
        digest = function.digest
        self._users[digest] -= 1
        if self._users[digest] > 0:
            return []
        del self._users[digest]
        if digest in self._kept:
            return []
        idle = self._idle
        idle[digest] = len(function.data)
        self._idle_size += len(function.data)
        forgotten = []
        while len(idle) > FEWEST_IDLE and (
            len(idle) > MOST_IDLE or self._idle_size > MOST_IDLE_SIZE
        ):
            oldest, size = idle.popitem(last=False)
            self._idle_size -= size
            forgotten.append(oldest)
        return forgotten
