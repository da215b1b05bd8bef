"""A gateway: has the engines of this controller serve another one, the *upstream*, as well.

There is one connection to the upstream, and a lane in it for each engine (see :mod:`ipython1.kernel.wire.lanes`).  A
:class:`Bridge` passes on what an engine and the upstream say to each other, and understands none of it.  So the
gateway keeps nothing of it either: each of the two keeps what the other has not confirmed, and a gateway that is killed
and started again costs no command and no run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from typing import Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from ipython1.kernel.basics.error import ConnectionError, KernelError
from ipython1.kernel.controller.controllerservice import ControllerService
from ipython1.kernel.controller.queuedengine import QueuedEngine
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.again import Pauses
from ipython1.kernel.wire.baselink import FrameReceiver
from ipython1.kernel.wire.bulk import unpack_reference
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.lanes import Lane, Lanes
from ipython1.kernel.wire.link import FrameLink

log: Logger = Logger()

ENGINE_LANE: Final = 1
"""The number of the lane for the upstream on the link of each engine."""

ASK_AGAIN: Final = 1.0
"""Seconds after which an engine greets again whose lane the upstream has ended."""

REFUSED_PAUSE: Final = 30.0
"""Seconds after which what was refused is tried again."""


class _End:
    """Takes what comes through a lane."""

    def __init__(
        self,
        received: Callable[[int, int, int, Buffer, Buffer], None],
        lost: Callable[[str], None],
    ) -> None:
        self.frame_received = received
        self.link_lost = lost


class Way(Protocol):
    """What a bridge needs of its gateway."""

    clock: IReactorTime

    def new_lane(self, receiver: FrameReceiver) -> Lane | None:
        """A lane to the upstream; None if that cannot be reached."""


class Bridge:
    """Connects an engine and the upstream.

    ==========  =============================================  =======================================
    state       event                                          becomes
    ==========  =============================================  =======================================
    apart       ``ask``, with a link to each of the two        asked (the engine, for a greeting)
    asked       the greeting comes                             greeting (it goes to the upstream)
    greeting    the upstream's welcome comes                   open (it goes to the engine)
    greeting    the upstream refuses                           apart; ``ask`` after a while
    open        a frame from either                            open (it goes to the other)
    any         the upstream ends the lane                     apart; ``ask`` after a moment
    any         the link to the upstream is lost               apart
    any         the engine's link is lost; ``close``           apart
    ==========  =============================================  =======================================
    """

    def __init__(self, engine: QueuedEngine, way: Way) -> None:
        self.engine = engine
        self._way = way
        self._down: Lane | None = None
        self._up: Lane | None = None
        self._open = False
        self._sinks: dict[int, int] = {}
        self._again: IDelayedCall | None = None

    def ask(self) -> None:
        """Have the engine greet the upstream, if both can be reached."""
        self.close("the engine greets again")
        link = self.engine.link
        if not isinstance(link, FrameLink):
            return
        lanes = link.lanes if isinstance(link.lanes, Lanes) else Lanes(link)
        self._down = lanes.add(ENGINE_LANE, _End(self._from_engine, self._engine_lost))
        self._down.open(frames.pack_frame(frames.GREET, 0))

    def close(self, reason: str) -> None:
        """End both lanes."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        up, down, self._up, self._down = self._up, self._down, None, None
        self._open = False
        sinks, self._sinks = self._sinks, {}
        if down is not None:
            for number in sinks.values():
                down.bulk.take_back(number)
            down.abort(reason)
        if up is not None:
            up.abort(reason)

    # -- what the engine says

    def _from_engine(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        if self._open:
            self._pass_on(kind, flags, ident, meta, payload, self._down, self._up)
        elif kind == frames.GREET and self._up is None:
            self._up = self._way.new_lane(_End(self._from_upstream, self._upstream_lost))
            if self._up is None:
                self.close("the upstream is out of reach")
            else:
                self._up.open(frames.pack_frame(frames.GREET, 0, b"", payload))

    def _engine_lost(self, reason: str) -> None:
        self.close(reason)

    # -- what the upstream says

    def _from_upstream(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        down, up = self._down, self._up
        if down is None or up is None:
            return
        if kind == frames.WELCOMED:
            self._welcomed(ident, payload)
        elif kind == frames.LANE_SINK:
            self._sinks[ident] = up.bulk.relay(ident).add_sink(down.bulk)
        elif kind == frames.LANE_FORGET:
            number = self._sinks.pop(ident, None)
            if number is not None:
                down.bulk.take_back(number)
        else:
            self._pass_on(kind, flags, ident, meta, payload, up, down)

    def _welcomed(self, ident: int, payload: Buffer) -> None:
        assert self._down is not None
        self._down.send(frames.WELCOMED, ident, b"", payload)
        self._open = not ident
        if ident:
            log.warn(
                "the upstream refuses engine {id}: {why}",
                id=self.engine.id,
                why=bytes(payload).decode(errors="replace"),
            )
            self._ask_again(REFUSED_PAUSE, "the upstream has refused it")

    def _upstream_lost(self, reason: str) -> None:
        self._up = None
        self._ask_again(ASK_AGAIN, reason)

    def _ask_again(self, pause: float, reason: str) -> None:
        self.close(reason)
        self._again = self._way.clock.callLater(pause, self._asked_again)

    def _asked_again(self) -> None:
        self._again = None
        self.ask()

    # -- both

    def _pass_on(
        self,
        kind: int,
        flags: int,
        ident: int,
        meta: Buffer,
        payload: Buffer,
        source: Lane | None,
        target: Lane | None,
    ) -> None:
        assert source is not None and target is not None
        if not flags & frames.BULK:
            target.send(kind, ident, meta, payload, flags)
        else:
            transfer = unpack_reference(payload)
            number = self._sinks.pop(transfer, None) if target is self._down else None
            if number is not None:
                target.send_reference(kind, ident, meta, number)
            else:
                target.send_relayed(kind, ident, meta, source.bulk.relay(transfer))
        if not target.has_room and kind != frames.OUTPUT:
            self._wait_for_room(source, target)

    def _wait_for_room(self, source: Lane, target: Lane) -> None:
        """Have the sender stop until the receiver reads on."""
        if source.told_room:
            source.tell_room(False)
            target.when_room(lambda: source.tell_room(True))


def _failed(failure: Failure) -> None:
    if not failure.check(CancelledError):
        log.failure("the gateway failed", failure)


class Gateway:
    """Keeps the connection to the upstream, and a bridge for each engine.

    ============  ====================================  ==================================================
    state         event                                 becomes
    ============  ====================================  ==================================================
    connecting    the upstream welcomes this gateway    connected; all engines greet it
    connecting    it cannot be reached                  connecting, after longer and longer pauses
    connecting    it refuses, the first time            (``refused`` is called: it will not do otherwise)
    connecting    it refuses, later                     connecting, after a long pause
    connected     the link is lost                      connecting
    any           ``stop``                              stopped
    ============  ====================================  ==================================================

    :param open_link: connects to the upstream and registers there; what comes goes to the given receiver.
    :param refused: called with the error if the upstream will have nothing to do with this controller.
    """

    def __init__(
        self,
        controller: ControllerService,
        open_link: Callable[[FrameReceiver], Awaitable[FrameLink]],
        refused: Callable[[KernelError], None],
    ) -> None:
        self.clock: IReactorTime = controller.clock
        self._controller = controller
        self._open_link = open_link
        self._refused = refused
        self._bridges: dict[int, Bridge] = {}
        self._numbers = count(1)
        self._lanes: Lanes | None = None
        self._pauses = Pauses(self.clock)
        self._running: Deferred[None] | None = None
        self._lost: Deferred[str] = Deferred()
        controller.has_upstream = True

    def start(self) -> None:
        """Connect, and stay connected."""
        controller = self._controller
        controller.on_register_engine_do(self._engine_came, True)
        controller.on_engine_back_do(self._engine_came, True)
        controller.on_unregister_engine_do(self._engine_gone, True)
        for engine_id in controller.engines:
            self._engine_came(engine_id)
        self._running = Deferred.fromCoroutine(self._stay_connected())
        self._running.addErrback(_failed)

    def stop(self) -> None:
        """End the connection."""
        if self._running is not None:
            self._running.cancel()
        if self._lanes is not None:
            self._lanes.link.abort("the gateway was stopped")

    # -- the connection

    async def _stay_connected(self) -> None:
        first = True
        while True:
            await deferLater(self.clock, self._pauses.next())
            try:
                link = await self._open_link(self)
            except ConnectionError as problem:
                self._warn(f"the upstream controller cannot be reached: {problem}")
                continue
            except KernelError as problem:
                if first:
                    self._refused(problem)
                    return
                self._warn(f"the upstream controller refuses this one: {problem}")
                await deferLater(self.clock, REFUSED_PAUSE)
                continue
            except Exception as problem:
                log.failure("the connection to the upstream controller could not be made")
                self._warn(f"the upstream controller cannot be reached: {problem!r}")
                await deferLater(self.clock, REFUSED_PAUSE)
                continue
            first = False
            self._pauses.connected()
            if not link.lost:
                self._connected(link)
                await self._lost

    def _warn(self, problem: str) -> None:
        text = (
            f"{problem}; the engines serve only the clients of this controller until that is mended"
        )
        if self._controller.set_warning("upstream", text):
            log.warn("{text}", text=text)

    def _connected(self, link: FrameLink) -> None:
        log.info("connected to the upstream controller")
        self._controller.set_warning("upstream", "")
        self._lost = Deferred()
        link.bulk.relaying = True
        self._lanes = Lanes(link)
        for bridge in self._bridges.values():
            bridge.ask()

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        """What the upstream says to the gateway itself: that this was told to end its connection."""
        log.info(
            "the upstream controller says: {text}", text=bytes(payload).decode("utf-8", "replace")
        )

    def link_lost(self, reason: str) -> None:
        """The connection to the upstream is lost."""
        if self._lanes is None:
            return
        self._lanes = None
        log.info("the upstream controller is out of reach: {reason}", reason=reason)
        for bridge in self._bridges.values():
            bridge.close("the gateway has lost the connection to the upstream")
        if not self._lost.called:
            self._lost.callback(reason)

    def new_lane(self, receiver: FrameReceiver) -> Lane | None:
        """See :class:`Way`."""
        return None if self._lanes is None else self._lanes.add(next(self._numbers), receiver)

    # -- the engines

    def _engine_came(self, engine_id: int) -> None:
        engine = self._controller.engines[engine_id]
        bridge = self._bridges.get(engine_id)
        if bridge is None or bridge.engine is not engine:
            bridge = self._bridges[engine_id] = Bridge(engine, self)
        if self._lanes is not None:
            bridge.ask()

    def _engine_gone(self, engine_id: int) -> None:
        bridge = self._bridges.pop(engine_id, None)
        if bridge is None:
            return
        engine = bridge.engine
        bridge.close(engine.loss_reason)
        if self._lanes is not None:
            told = messages.pack_json([engine.hello.uuid, engine.loss_reason])
            self._lanes.link.send(frames.ENGINE_GONE, 0, b"", told)
