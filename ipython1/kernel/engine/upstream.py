"""The engine's side for the controller behind its gateway; in the reactor's thread.

===========  ==========================================  =====================================================
state        event                                       becomes
===========  ==========================================  =====================================================
apart        the gateway asks for a greeting             greeting, with what is left of earlier connections
greeting     the controller welcomes the engine          connected
greeting     it does not; the lane is lost               apart
connected    the lane is lost                            apart
===========  ==========================================  =====================================================

It is the gateway that asks again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twisted.logger import Logger

from ipython1.kernel.basics.error import KernelError
from ipython1.kernel.engine.side import Side
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.lanes import Lane, Lanes
from ipython1.kernel.wire.link import FrameLink

log: Logger = Logger()


class Upstream:
    """Connects an engine to the controller behind its gateway.

    :param hello: the engine's greeting, without what is left.
    :param make_side: makes the side when it is first needed; most engines never need one.
    """

    def __init__(self, hello: messages.Hello, make_side: Callable[[], Side]) -> None:
        # Who proves to be this engine here does not prove it to the gateway.
        self._hello = replace(hello, secret=messages.new_secret(), wanted_id=None)
        self._make_side = make_side
        self._side: Side | None = None
        self._lane: Lane | None = None
        self._instance = ""

    def offer(self, link: FrameLink) -> None:
        """Take lanes on the link to the gateway, if it is one."""
        lanes = Lanes(link, lambda number, kind, payload: self._opened(lanes, number, kind))

    def _opened(self, lanes: Lanes, number: int, kind: int) -> None:
        if kind != frames.GREET:
            return
        if self._side is None:
            self._side = self._make_side()
            self._side.end.handlers[frames.WELCOMED] = self._welcomed
        self._lane = lanes.add(number, self._side.end)
        hello = replace(self._hello, holds=self._side.holds())
        self._lane.open(frames.pack_frame(frames.GREET, 0, b"", hello.pack()))

    def _welcomed(self, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        side, lane = self._side, self._lane
        if side is None or lane is None or lane.lost:
            return
        try:
            welcome = messages.unpack_welcome(payload)
        except KernelError as problem:
            log.warn("the controller behind the gateway refuses: {problem}", problem=problem)
            return
        side.attach(lane, welcome, self._instance)
        self._instance = welcome.instance
        log.info("registered as engine {id} behind the gateway", id=welcome.engine_id)
