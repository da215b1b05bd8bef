"""The Foolscap face of the Monitor interface: answers questions, and takes nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.components import registerAdapter
from zope.interface import implementer

from ipython1.kernel.basics.error import KernelError, ProtocolError, to_wire
from ipython1.kernel.controller.monitor import IMonitor, Monitor
from ipython1.kernel.controller.multienginefc import IFCSessions, send_reply
from ipython1.kernel.tub.gate import Session
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.link import FrameLink
from ipython1.kernel.wire.monitoring import pack_entry, pack_news


class IFCMonitor(IFCSessions):
    """The face of :class:`IMonitor`."""


@implementer(IFCMonitor)
class FCMonitor:
    """Adapts an :class:`IMonitor` to sessions with those who look."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor

    def accept(self, hello: messages.Hello) -> Session:
        hello.check_role(messages.MONITOR)
        hello.check_versions("the client")
        self.monitor.controller.clients.prove(hello)
        return MonitorSession(self.monitor)


class MonitorSession:
    """One connection of somebody who looks.

    It keeps nothing for them: who comes back begins anew.
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._link: FrameLink | None = None
        self._questions: dict[str, Callable[..., Any]] = {
            "get_ids": monitor.get_ids,
            "engines": lambda: [pack_entry(each) for each in monitor.engines()],
            "queue_status": lambda targets=None: monitor.queue_status(targets),
            "task_status": lambda verbose=False: monitor.task_status(bool(verbose)),
            "history": self._history,
            "news": self._news,
        }

    def attach(self, link: FrameLink) -> messages.Welcome:
        self._link = link
        controller = self._monitor.controller
        controller.on_register_engine_do(self._engine_came, True)
        controller.on_unregister_engine_do(self._engine_went, True)
        return controller.welcome(False, ids=self._monitor.get_ids())

    def opened(self) -> None:
        pass

    def link_lost(self, reason: str) -> None:
        self._link = None
        controller = self._monitor.controller
        controller.on_register_engine_do_not(self._engine_came)
        controller.on_unregister_engine_do_not(self._engine_went)

    def _engine_came(self, engine_id: int) -> None:
        if self._link is not None:
            self._link.send(frames.ENGINES, engine_id, b"+")

    def _engine_went(self, engine_id: int) -> None:
        if self._link is not None:
            self._link.send(frames.ENGINES, engine_id, b"-")

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        if kind in (frames.GOODBYE, frames.RESYNC):
            return  # it has nothing here
        if kind != frames.ASK or flags:
            raise ProtocolError(f"a monitor sent a frame of kind {kind}; it may only ask")
        question = messages.unpack_json(payload)
        try:
            answer = self._questions[question["name"]](**question["args"])
        except KernelError as problem:
            self._answer(ident, {"error": to_wire(problem)})
        except (KeyError, TypeError, ValueError) as problem:
            unclear = ProtocolError(f"a monitor cannot ask this: {problem!r}")
            self._answer(ident, {"error": to_wire(unclear)})
        else:
            if isinstance(answer, Deferred):
                answer.addCallbacks(
                    lambda value: self._answer(ident, {"value": value}),
                    lambda failure: self._answer(ident, {"error": to_wire(failure.value)}),
                )
            else:
                self._answer(ident, {"value": answer})

    def _news(self, mark: int = 0) -> Deferred[Any]:
        if not isinstance(mark, int):
            raise ProtocolError(f"a mark is a whole number, not {mark!r:.40}")
        return self._monitor.news(mark).addCallback(pack_news)

    def _history(self, limit: int = 100, before: float | None = None) -> Deferred[Any]:
        return self._monitor.history(limit, before).addCallback(
            lambda entries: [pack_entry(entry) for entry in entries]
        )

    def _answer(self, number: int, answer: dict[str, Any]) -> None:
        if self._link is not None:
            send_reply(self._link, number, answer)


registerAdapter(FCMonitor, IMonitor, IFCMonitor)
