"""Foolscap's Broker with a fast path for the one message shape that our processes exchange.

``FastBroker`` writes and reads exactly the bytes that stock Foolscap writes and reads, so either end may be stock.  For
``rref.callRemoteOnly("deliver", batch)`` it joins a header and the batch instead of walking slicers, and recognises
such a message with one regular expression instead of a state machine per token.  Everything else goes through the
stock code, one top-level item at a time; messages on both paths stay in order.

On the wire a message is ``OPEN(n) call 0 CLID "deliver" OPEN(n+1) arguments 1 STRING(size) batch CLOSE(n+1) CLOSE(n)``;
numbers are little-endian base 128 in front of a type byte above 0x7f, and ``call`` and ``arguments`` are words of
the negotiated vocabulary.

What the receiver does depends on the state of the connection:

===========  ======================================================================================
state        what the next bytes are
===========  ======================================================================================
top level    a header (go to *payload*), the beginning of one (keep it), or anything else (*stock*)
payload      bytes of a batch, put into memory of its size
trailer      the two CLOSE tokens; anything else sends the whole message to *stock*
stock        given to Foolscap up to the end of this top-level item, which is bounded in size
===========  ======================================================================================

The target of a message is a local object to which the peer holds a reference and whose ``remote_deliver`` takes one
argument, ``bytes`` or a ``memoryview`` of them; it runs before the next message is read.  Exceptions in it are logged
and have no other effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from foolscap.banana import Banana
from foolscap.broker import Broker, PBOpenRegistry, PBRootUnslicer
from foolscap.call import InboundDelivery
from foolscap.referenceable import Referenceable, RemoteReference
from foolscap.slicer import UnslicerRegistry
from foolscap.tokens import BananaError
from twisted.internet import defer, error
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from ipython1.kernel.basics.error import MessageSizeError
from ipython1.kernel.tub import tlsstream
from ipython1.kernel.tub.bananawire import (
    CLOSE,
    DELIVER,
    STRING,
    Arguments,
    Extent,
    Incoming,
    Part,
    Target,
    b128,
    first_tables,
    from_b128,
    header_for,
    header_pieces,
)
from ipython1.kernel.tub.tlsstream import TLSStream
from ipython1.kernel.tub.transportroom import TransportRoom
from ipython1.kernel.tub.wholewrites import Gathered
from ipython1.kernel.wire.frames import MAX_BATCH

log: Logger = Logger()

CLOSE_GRACE = 2.0
"""Seconds that a peer has to close its side of a connection."""


class _RootUnslicer(PBRootUnslicer):
    """Rejects references to third parties, because Foolscap would connect to their FURLs or log them."""

    openRegistries: list[Any] = [
        UnslicerRegistry,
        {name: kind for name, kind in PBOpenRegistry.items() if name != ("their-reference",)},
    ]


class FastBroker(Broker):
    """For use as ``Tub.brokerClass``.

    :cvar max_batch: bytes; see :data:`~ipython1.kernel.frames.MAX_BATCH`.
    :cvar message_limit: the maximum bytes of a top-level item on the stock path.
    :ivar room: whether more may be written now.
    :ivar lost_reason: why the connection was lost, for messages; empty while it is open.
    """

    unslicerClass = _RootUnslicer
    max_batch = MAX_BATCH
    message_limit = MAX_BATCH + 4096
    clock: Any = None
    transport: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.lost_reason: str = ""
        self._targets: dict[bytes, Target] = {}
        self._extent = Extent()
        self._at_top_level = True
        self._incoming: Incoming | None = None
        self._kept = b""
        self._consuming = False
        self._unread: list[bytes] = []
        self._aborting: Any = None
        self._stream: TLSStream | None = None
        self.room: TransportRoom = TransportRoom()
        super().__init__(*args, **kwargs)
        self._outgoing_changed()
        self._incoming_changed()

    def connectionMade(self) -> None:
        self.room.watch(self.transport)
        self._stream = tlsstream.attach(self.transport, self)
        super().connectionMade()

    # The encoding of "call" and "arguments" depends on the vocabulary.

    def populateVocabTable(self, vocabStrings: list[bytes]) -> None:
        outgoing, incoming = first_tables(tuple(vocabStrings))
        self.outgoingVocabTableWasReplaced(outgoing)
        self.replaceIncomingVocabulary(incoming)

    def outgoingVocabTableWasReplaced(self, newTable: dict[bytes, int]) -> None:
        super().outgoingVocabTableWasReplaced(newTable)
        self._outgoing_changed()

    def outgoingVocabTableWasAmended(self, index: int, value: bytes) -> None:
        self.outgoingVocabulary: dict[bytes, int] = dict(self.outgoingVocabulary)
        super().outgoingVocabTableWasAmended(index, value)
        self._outgoing_changed()

    def replaceIncomingVocabulary(self, vocabDict: dict[int, bytes]) -> None:
        super().replaceIncomingVocabulary(vocabDict)
        self._incoming_changed()

    def addIncomingVocabulary(self, key: int, value: bytes) -> None:
        self.incomingVocabulary: dict[int, bytes] = dict(self.incomingVocabulary)
        super().addIncomingVocabulary(key, value)
        self._incoming_changed()

    def _outgoing_changed(self) -> None:
        self._call, self._method, self._arguments, _ = header_pieces(self.outgoingVocabulary)
        self._to: dict[int, bytes] = {}
        self._longest_word = max(map(len, self.outgoingVocabulary), default=0)

    def _incoming_changed(self) -> None:
        spelled = {word: index for index, word in self.incomingVocabulary.items()}
        self._header = header_for(tuple(sorted(spelled.items())))

    # Sending

    def send_batch(self, reference: Any, batch: Part | Sequence[Part]) -> bool:
        """See :func:`send_batch`."""
        if self.disconnected or self.connectionAbandoned:
            return False
        if isinstance(batch, (bytes, bytearray, memoryview)):
            batch = (batch,)
        size = 0
        for part in batch:
            size += len(part) if type(part) is bytes else memoryview(part).nbytes
        if size > self.max_batch:
            raise MessageSizeError(f"a batch of {size} bytes exceeds the limit of {self.max_batch}")
        to = self._to.get(reference.tracker.clid) or self._route(reference.tracker)
        root = self.rootSlicer
        if (
            not to
            or type(reference) is not RemoteReference
            # Else stock code is in the middle of sending something.
            or root.producingDeferred is None
            or root.sendQueue
            or len(self.slicerStack) != 1
            or self.paused
            or self.debugSend
            or (size <= self._longest_word and b"".join(batch) in self.outgoingVocabulary)
        ):
            reference.callRemoteOnly(DELIVER, b"".join(batch))
            return True
        number = self.openCount
        self.openCount: int = number + 2
        first, second = b128(number), b128(number + 1)
        head = (first, to, second, self._arguments, b128(size), STRING)
        message = (*head, *batch, second, CLOSE, first, CLOSE)
        if self._stream is not None:
            self._stream.write(message, size)
        else:
            self.transport.write(b"".join(message))
        return True

    def _route(self, tracker: Any) -> bytes:
        """Return what names the receiver in a message; nothing if only stock code can send to it."""
        if tracker.clid <= 0 or tracker.interface is not None:
            return b""
        to = self._to[tracker.clid] = self._call + b128(tracker.clid) + self._method
        return to

    def produce(self, dummy: Any = None) -> None:
        if isinstance(self.transport, Gathered):
            super().produce(dummy)  # in the middle of an item
            return
        transport = self.transport
        self.transport = gathered = Gathered(transport)
        try:
            super().produce(dummy)
        finally:
            self.transport = transport
            gathered.flush()

    # Receiving

    def dataReceived(self, chunk: bytes) -> None:
        if (
            self._consuming
            or self._incoming is not None
            or self._kept
            or self.disconnected
            or self.connectionAbandoned
            or self.useKeepalives
        ):
            # Data may still arrive for a while after the connection is closed.
            if not self.disconnected:
                super().dataReceived(chunk)
            return
        self._consuming = True  # what comes meanwhile, by a transport that calls back, waits
        try:
            handled = self._is_message(chunk)
        finally:
            self._consuming = False
        if not handled or self._unread:
            super().dataReceived(b"" if handled else chunk)

    @property
    def incoming(self) -> Incoming | None:
        """The message to whose payload the next bytes belong, if that is known."""
        coming = self._incoming
        if coming is None or coming.filled == coming.size or self.disconnected:
            return None
        return None if self.connectionAbandoned else coming

    def handleData(self, chunk: bytes) -> None:
        """Handle received bytes, which may be split anywhere."""
        if self._consuming:
            self._unread.append(chunk)  # during a delivery, by a transport that calls back at once
            return
        self._consuming = True
        try:
            self._consume(chunk)
            while self._unread and not self.disconnected:
                self._consume(self._unread.pop(0))
        finally:
            self._consuming = False

    def _consume(self, data: bytes) -> None:
        position = 0
        incoming = self._incoming
        if incoming is not None and incoming.filled < incoming.size:
            position = incoming.add(data, 0)
        elif self._kept:
            data = self._kept + data
            self._kept = b""
        by_stock = False
        while position < len(data) and not (self.disconnected or self.connectionAbandoned):
            incoming = self._incoming
            if incoming is not None:
                if data.startswith(incoming.trailer, position):
                    position += len(incoming.trailer)
                    self._incoming = None
                    self._hand_over(incoming.target, incoming.payload())
                elif incoming.trailer.startswith(data[position : position + len(incoming.trailer)]):
                    self._kept = data[position:]
                    return
                else:
                    # Maybe legal, such as a PING in between or an extra argument: stock code decides.
                    data = b"".join((incoming.head, incoming.payload(), data[position:]))
                    position = 0
                    self._incoming = None
                    by_stock = True
            elif by_stock or not self._at_top_level:
                position = self._stock(data, position)
                by_stock = False
            else:
                position = self._message(data, position)

    def _is_message(self, data: bytes) -> bool:
        """Handle ``data`` if it is one message, as it most often is."""
        found = self._header.match(data) if self._at_top_level else None
        if found is None:
            return False
        first, clid, second, digits = found.groups()
        target = self._targets.get(clid)
        start = found.end()
        stop = start + from_b128(digits)
        if target is None or data[stop:] != b"".join((second, CLOSE, first, CLOSE)):
            return False
        if stop - start > self.max_batch:
            return False
        self._hand_over(target, data[start:stop])
        return True

    def _message(self, data: bytes, position: int) -> int:
        """Read one item that begins at ``position``; return where to continue."""
        found = self._header.match(data, position)
        if found is None:
            rest = len(data) - position
            if rest < self._header.longest and self._header.match_beginning(data, position):
                self._kept = data[position:]
                return len(data)
            return self._stock(data, position)
        first, clid, second, digits = found.groups()
        target = self._targets.get(clid) or self._target(clid)
        if target is None:
            return self._stock(data, position)
        size = from_b128(digits)
        if size > self.max_batch:
            raise BananaError(f"a batch of {size} bytes exceeds the limit of {self.max_batch}")
        start = found.end()
        stop = start + size
        trailer = second + CLOSE + first + CLOSE
        if data.startswith(trailer, stop):
            self._hand_over(target, data[start:stop])
            return stop + len(trailer)
        self._incoming = incoming = Incoming(target, data[position:start], trailer, size)
        return incoming.add(data, start)

    def _stock(self, data: bytes, position: int) -> int:
        """Let Foolscap read to the end of this item, or of ``data``; return where that is."""
        stop = self._extent.scan(data, position, self.message_limit)
        Banana.handleData(self, data[position:stop])
        self._at_top_level = (
            self._extent.between_items
            and len(self.receiveStack) == 1
            and not self.discardCount
            and not self.inOpen
        )
        return stop

    def _target(self, digits: bytes) -> Target | None:
        clid = from_b128(digits)
        tracker = self.myReferenceByCLID.get(clid)
        served = None if tracker is None else tracker.obj
        if (
            isinstance(served, Referenceable)
            and type(served).doRemoteCall is Referenceable.doRemoteCall
            and served.getInterface() is None
            and digits == b128(clid)  # else it would stay when the reference is given up
        ):
            target: Target | None = getattr(served, "remote_" + DELIVER, None)
            if target is not None:
                self._targets[digits] = target
            return target
        return None

    def _hand_over(self, target: Target, payload: Part) -> None:
        self.objectCounter += 2
        if self.inboundDeliveryQueue or self._waiting_for_call_to_be_ready:
            # Stock code runs calls in a later reactor turn; this one must not overtake them.
            call = partial(self._deliver, target)
            queued = InboundDelivery(self, 0, call, None, None, None, Arguments(payload))
            self.scheduleCall(queued, None)
        else:
            self._deliver(target, payload)

    def _deliver(self, target: Target, payload: Part) -> None:
        try:
            result = target(payload)
        except Exception:
            log.failure("error while handling a batch from {peer}", peer=self.peer_name())
        else:
            if result is not None and isinstance(result, defer.Deferred):
                result.addErrback(self._log_failure)

    def _log_failure(self, failure: Failure) -> None:
        log.failure("error while handling a batch from {peer}", failure, peer=self.peer_name())

    def callFailed(self, f: Failure, reqID: int, delivery: Any = None) -> None:
        # The caller does not learn of a failed one-way call, so it is logged on either path.
        if delivery is not None and reqID == 0:
            self._log_failure(f)
        super().callFailed(f, reqID, delivery)

    def remote_decref(self, clid: int, count: int) -> None:
        super().remote_decref(clid, count)
        if clid not in self.myReferenceByCLID:
            self._targets.pop(b128(clid), None)

    # The end of a connection

    def peer_name(self) -> str:
        """Return the peer's address, for messages."""
        peer = self.transport.getPeer() if self.transport is not None else None
        host, port = getattr(peer, "host", None), getattr(peer, "port", None)
        return f"{host}:{port}" if host is not None else "the other side"

    def abort(self, reason: str) -> None:
        """Close the connection immediately and discard unsent data; ``reason`` becomes ``lost_reason``."""
        if not self.disconnected:
            self.lost_reason = reason
        self.finish(Failure(error.ConnectionLost(reason)))
        self._abort_transport()

    def shutdown(self, why: Failure, fireDisconnectWatchers: bool = True) -> None:
        if not self.disconnected:
            closed = bool(why.check(error.ConnectionDone))
            self.lost_reason = "it was closed on this side" if closed else str(why.value)
        super().shutdown(why, fireDisconnectWatchers)
        self._abort_soon()

    def sendError(self, msg: str) -> None:
        super().sendError(msg)
        self._abort_soon()

    def handleError(self, msg: bytes) -> None:
        log.warn("{peer} closed the connection: {text!r}", peer=self.peer_name(), text=msg[:200])
        self.transport.loseConnection()
        self._abort_soon()

    def reportReceiveError(self, f: Failure) -> None:
        if f.check(BananaError):
            reason = str(f.value)[:80]
            log.warn(
                "dropped the connection to {peer}: {reason}", peer=self.peer_name(), reason=reason
            )
        else:
            log.failure("error while reading data from {peer}", f, peer=self.peer_name())

    def _abort_soon(self) -> None:
        # Closing TLS waits for the peer to close its side, which a dead or stuck peer never does.
        if self._aborting is None and not self._transport_lost:
            self._aborting = self._clock().callLater(CLOSE_GRACE, self._abort_transport)

    def _abort_transport(self) -> None:
        abort = getattr(self.transport, "abortConnection", self.transport.loseConnection)
        abort()

    def _clock(self) -> Any:
        if self.clock is not None:
            return self.clock
        from twisted.internet import reactor

        return reactor

    _transport_lost = False

    def connectionLost(self, why: Failure = connectionDone) -> None:
        self._transport_lost = True
        if self._aborting is not None and self._aborting.active():
            self._aborting.cancel()
        if why.check(error.ConnectionAborted):
            # Foolscap expects ConnectionLost or ConnectionDone, and logs its own unanswered calls otherwise.
            self.lost_reason = self.lost_reason or "it was aborted on this side"
            why = Failure(error.ConnectionLost())
        if self._stream is not None:
            self._stream.close()
        super().connectionLost(why)

    def finish(self, why: Failure) -> None:
        if not self.lost_reason:
            self.lost_reason = _describe_loss(why)
        super().finish(why)
        self._targets.clear()
        self._unread.clear()
        self._incoming = None
        self._kept = b""


def send_batch(reference: Any, batch: Part | Sequence[Part]) -> bool:
    """Send ``batch`` (bytes, or parts to be joined) to the ``remote_deliver`` of ``reference``.

    There is no reply.  It is sent even if the connection has no room; see :class:`TransportRoom`.

    :returns: True if the bytes were passed to the transport, False if the connection is gone, which the disconnect
        notification also reports.
    :raises MessageSizeError: if the batch is longer than the broker's ``max_batch``.
    """
    broker = reference.tracker.broker
    if isinstance(broker, FastBroker):
        return broker.send_batch(reference, batch)
    if broker.disconnected:
        return False
    if not isinstance(batch, bytes):
        batch = bytes(batch) if isinstance(batch, (bytearray, memoryview)) else b"".join(batch)
    reference.callRemoteOnly(DELIVER, batch)
    return True


def _describe_loss(why: Failure) -> str:
    if why.check(error.ConnectionDone):
        return "the other side closed the connection"
    if why.check(error.ConnectionLost):
        return "the other side or the network failed"
    return why.getErrorMessage()
