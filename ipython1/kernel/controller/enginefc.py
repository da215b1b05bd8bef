"""The Foolscap face of the registry of engines: engines register at its gate, and gateways for theirs."""

from __future__ import annotations

from dataclasses import replace

from ipython1.kernel.controller.controllerservice import ControllerService
from ipython1.kernel.controller.gatewayfc import GatewaySession
from ipython1.kernel.controller.queuedengine import QueuedEngine
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.link import Link


class FCEngines:
    """Accepts engines for a controller."""

    def __init__(self, controller: ControllerService) -> None:
        self._controller = controller

    def accept(
        self, hello: messages.Hello
    ) -> EngineSession | UnwantedEngineSession | GatewaySession:
        """Register the engine, or the gateway of several, that greets so."""
        if hello.role == messages.GATEWAY:
            return GatewaySession(self._controller, lambda hello: self._engine(hello, True), hello)
        return self._engine(hello, False)

    def _engine(
        self, hello: messages.Hello, has_lane: bool
    ) -> EngineSession | UnwantedEngineSession:
        if self._controller.is_unwanted(hello):
            return UnwantedEngineSession(self._controller)
        return EngineSession(
            self._controller, self._controller.register_engine(hello, has_lane), hello
        )


class UnwantedEngineSession:
    """One connection of an engine that was to end while it could not be reached; it is told so now."""

    def __init__(self, controller: ControllerService) -> None:
        self._controller = controller

    def attach(self, link: Link) -> messages.Welcome:
        link.send(frames.STOP, 0)
        return self._controller.welcome(False)

    def opened(self) -> None:
        """Nothing begins."""

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        """Nothing that it has to say matters any more."""

    def link_lost(self, reason: str) -> None:
        """It has ended, or comes again."""

    def gone(self, reason: str) -> None:
        """It has ended."""


class EngineSession:
    """One connection of an engine."""

    def __init__(
        self, controller: ControllerService, engine: QueuedEngine, hello: messages.Hello
    ) -> None:
        self._controller = controller
        self._hello = hello
        self._link: Link | None = None
        self.engine = engine
        self.back: bool = engine.away

    def attach(self, link: Link) -> messages.Welcome:
        self._link = link
        self.engine.attach(link, self._hello.holds if self.back else messages.Holds())
        return replace(self._controller.welcome(self.back), engine_id=self.engine.id)

    def opened(self) -> None:
        if self.back:
            self._controller.engine_back(self.engine)
        else:
            self._controller.announce(self.engine)

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        """A frame from the engine; those of an earlier connection come too late."""
        if self.engine.link is not self._link:
            return
        if kind == frames.GOODBYE:
            reason = bytes(payload).decode(errors="replace")
            self._controller.unregister_engine(self.engine.id, reason)
        else:
            self.engine.frame_received(kind, flags, ident, meta, payload)

    def link_lost(self, reason: str) -> None:
        """The connection is lost."""
        if self.engine.link is self._link:
            self._controller.engine_link_lost(self.engine, reason)

    def gone(self, reason: str) -> None:
        """It will not come back, as its gateway knows."""
        engine = self.engine
        is_here = self._controller.engines.get(engine.id) is engine
        if is_here and engine.link in (None, self._link):
            self._controller.unregister_engine(engine.id, reason)
