"""How much an engine is given ahead of what it runs.

An engine that waits for its next task over the network idles, so it gets some seconds of work at a time
(:class:`Prefetch`).  How long a task will take is told by those that did the same before it.  What has not been
measured counts as long, and trust grows with the number of measurements, so that the amount at
most doubles from one batch to the next.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

REFILL_BELOW: Final = 0.75
"""An engine is given more when a quarter of what it may have is free."""

SMOOTHING: Final = 1 / 16
EXACT: Final = 16
"""The average is that of all measurements up to this number, and a moving one from then on."""


class Prefetch(NamedTuple):
    """What an engine has at hand.

    :ivar ahead: seconds of work.
    :ivar fewest: tasks, however long they take: one to run and one to go on with.
    :ivar most: tasks, however short they are.
    :ivar grain: seconds of work that make a message worth sending; short tasks are not spread
        thinner than that.
    """

    ahead: float = 0.010
    fewest: int = 2
    most: int = 4096
    grain: float = 0.0005

    @property
    def unknown(self) -> float:
        """Seconds to reckon with for a task of a kind that was never measured."""
        return self.ahead / max(2, self.fewest)

    def takes_more(self, work: float, number: int) -> bool:
        """Whether an engine with ``number`` tasks of ``work`` seconds may be given one more."""
        return number < self.fewest or (work < self.ahead and number < self.most)

    def has_room(self, work: float, number: int) -> bool:
        """Whether it is time to give it more."""
        return number < self.fewest or (
            work <= self.ahead * REFILL_BELOW and number <= self.most * REFILL_BELOW
        )


class Measured:
    """The durations of the tasks that do the same thing.

    :ivar average: seconds for one item.
    :ivar count: the number of measurements.
    :ivar estimate: seconds to reckon with for one item; never less than trust in the average allows.
    """

    __slots__ = ("_policy", "average", "count", "estimate")

    def __init__(self, policy: Prefetch) -> None:
        self._policy = policy
        self.average: float = 0.0
        self.count: int = 0
        self.estimate: float = policy.unknown

    def add(self, durations: float, number: int = 1) -> None:
        """``number`` more measurements, that took ``durations`` seconds together."""
        policy = self._policy
        count = self.count = self.count + number
        exact = number / count
        weight = exact if count <= EXACT else max(exact, 1 - (1 - SMOOTHING) ** number)
        average = self.average = self.average + (durations / number - self.average) * weight
        trusted = policy.ahead / min(count, policy.most) if count > 2 else policy.unknown
        self.estimate = max(average, trusted)

    def expect(self, weight: int) -> float:
        """Seconds to reckon with for a task of ``weight`` items."""
        return self.estimate * weight if self.count else self.estimate

    def __repr__(self) -> str:
        return f"<{self.count} measured, {self.average:.6f} s>"


class Templates:
    """The measured durations by what was run; the least recently submitted kinds are forgotten."""

    def __init__(self, policy: Prefetch, keep: int = 4096) -> None:
        self._policy = policy
        self._keep = keep
        self._by_digest: OrderedDict[bytes, Measured] = OrderedDict()

    def get(self, digest: bytes) -> Measured:
        """The measurements of ``digest``; empty ones if it is new."""
        measured = self._by_digest.get(digest)
        if measured is None:
            measured = self._by_digest[digest] = Measured(self._policy)
            if len(self._by_digest) > self._keep:
                self._by_digest.popitem(last=False)
        else:
            self._by_digest.move_to_end(digest)
        return measured

    def __len__(self) -> int:
        return len(self._by_digest)
