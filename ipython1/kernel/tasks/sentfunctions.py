"""The functions that the controller, and thus the engines, cache for a client.

A function is sent once, and referred to by its digest from then on.  Functions of single tasks are kept as long as the
client is connected.  Functions of maps are often defined for one map and not used again, so only the last ones are
kept:

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
"""Idle functions that are kept regardless of their size."""

MOST_IDLE: Final = 64

MOST_IDLE_SIZE: Final = 8 * 1024 * 1024
"""The maximum size of idle functions, in bytes, if there are more than :data:`FEWEST_IDLE`."""


class SentFunctions:
    """The functions that the controller caches for a client.

    They are kept here, too, as a controller that is started again may lack some.
    """

    def __init__(self) -> None:
        self._kept: dict[bytes, Packed] = {}
        self._used: dict[bytes, Packed] = {}
        self._users: Counter[bytes] = Counter()
        self._idle: OrderedDict[bytes, Packed] = OrderedDict()
        self._idle_size = 0

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._kept or digest in self._used or digest in self._idle

    def by_digest(self) -> dict[bytes, Packed]:
        """Return all of them."""
        return {**self._kept, **self._used, **self._idle}

    def add(self, function: Packed, borrowed: bool = False) -> bool:
        """Note that a task refers to a function, and return whether it must be sent first.

        :param borrowed: whether it is for a map, which will release it.
        """
        digest = function.digest
        if digest in self._kept:
            return False
        unknown = digest not in self
        if self._idle.pop(digest, None) is not None:
            self._idle_size -= len(function.data)
        if borrowed:
            self._used[digest] = function
            self._users[digest] += 1
        else:
            self._kept[digest] = function
        return unknown

    def release(self, function: Packed) -> list[bytes]:
        """Release a map's function when its tasks are done, and return the digests to delete from the cache."""
        digest = function.digest
        self._users[digest] -= 1
        if self._users[digest] > 0:
            return []
        del self._users[digest]
        self._used.pop(digest, None)
        if digest in self._kept:
            return []
        idle = self._idle
        idle[digest] = function
        self._idle_size += len(function.data)
        forgotten = []
        while len(idle) > FEWEST_IDLE and (
            len(idle) > MOST_IDLE or self._idle_size > MOST_IDLE_SIZE
        ):
            oldest, dropped = idle.popitem(last=False)
            self._idle_size -= len(dropped.data)
            forgotten.append(oldest)
        return forgotten
