"""The Foolscap face of the registry of engines: engines register at its gate."""

from __future__ import annotations

import os

from ipython1.kernel.controller.controllerservice import ControllerService
from ipython1.kernel.controller.queuedengine import QueuedEngine
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.link import FrameLink


class FCEngines:
    """Accepts engines for a controller."""

    def __init__(self, controller: ControllerService) -> None:
        self._controller = controller

    def accept(self, hello: messages.Hello) -> EngineSession:
        """Register the engine that greets so."""
        return EngineSession(self._controller, self._controller.register_engine(hello))


class EngineSession:
    """One connected engine."""

    def __init__(self, controller: ControllerService, engine: QueuedEngine) -> None:
        self._controller = controller
        self.engine = engine
        self.frame_received = engine.frame_received
        self.link_lost = engine.link_lost

    def attach(self, link: FrameLink) -> messages.Welcome:
        self.engine.attach(link)
        return messages.Welcome(
            engine_id=self.engine.id, max_message=self._controller.max_message, pid=os.getpid()
        )

    def opened(self) -> None:
        self._controller.announce(self.engine)
