"""Parties that come, lose their connection, and come back: who they are, and how long one waits for them.

==========  ============================================  =============================================
state       event                                         becomes
==========  ============================================  =============================================
(unknown)   ``came``                                      present
present     ``left`` with a grace                         away
present     ``left`` without a grace, ``goodbye``         gone
(unknown)   ``expect`` (after the controller's restart)   away
away        ``came`` with the right secret                present
away        its process is dead; its grace is over;       gone
            ``goodbye``
gone                                                      remembered for a while, to know it again
==========  ============================================  =============================================

A party is named by its uuid, and proves with its secret that it is the same as before.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from ipython1.kernel.basics.error import SecurityError

MOST_REMEMBERED: Final = 10_000
"""Parties that are gone and would be known again; of more, the oldest are forgotten."""


class Identity(NamedTuple):
    """What names a party and its process.

    :ivar proof: the hash of its secret, in hexadecimal.
    :ivar pid: its process id, on the machine that ``host`` names.
    :ivar started: when that process started, in a unit of the system; 0 if that cannot be known here.
    :ivar label: who it is, for people.
    """

    uuid: str
    proof: str
    pid: int
    host: str
    started: float = 0.0
    label: str = ""


class Processes(Protocol):
    """Knows processes of this host."""

    def started(self, pid: int, host: str) -> float:
        """When a process started, in a unit of the system; 0 if there is none, or it is on another host."""

    def watch(self, identity: Identity, on_dead: Callable[[], None], /) -> Callable[[], None]:
        """Call ``on_dead`` once if a party's process is dead or dies; return what ends the watching.

        It may be called at once.
        """


class NoProcesses:
    """Knows nothing of any process."""

    def started(self, pid: int, host: str) -> float:
        return 0.0

    def watch(self, identity: Identity, on_dead: Callable[[], None], /) -> Callable[[], None]:
        return lambda: None


def proof_of(secret: str) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(slots=True)
class _Away:
    """A party that one waits for."""

    reason: str
    timer: IDelayedCall
    stop_watching: Callable[[], None] = lambda: None


class Parties:
    """All parties of one kind.

    :param what: what they are, for messages.
    :param on_gone: called with the uuid of a party that was away or present and is gone, and why.
    """

    def __init__(
        self,
        what: str,
        clock: IReactorTime,
        on_gone: Callable[[str, str], None],
        processes: Processes | None = None,
    ) -> None:
        self._what = what
        self._clock = clock
        self._on_gone = on_gone
        self._processes = processes or NoProcesses()
        self._living: dict[str, Identity] = {}
        self._away: dict[str, _Away] = {}
        self._remembered: OrderedDict[str, Identity] = OrderedDict()

    def check(self, uuid: str, secret: str) -> bool:
        """Return whether a party is known from before.

        :raises SecurityError: if its secret is not the one of the party that is known under its uuid.
        """
        identity = self._living.get(uuid) or self._remembered.get(uuid)
        if identity is None:
            return False
        if not hmac.compare_digest(identity.proof, proof_of(secret)):
            raise SecurityError(
                f"this {self._what} says that it is {uuid[:8]}, which registered before, but its secret is another; "
                "it is refused"
            )
        return True

    def came(self, uuid: str, secret: str, pid: int, host: str, label: str = "") -> Identity:
        """A party has come, or come back; call :meth:`check` first."""
        started = self._processes.started(pid, host)
        identity = Identity(uuid, proof_of(secret), pid, host, started, label)
        self._remembered.pop(identity.uuid, None)
        self._living[identity.uuid] = identity
        self._end_wait(identity.uuid)
        return identity

    def expect(self, identity: Identity, reason: str, grace: float) -> None:
        """Wait for a party that was there before this controller was started again."""
        self._living[identity.uuid] = identity
        self.left(identity.uuid, reason, grace)

    def left(self, uuid: str, reason: str, grace: float) -> None:
        """A party's connection is lost; it may come back within ``grace`` seconds, unless its process is dead."""
        if uuid not in self._living or uuid in self._away:
            return
        if grace <= 0:
            self.goodbye(uuid, reason)
            return
        timer = self._clock.callLater(
            grace, self.goodbye, uuid, f"{reason}; it did not come back within {grace:g} s"
        )
        away = self._away[uuid] = _Away(reason, timer)

        def dead() -> None:
            if self._away.get(uuid) is away:
                self.goodbye(uuid, "its process ended")

        stop = self._processes.watch(self._living[uuid], dead)
        if self._away.get(uuid) is away:
            away.stop_watching = stop
        else:
            stop()

    def goodbye(self, uuid: str, reason: str) -> None:
        """A party will not come back, as it says itself or as is known otherwise."""
        identity = self._living.pop(uuid, None)
        self._end_wait(uuid)
        if identity is None:
            return
        self._remembered[uuid] = identity
        while len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)
        self._on_gone(uuid, reason)

    def is_living(self, uuid: str) -> bool:
        """Whether a party is present or away."""
        return uuid in self._living

    def is_away(self, uuid: str) -> bool:
        """Whether one waits for a party."""
        return uuid in self._away

    def identity(self, uuid: str) -> Identity | None:
        """The identity of a party that is present, away or remembered."""
        return self._living.get(uuid) or self._remembered.get(uuid)

    def living(self) -> list[Identity]:
        """The parties that are present or away."""
        return list(self._living.values())

    def stop(self) -> None:
        """Wait for nobody any more; for the end of the process."""
        for uuid in list(self._away):
            self._end_wait(uuid)

    def _end_wait(self, uuid: str) -> None:
        away = self._away.pop(uuid, None)
        if away is not None:
            if away.timer.active():
                away.timer.cancel()
            away.stop_watching()
