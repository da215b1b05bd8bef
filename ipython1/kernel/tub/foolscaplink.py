"""A link over Foolscap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from foolscap.referenceable import Referenceable
from twisted.internet import tcp
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from ipython1.kernel.host.peerprocess import Ends
from ipython1.kernel.host.turns import ConnectionReader, turns_of
from ipython1.kernel.tub.fastbroker import FastBroker, send_batch
from ipython1.kernel.tub.transportroom import TransportRoom
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.link import FrameLink


def _broker_of(remote: Any) -> Any:
    """Return the broker that a Foolscap reference came by; None if it is something else, or its connection is lost."""
    return getattr(getattr(remote, "tracker", None), "broker", None)


def ends_of(remote: Any) -> Ends | None:
    """Return the ends of the connection that a Foolscap reference came by."""
    return Ends.of_transport(getattr(_broker_of(remote), "transport", None))


def reader_of(remote: Any, reactor: Any) -> ConnectionReader | None:
    """Return what reads the connection that a Foolscap reference came by, in threads that wait for what comes."""
    transport = getattr(_broker_of(remote), "transport", None)
    return turns_of(reactor).reader(transport) if isinstance(transport, tcp.Connection) else None


def room_of(remote: Any) -> TransportRoom:
    """Return the room on the connection that a Foolscap reference came by; where that is not known, it has room."""
    broker = _broker_of(remote)
    return broker.room if isinstance(broker, FastBroker) else TransportRoom()


class FoolscapLink(Referenceable):
    """Connects a :class:`FrameLink` to the other side's Foolscap reference of the same kind.

    Batches that arrive before :meth:`connect` wait until then.

    :ivar gate: the reference by which the link was made; letting go of it before the connection ends costs Foolscap a
        call and its answer.
    """

    gate: Any = None

    def __init__(self, link: FrameLink) -> None:
        self._link = link
        self._remote: Any = None
        self._room = TransportRoom()
        self._early: list[Buffer] | None = []

    def connect(self, remote: Any) -> None:
        """Send to ``remote`` from now on; when its connection is lost, so is the link."""
        self._remote = remote
        self._room = room_of(remote)
        remote.notifyOnDisconnect(self._lost)
        self._link.connected(self)
        self._link.call_soon(self._open)

    def _open(self) -> None:
        early, self._early = self._early or [], None
        for batch in early:
            self._link.deliver(batch)

    def _lost(self) -> None:
        reason = getattr(_broker_of(self._remote), "lost_reason", "")
        self._link.connection_lost(reason or "the connection was lost")

    def send_batch(self, parts: list[Buffer]) -> None:
        send_batch(self._remote, parts)

    @property
    def has_room(self) -> bool:
        return self._room.has_room

    def when_room(self, call: Callable[[], None]) -> None:
        self._room.when_room(call)

    def abort(self) -> None:
        broker = self._remote.tracker.broker
        if broker is not None and broker.transport is not None:
            broker.transport.abortConnection()

    def close(self) -> None:
        broker = self._remote.tracker.broker
        if broker is not None:
            broker.shutdown(Failure(ConnectionDone()))

    def remote_deliver(self, batch: Buffer) -> None:
        """Receive a batch from the other side."""
        if self._early is None:
            self._link.deliver(batch)
        else:
            self._early.append(batch)
