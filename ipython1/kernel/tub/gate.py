"""Gates: where a party with the right FURL registers and gets a link.

Each interface of the controller has a gate of its own with a FURL of its own; who holds one of them gets a
session of that kind and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from foolscap.referenceable import Referenceable
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from ipython1.kernel.basics.error import ClientError, ConnectionError, KernelError
from ipython1.kernel.tub.foolscaplink import FoolscapLink
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.link import FrameLink, FrameReceiver, TurnFlusher

log = Logger()


class Session(FrameReceiver, Protocol):
    """What a gate opens for one registered party."""

    def attach(self, link: FrameLink) -> messages.Welcome:
        """The party is reached through ``link``; returns what to tell it."""

    def opened(self) -> None:
        """The party can be used from now on."""


class Gate(Referenceable):
    """The object behind a FURL.

    :param accept: makes a session for a greeting, or raises the :class:`KernelError` to answer with.
    """

    def __init__(self, accept: Callable[[messages.Hello], Session], flusher: TurnFlusher) -> None:
        self._accept = accept
        self._flusher = flusher

    def remote_register(self, greeting: bytes, remote_link: Any) -> tuple[bytes, Any]:
        """Register; answers with a welcome and the controller's end of the link, or a refusal and None."""
        try:
            session = self._accept(messages.Hello.unpack(greeting))
        except KernelError as problem:
            log.info("a registration was refused: {problem}", problem=problem)
            return messages.pack_refusal(problem), None
        link = FrameLink(self._flusher, session)
        face = FoolscapLink(link)
        try:
            welcome = session.attach(link)
            face.connect(remote_link)
        except BaseException:
            # Nobody is there to lose the connection later, so what was registered is taken back now.
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
) -> messages.Welcome:
    """Register at the gate that ``gate`` (a Foolscap reference) refers to, and connect ``link``.

    :param timeout: seconds to wait for the answer, on ``clock``; None for no limit.
    :raises KernelError: the one with which the controller refuses.
    :raises ConnectionError: when no answer comes in time.
    """
    face = FoolscapLink(link)
    call: Deferred[tuple[bytes, Any]] = gate.callRemote("register", hello.pack(), face)
    if timeout is not None and clock is not None:
        call.addTimeout(timeout, clock)
    try:
        answer, remote = await call
    except DeferredTimeout:
        raise ConnectionError(
            f"the controller took the connection but did not answer within {timeout:g} s; it is busy or stuck"
        ) from None
    except Exception as problem:
        raise ClientError(
            "the controller did not accept the registration: the FURL may be that of another interface "
            f"({type(problem).__name__})"
        ) from None
    welcome = messages.unpack_welcome(answer)
    face.connect(remote)
    return welcome
