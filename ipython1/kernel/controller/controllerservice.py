"""The controller: a registry of engines that client interfaces are built upon.

The controller knows engines and nothing of clients.  Each interface to clients (MultiEngine, Task, a user's
own) is an adapter of :class:`IControllerBase`, so all of them work on the same engines at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import Attribute, Interface, implementer

from ipython1.kernel.basics.error import IdInUse
from ipython1.kernel.controller.config import TaskConfig
from ipython1.kernel.controller.queuedengine import QueuedEngine
from ipython1.kernel.controller.waitwatch import WaitWatch
from ipython1.kernel.host.peerprocess import PeerProcesses
from ipython1.kernel.wire import messages

log = Logger()

MAX_ID = 2**30
"""The highest id that an engine may ask for; those that the controller chooses after it still fit into 31 bits."""

MAX_KNOWN = 10_000
"""Engines that get their id back when they register again; of the others, the oldest are forgotten."""


class IControllerCore(Interface):
    """The registry of engines."""

    engines = Attribute("A dict of the engines (``IEngineQueued``) by id.")

    def register_engine(hello: messages.Hello) -> QueuedEngine:
        """An engine has come; returns its ``QueuedEngine``.

        It gets the id that it asks for if that is free, else another.

        :raises VersionMismatch: when its Python or protocol does not fit.
        :raises IdInUse: when it asks for an id that cannot be.
        """

    def unregister_engine(engine_id: int, reason: str) -> None:
        """An engine is gone."""


class IControllerBase(IControllerCore):
    """The registry, with notice of changes."""

    def on_register_engine_do(
        f: Callable[..., Any], include_id: bool = False, *args: Any, **kwargs: Any
    ) -> None:
        """Call ``f`` after each registration, with the id as first argument if ``include_id``."""

    def on_unregister_engine_do(
        f: Callable[..., Any], include_id: bool = False, *args: Any, **kwargs: Any
    ) -> None:
        """Call ``f`` after each engine's departure, with the id as first argument if ``include_id``."""

    def on_register_engine_do_not(f: Callable[..., Any]) -> None:
        """Stop calling ``f``."""

    def on_unregister_engine_do_not(f: Callable[..., Any]) -> None:
        """Stop calling ``f``."""

    def on_n_engines_registered_do(
        n: int, f: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        """Call ``f`` once, as soon as ``n`` engines are registered (at once, if they are)."""


@implementer(IControllerBase)
class ControllerService(MultiService):
    """The controller.

    :param clock: the reactor, or a test's clock.
    :param processes: those of this host; None for none.
    :param request_stop: called when a client asks the controller to end.
    :param max_message: bytes; clients and engines send nothing larger.
    :param task_config: what the Task interface is told; None for its defaults.
    :ivar waits: finds out which waits of code on engines never end.
    """

    def __init__(
        self,
        clock: IReactorTime,
        processes: PeerProcesses | None = None,
        request_stop: Callable[[], None] = lambda: None,
        max_message: int = 4 * 2**30,
        task_config: TaskConfig | None = None,
    ) -> None:
        super().__init__()
        self.request_stop = request_stop
        self.max_message = max_message
        self.task_config = task_config
        self.engines: dict[int, QueuedEngine] = {}
        self.clock = clock
        self.waits = WaitWatch(self.engines, clock)
        self._processes = processes
        self._next_id = 0
        self._known: dict[str, int] = {}
        self._on_register: list[tuple[Callable[..., Any], bool, Any, Any]] = []
        self._on_unregister: list[tuple[Callable[..., Any], bool, Any, Any]] = []
        self._on_n: list[tuple[int, Callable[..., Any], Any, Any]] = []

    def register_engine(self, hello: messages.Hello) -> QueuedEngine:
        hello.check_role(messages.ENGINE)
        hello.check_versions("the engine")
        engine = QueuedEngine(
            self._choose_id(hello), hello, self.clock, self._engine_lost, self._processes
        )
        self.engines[engine.id] = engine
        self.waits.engine_came(engine)
        self._known.pop(hello.uuid, None)
        self._known[hello.uuid] = engine.id
        if len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]
        log.info(
            "engine {id} registered: process {pid} on {host}",
            id=engine.id,
            pid=hello.pid,
            host=hello.host,
        )
        return engine

    def announce(self, engine: QueuedEngine) -> None:
        """The engine can be used from now on; tell whoever wants to know."""
        self._call(self._on_register, engine.id)
        ready = [entry for entry in self._on_n if len(self.engines) >= entry[0]]
        self._on_n = [entry for entry in self._on_n if len(self.engines) < entry[0]]
        for _, function, args, kwargs in ready:
            self._guarded(function, args, kwargs)

    async def all_gone(self, timeout: float) -> None:
        """Wait until no engine is left, ``timeout`` seconds at most."""
        if not self.engines:
            return
        gone: Deferred[None] = Deferred()

        def check() -> None:
            if not self.engines and not gone.called:
                gone.callback(None)

        self.on_unregister_engine_do(check)

        def too_late() -> None:
            if not gone.called:
                gone.callback(None)

        late = self.clock.callLater(timeout, too_late)
        await gone
        if late.active():
            late.cancel()
        self.on_unregister_engine_do_not(check)

    def _choose_id(self, hello: messages.Hello) -> int:
        """The id it had before, the one it asks for, or one that was never used."""
        before = self._known.get(hello.uuid)
        if before is not None:
            old = self.engines.get(before)
            if old is not None and old.link is not None:
                # Its old connection is half open: the engine itself knows better.
                old.link.abort("it has registered again")
            if before not in self.engines:
                return before
        wanted = hello.wanted_id
        if wanted is not None:
            if not 0 <= wanted <= MAX_ID:
                raise IdInUse(
                    f"an engine requested the id {wanted}, but ids range from 0 to {MAX_ID}; "
                    "start it with another --id, or without one"
                )
            if wanted not in self.engines:
                self._next_id = max(self._next_id, wanted + 1)
                return wanted
        while self._next_id in self.engines:
            self._next_id += 1
        self._next_id += 1
        return self._next_id - 1

    def unregister_engine(self, engine_id: int, reason: str = "it was unregistered") -> None:
        engine = self.engines.get(engine_id)
        if engine is None:
            return
        if engine.link is not None:
            engine.link.abort(reason)
        engine.link_lost(reason)

    def _engine_lost(self, engine: QueuedEngine, reason: str) -> None:
        if self.engines.get(engine.id) is engine:
            del self.engines[engine.id]
            self.waits.engine_gone(engine.id)
            log.info("engine {id} is gone: {reason}", id=engine.id, reason=reason)
            self._call(self._on_unregister, engine.id)

    def on_register_engine_do(
        self, f: Callable[..., Any], include_id: bool = False, *args: Any, **kwargs: Any
    ) -> None:
        self._on_register.append((f, include_id, args, kwargs))

    def on_unregister_engine_do(
        self, f: Callable[..., Any], include_id: bool = False, *args: Any, **kwargs: Any
    ) -> None:
        self._on_unregister.append((f, include_id, args, kwargs))

    def on_register_engine_do_not(self, f: Callable[..., Any]) -> None:
        self._on_register = [entry for entry in self._on_register if entry[0] != f]

    def on_unregister_engine_do_not(self, f: Callable[..., Any]) -> None:
        self._on_unregister = [entry for entry in self._on_unregister if entry[0] != f]

    def on_n_engines_registered_do(
        self, n: int, f: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        if len(self.engines) >= n:
            self._guarded(f, args, kwargs)
        else:
            self._on_n.append((n, f, args, kwargs))

    def _call(
        self, callbacks: list[tuple[Callable[..., Any], bool, Any, Any]], engine_id: int
    ) -> None:
        for function, include_id, args, kwargs in list(callbacks):
            self._guarded(function, (engine_id, *args) if include_id else args, kwargs)

    @staticmethod
    def _guarded(function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        """One interface's failure must not keep the others from hearing the news."""
        try:
            function(*args, **kwargs)
        except Exception:
            log.failure("a callback of the registry of engines failed")
