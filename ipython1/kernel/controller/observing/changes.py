"""What has changed since when; pure state.

Each thing that people look at (an engine, a span, some work, a failure) is an *item*, one object for as long as it is
shown.  An item that changes waits; when it is *released* it gets the next version.  Who looks says up to which version
it knows everything, and gets the items with later ones.

===========  ============================================  ===========================================
an item is   on                                            becomes
===========  ============================================  ===========================================
(any)        :meth:`~Changes.changed`                      waiting, in the place it has if it waits
waiting      :meth:`~Changes.release`, first come first    released, with the highest version
released     :meth:`~Changes.changed`                      waiting, and still released as it was
any          :meth:`~Changes.forget`                       (gone)
===========  ============================================  ===========================================

Not more than :data:`RATE` items are released in a second, however fast they change and however many ask.  So a question
costs what can be shown, not what has happened.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

RATE: Final = 2000
"""Items that are released in a second."""

BURST: Final = 500
"""Items that are released at once, at most."""

MOST: Final = 500
"""Items in one answer, unless that has all of them."""

Item = TypeVar("Item")


class Changes(Generic[Item]):
    """Items, which are told apart by identity or by what makes them equal, and when they changed.

    :ivar version: the last one that was given; the first is 1.
    """

    def __init__(self) -> None:
        self.version: int = 0
        self._released: dict[Item, int] = {}
        self._waiting: dict[Item, None] = {}
        self._room = float(BURST)
        self._last = 0.0

    def changed(self, item: Item) -> None:
        """An item is new or has changed."""
        self._waiting[item] = None

    def forget(self, item: Item) -> None:
        """An item is not shown any more; who knows it finds out otherwise."""
        self._waiting.pop(item, None)
        self._released.pop(item, None)

    def release(self, now: float) -> None:
        """Give versions to what waits, as far as that is due at this time."""
        self._room = min(float(BURST), self._room + (now - self._last) * RATE)
        self._last = now
        count = min(int(self._room), len(self._waiting))
        if count == len(self._waiting):
            self.release_all()
        else:
            for item in [item for item, _ in zip(self._waiting, range(count), strict=False)]:
                del self._waiting[item]
                self._release(item)
        self._room -= count

    def release_all(self) -> None:
        """Give versions to all that waits."""
        waiting, self._waiting = self._waiting, {}
        for item in waiting:
            self._release(item)

    def _release(self, item: Item) -> None:
        self.version += 1
        self._released.pop(item, None)
        self._released[item] = self.version

    def since(self, known: int) -> tuple[list[Item], int]:
        """The items with versions after ``known``, the earliest first, up to :data:`MOST`; and what is known then."""
        found: list[Item] = []
        for item, version in reversed(self._released.items()):
            if version <= known:
                break
            found.append(item)
        found.reverse()
        if len(found) <= MOST:
            return found, self.version
        return found[:MOST], self._released[found[MOST - 1]]

    def everything(self) -> tuple[list[Item], int]:
        """All items, and what is known then."""
        self.release_all()
        return list(self._released), self.version
