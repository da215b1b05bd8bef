"""Who has come through which gate, who may not come again, and ending their connections.

A gate asks its *door* for a session.  The door refuses clients that were revoked, and keeps a :class:`Visit` of each
party until its connection is lost.

=========  ==============================================  ==========
state      event                                           becomes
=========  ==============================================  ==========
(new)      ``attach``: its registration succeeds           here
(new)      ``link_lost``: it does not                      (gone)
here       ``link_lost``: its connection is lost or ended  (gone)
=========  ==============================================  ==========
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from ipython1.kernel.basics.error import KernelError
from ipython1.kernel.controller.revocations import Revocations
from ipython1.kernel.tub.gate import Session
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.frames import FrameHandler
from ipython1.kernel.wire.link import FrameLink

SHORT = 8
"""Characters of a uuid that people see, and can name a party by."""


class Observer(Protocol):
    """Is told of those who come and go: the audit log."""

    def came(self, interface: str, hello: messages.Hello, address: str) -> None:
        """A party has registered."""

    def refused(self, interface: str, hello: messages.Hello, reason: str) -> None:
        """A party was not let in."""

    def left(self, interface: str, hello: messages.Hello, reason: str) -> None:
        """A connection is lost or ended."""

    def frames_of(
        self, interface: str, hello: messages.Hello, handler: FrameHandler
    ) -> FrameHandler:
        """Return a handler for the frames that a party sends; it passes them on to ``handler``."""


class Visit:
    """One connection, as a session: what happens on it goes on to the real one.

    :ivar interface: whose gate it came through.
    :ivar since: when it came, in seconds since the epoch.
    """

    def __init__(
        self, visits: Visits, interface: str, hello: messages.Hello, session: Session
    ) -> None:
        self.interface = interface
        self.hello = hello
        self.since: float = 0.0
        self.link: FrameLink | None = None
        self._visits = visits
        self._session = session
        self.opened: Callable[[], None] = session.opened
        observer = visits.observer
        self.frame_received: FrameHandler = session.frame_received
        if observer is not None:
            self.frame_received = observer.frames_of(interface, hello, session.frame_received)

    def attach(self, link: FrameLink) -> messages.Welcome:
        welcome = self._session.attach(link)
        self.link = link
        self._visits.begun(self)
        return welcome

    def link_lost(self, reason: str) -> None:
        self._visits.ended(self, reason)
        self._session.link_lost(reason)

    @property
    def address(self) -> str:
        """Where its process is."""
        return "" if self.link is None else self.link.peer

    def describe(self) -> dict[str, Any]:
        """What people may know of it, as a JSON value."""
        return {
            "interface": self.interface,
            "client": self.hello.uuid[:SHORT],
            "label": self.hello.label,
            "address": self.address,
            "since": self.since,
        }


class Visits:
    """All connections of a controller.

    :param revocations: the clients that may not come again.
    :param observer: is told of what happens, if there is one.
    :param now: gives the time in seconds since the epoch.
    """

    def __init__(
        self,
        revocations: Revocations,
        observer: Observer | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.observer = observer
        self._revocations = revocations
        self._now = now
        self._here: dict[int, Visit] = {}

    def door(
        self, interface: str, accept: Callable[[messages.Hello], Session]
    ) -> Callable[[messages.Hello], Session]:
        """Return what opens sessions of an interface for a gate.

        :param accept: opens the real session, or raises a ``KernelError``.
        """

        def enter(hello: messages.Hello) -> Session:
            try:
                self._revocations.check(hello.uuid)
                return Visit(self, interface, hello, accept(hello))
            except KernelError as problem:
                if self.observer is not None:
                    self.observer.refused(interface, hello, str(problem))
                raise

        return enter

    def begun(self, visit: Visit) -> None:
        """A party is connected."""
        visit.since = self._now()
        self._here[id(visit)] = visit
        if self.observer is not None:
            self.observer.came(visit.interface, visit.hello, visit.address)

    def ended(self, visit: Visit, reason: str) -> None:
        """A connection is over."""
        if self._here.pop(id(visit), None) is not None and self.observer is not None:
            self.observer.left(visit.interface, visit.hello, reason)

    def here(self, interface: str | None = None) -> list[Visit]:
        """Return the connections of one interface, or of all, the oldest first."""
        found = list(self._here.values())
        return found if interface is None else [v for v in found if v.interface == interface]

    def cut_off(self, interface: str, reason: str) -> int:
        """End all connections of an interface at once; return how many there were.

        Who has its new FURL may come back.
        """
        visits = self.here(interface)
        for visit in visits:
            if visit.link is not None:
                visit.link.abort(reason)
        return len(visits)

    def revoke(self, uuid: str, label: str, reason: str) -> int:
        """End a party's connections, and never let it in again; return how many there were.

        :raises SecurityError: if that cannot be written down; its connections are ended all the same.
        """
        visits = [visit for visit in self.here() if visit.hello.uuid == uuid]
        try:
            self._revocations.add(uuid, self._now(), label)
        finally:
            for visit in visits:
                if visit.link is not None:
                    visit.link.dismiss(reason)
        return len(visits)
