"""Gates: where a party with the right FURL registers and gets a link.

Each interface of the controller has its own gate with its own FURL; the holder of a FURL gets a session of that kind
and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from foolscap.ipb import DeadReferenceError
from foolscap.referenceable import Referenceable
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from ipython1.kernel.basics.error import ClientError, ConnectionError, KernelError, ProtocolError
from ipython1.kernel.host import sharedmemory
from ipython1.kernel.tub.foolscaplink import FoolscapLink, ends_of, reader_of
from ipython1.kernel.tub.memoryexchange import EXTRA, MemoryHub, PartyExchange
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.link import FrameLink, FrameReceiver, TurnFlusher

log: Logger = Logger()


class Session(FrameReceiver, Protocol):
    """A session that a gate opens for a registered party."""

    def attach(self, link: FrameLink) -> messages.Welcome:
        """Use ``link`` to reach the party; return the welcome to send it."""

    def opened(self) -> None:
        """Start using the party; called once its registration has succeeded."""


class Gate(Referenceable):
    """The object that a FURL refers to.

    :param accept: creates a session for a greeting, or raises the :class:`KernelError` to reply with.
    :param memory: for what is shared with parties of this host, if anything.
    """

    def __init__(
        self,
        accept: Callable[[messages.Hello], Session],
        flusher: TurnFlusher,
        memory: MemoryHub | None = None,
    ) -> None:
        self._accept = accept
        self._flusher = flusher
        self._memory = memory

    def remote_register(self, greeting: bytes, remote_link: Any) -> tuple[bytes, Any]:
        """Register a party; reply with a welcome and the controller's end of the link, or a refusal and None."""
        try:
            if not isinstance(greeting, bytes):
                raise ProtocolError("a greeting is malformed: it is not bytes")
            session = self._accept(messages.Hello.unpack(greeting))
        except KernelError as problem:
            log.info("registration refused: {problem}", problem=problem)
            return messages.pack_refusal(problem), None
        link = FrameLink(self._flusher, session)
        link.ends = ends_of(remote_link)
        link.bulk.guard()
        face = FoolscapLink(link)
        try:
            welcome = session.attach(link)
            if self._memory is not None:
                welcome.extra[EXTRA] = self._memory.admit(link)
            face.connect(remote_link)
        except BaseException:
            # No connection will be lost later to trigger cleanup, so undo the registration now.
            link.connection_lost("its registration failed")
            raise
        session.opened()
        return welcome.pack(), face


async def register(
    gate: Any,
    hello: messages.Hello,
    link: FrameLink,
    timeout: float | None = None,
    clock: IReactorTime | None = None,
    sharing: Any = None,
) -> messages.Welcome:
    """Register at the gate that ``gate`` (a Foolscap reference) refers to, and connect ``link``.

    :param timeout: seconds to wait for the answer, on ``clock``; None for no limit.
    :param sharing: the reactor, if large data may go through memory that is shared with processes of this host.
    :raises KernelError: the controller's refusal.
    :raises ConnectionError: if there is no answer in time.
    """
    face = FoolscapLink(link)
    call: Deferred[tuple[bytes, Any]] = gate.callRemote("register", hello.pack(), face)
    if timeout is not None and clock is not None:
        call.addTimeout(timeout, clock)
    try:
        answer, remote = await call
    except DeferredTimeout:
        raise ConnectionError(
            f"the controller accepted the connection but did not answer within {timeout:g} s; it is busy or stuck"
        ) from None
    except (DeadReferenceError, ConnectionLost, ConnectionDone):
        raise ConnectionError(
            "the connection was lost before the controller answered; it has ended, or the network failed"
        ) from None
    except Exception as problem:
        raise ClientError(
            "the controller rejected the registration: the FURL may be for another interface "
            f"({type(problem).__name__})"
        ) from None
    welcome = messages.unpack_welcome(answer)
    told = welcome.extra.get(EXTRA)
    if sharing is not None and told is not None and sharedmemory.is_available():
        link.bulk.share(PartyExchange(told, sharing))
    face.connect(remote)
    face.gate = gate
    if not link.lost:
        link.reader = reader_of(remote, clock)
    return welcome
