"""The Foolscap face of the registry of engines for gateways: their engines register through lanes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.logger import Logger

from ipython1.kernel.basics.error import ClientError, KernelError, ProtocolError
from ipython1.kernel.controller.controllerservice import ControllerService
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.baselink import FrameReceiver, Link
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.lanes import Lane, Lanes
from ipython1.kernel.wire.link import FrameLink

log: Logger = Logger()


class EngineSession(FrameReceiver, Protocol):
    """A session of one engine."""

    def attach(self, link: Link) -> messages.Welcome:
        """Use ``link`` to reach the engine; return the welcome to send it."""

    def opened(self) -> None:
        """Start using the engine."""

    def gone(self, reason: str) -> None:
        """The engine will not come back, as its gateway knows."""


class _LaneSession:
    """An engine behind a gateway."""

    def __init__(self, session: EngineSession, gateway: GatewaySession) -> None:
        self.session = session
        self.frame_received = session.frame_received
        self._gateway = gateway

    def link_lost(self, reason: str) -> None:
        self.session.link_lost(self._gateway.why(reason))


class _Nobody:
    """Receives nothing."""

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        pass

    def link_lost(self, reason: str) -> None:
        pass


class GatewaySession:
    """One connection of a gateway.

    :param accept: opens a session for the greeting of an engine.
    :raises ClientError: if this controller is itself a gateway.
    """

    def __init__(
        self,
        controller: ControllerService,
        accept: Callable[[messages.Hello], EngineSession],
        hello: messages.Hello,
    ) -> None:
        hello.check_versions("the gateway")
        if controller.has_upstream:
            raise ClientError(
                "this controller is itself a gateway, and trees of controllers have two levels: "
                "give --upstream the FURL of the controller that this one is a gateway to"
            )
        self._controller = controller
        self._accept = accept
        self._hello = hello
        self._name = f"its gateway (process {hello.pid} on {hello.host.partition('|')[0]})"
        self._sessions: dict[str, EngineSession] = {}
        self._lanes: Lanes | None = None

    def attach(self, link: FrameLink) -> messages.Welcome:
        self._lanes = Lanes(link, self._opened)
        link.bulk.relaying = True
        return self._controller.welcome(False)

    def opened(self) -> None:
        log.info(
            "a gateway registered: process {pid} on {host}",
            pid=self._hello.pid,
            host=self._hello.host,
        )

    def why(self, reason: str) -> str:
        """What a loss of an engine's lane means."""
        if self._lanes is not None and self._lanes.link.lost:
            return f"{self._name} is out of reach: {reason}"
        return reason

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        """What the gateway itself says."""
        if kind == frames.ENGINE_GONE:
            try:
                uuid, reason = messages.unpack_json(payload)
            except (TypeError, ValueError) as problem:
                raise ProtocolError(f"the loss of an engine is malformed: {problem}") from None
            session = self._sessions.pop(str(uuid), None)
            if session is not None:
                session.gone(str(reason))
        elif kind != frames.GOODBYE:
            raise ProtocolError(f"a gateway sent a frame of unknown kind {kind}")

    def link_lost(self, reason: str) -> None:
        """The connection is lost; each engine has heard of that by its lane."""
        log.info("a gateway is out of reach: {reason}", reason=reason)

    # -- its engines

    def _opened(self, number: int, kind: int, payload: Buffer) -> None:
        """A frame came in a lane that is not open; a late one, unless it is a greeting."""
        if kind != frames.GREET or self._lanes is None:
            return
        try:
            hello = messages.Hello.unpack(payload)
            session = self._accept(hello)
        except KernelError as problem:
            log.info("registration refused: {problem}", problem=problem)
            lane = self._lanes.add(number, _Nobody())
            lane.open(frames.pack_frame(frames.WELCOMED, 1, b"", messages.pack_refusal(problem)))
            self._lanes.forget(lane)
            return
        self._sessions[hello.uuid] = session
        self._begin(session, self._lanes.add(number, _LaneSession(session, self)))

    def _begin(self, session: EngineSession, lane: Lane) -> None:
        welcome = session.attach(lane)
        lane.open(frames.pack_frame(frames.WELCOMED, 0, b"", welcome.pack()))
        session.opened()
