"""The controller: a registry of engines that client interfaces are built upon.

The controller knows engines and nothing of clients.  Each interface to clients (MultiEngine, Task, a user's
own) is an adapter of :class:`IControllerBase`, so all of them work on the same engines at once.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import Attribute, Interface, implementer

from ipython1.kernel.basics.error import ClientError, IdInUse
from ipython1.kernel.controller.clientregistry import ClientRegistry
from ipython1.kernel.controller.commandbook import CommandBook
from ipython1.kernel.controller.config import Graces, TaskConfig
from ipython1.kernel.controller.confirmations import Confirmations
from ipython1.kernel.controller.drains import Drains
from ipython1.kernel.controller.journal.interface import Journal, NoJournal, trouble_of
from ipython1.kernel.controller.journal.rows import EngineRow
from ipython1.kernel.controller.loads import Loads
from ipython1.kernel.controller.observing.observer import Observer
from ipython1.kernel.controller.parties import MOST_REMEMBERED, Parties, Processes
from ipython1.kernel.controller.partyrows import STARTED_AGAIN, engine_party, engine_row
from ipython1.kernel.controller.queuedengine import QueuedEngine
from ipython1.kernel.controller.waitwatch import WaitWatch
from ipython1.kernel.host.openfiles import Places
from ipython1.kernel.host.peerprocess import PeerProcesses
from ipython1.kernel.wire import frames, messages

log: Logger = Logger()

Hook: TypeAlias = tuple[Callable[..., Any], bool, Any, Any]
"""A function, whether it gets the engine's id first, and its other arguments."""

MAX_ID = 2**30
"""The highest id that an engine may ask for; those that the controller chooses after it still fit into 31 bits."""


class IControllerCore(Interface):
    """The registry of engines."""

    engines: dict[int, Any] = Attribute("A dict of the engines (``IEngineQueued``) by id.")

    def register_engine(hello: messages.Hello, has_lane: bool = False) -> QueuedEngine:
        """An engine has come, or come back; returns its ``QueuedEngine``.

        A new one gets the id that it asks for if that is free, else another.

        :param has_lane: whether it comes through the connection of its gateway.

        :raises VersionMismatch: when its Python or protocol does not fit.
        :raises IdInUse: when it asks for an id that cannot be.
        :raises ClientError: when there is no place for another engine.
        :raises SecurityError: when it says that it is another engine, and cannot prove it.
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

    def on_engine_away_do(f: Callable[..., Any], include_id: bool = False) -> None:
        """Call ``f`` after an engine's link is lost, if one waits for it to come back."""

    def on_engine_back_do(f: Callable[..., Any], include_id: bool = False) -> None:
        """Call ``f`` after an engine that was away has come back."""

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
    :param graces: how long one waits for parties whose link is lost; by default not at all.
    :param watched: notices when processes of this host die.
    :param places: how many engines there may be; None for any number.
    :param call_soon: calls something when this turn of the reactor is over; by default in a turn of its own.
    :ivar clients: who the clients are.
    :ivar commands: the direct commands of all clients.
    :ivar interfaces: what this controller was adapted to, by the name of the interface.
    :ivar observer: knows what those who look are told.
    :ivar journal: keeps what this controller was told and what it has promised.
    :ivar drains: the engines that get no more tasks.
    :ivar loads: tells how much there is to do.
    :ivar waits: finds out which waits of code on engines never end.
    :ivar has_upstream: whether it is the gateway of its engines to another controller.
    """

    call_soon: Callable[[Callable[[], None]], object]
    clients: ClientRegistry
    commands: CommandBook

    def __init__(
        self,
        clock: IReactorTime,
        processes: PeerProcesses | None = None,
        request_stop: Callable[[], None] = lambda: None,
        max_message: int = 4 * 2**30,
        task_config: TaskConfig | None = None,
        graces: Graces | None = None,
        watched: Processes | None = None,
        journal: Journal | None = None,
        places: Places | None = None,
        call_soon: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        super().__init__()
        self.call_soon = partial(clock.callLater, 0) if call_soon is None else call_soon
        self._places = places
        self._full = ""
        self._warnings: dict[str, str] = {}
        self.has_upstream: bool = False
        self.request_stop = request_stop
        self.max_message = max_message
        self.task_config = task_config
        self.engines: dict[int, QueuedEngine] = {}
        self.drains: Drains = Drains(self.engines)
        self.clock = clock
        self._confirmations = Confirmations(clock)
        self.waits: WaitWatch = WaitWatch(self.engines, clock)
        self._processes = processes
        self.graces: Graces = graces or Graces()
        self.journal: Journal = NoJournal() if journal is None else journal
        self.interfaces: dict[str, Any] = {}
        self._next_id = 0
        self._ids: OrderedDict[str, int] = OrderedDict()
        self._unwanted: OrderedDict[str, None] = OrderedDict()
        self._parties = Parties("engine", clock, self._engine_gone, watched)
        self.clients = ClientRegistry(clock, self.graces.client, watched, self.journal)
        self.commands = CommandBook(self.journal, clock, self.engines, self.clients.is_living)
        self.clients.on_client_gone_do(self.commands.client_gone)
        self.observer: Observer = Observer(clock, self._label_of, lambda: self.clients.connected)
        self.journal.on_trouble_do(lambda text: self.clients.warn(self.warnings))
        self.loads: Loads = Loads(self.engines, self.clients, self.drains, clock)
        self._on_register: list[Hook] = []
        self._on_unregister: list[Hook] = []
        self._on_away: list[Hook] = []
        self._on_back: list[Hook] = []
        self._on_end: list[Callable[[], None]] = []
        self._on_n: list[tuple[int, Callable[..., Any], Any, Any]] = []

    # -- an engine's life: it comes, its link is lost, it comes back or is gone

    def register_engine(self, hello: messages.Hello, has_lane: bool = False) -> QueuedEngine:
        hello.check_role(messages.ENGINE)
        hello.check_versions("the engine")
        known = self._parties.check(hello.uuid, hello.secret)
        engine = self.engines.get(self._ids.get(hello.uuid, -1)) if known else None
        if engine is not None and engine.link is not None:
            # Its old connection is half open: the engine itself knows better.
            engine.link.abort("it has registered again")
            engine = self.engines.get(engine.id)
        if engine is None or engine.hello.uuid != hello.uuid:
            if not has_lane:
                self._check_places()
            engine = self._new_engine(self._choose_id(hello), hello)
            engine.commands.hold()
            self._add(engine)
        else:
            engine.hello = hello
        engine.has_lane = has_lane
        party = self._parties.came(hello.uuid, hello.secret, hello.pid, hello.host, hello.label)
        engine.row = self.journal.engine_came(engine_row(engine.id, party, engine.registered))
        self.journal.when_safe(engine.row, engine.commands.release)
        log.info(
            "engine {id} registered: process {pid} on {host}",
            id=engine.id,
            pid=hello.pid,
            host=hello.host,
        )
        return engine

    def _check_places(self) -> None:
        """:raises ClientError: when there is no place for another engine."""
        if self._places is None:
            return
        problem = self._places.refusal(len(self.engines), self.clients.connected)
        if problem and any(engine.has_lane for engine in self.engines.values()):
            connected = [engine for engine in self.engines.values() if not engine.has_lane]
            problem = self._places.refusal(len(connected), self.clients.connected)
        if problem:
            if not self._full:
                log.warn("{problem}", problem=problem)
                self._full_is(problem)
            raise ClientError(problem)

    def _full_is(self, problem: str) -> None:
        """Tell the clients why no more engines can come, or that they can again."""
        self._full = problem
        self.clients.warn(self.warnings)

    def recover(self) -> None:
        """Wait for those who were there before this controller was started again; when the interfaces are there."""
        recovered = self.journal.recovered
        self._next_id = max(self._next_id, recovered.next_engine)
        for row in recovered.clients:
            self.clients.expect(row)
        for engine in recovered.engines:
            self._expect_engine(engine)
        self.commands.recover(recovered)
        self.journal.release_recovered()

    def _expect_engine(self, row: EngineRow) -> None:
        hello = messages.Hello(row.uuid.hex(), row.pid, row.host, messages.ENGINE)
        engine = self._new_engine(row.engine_id, hello)
        engine.registered = row.registered
        self._add(engine)
        engine.go_away(STARTED_AGAIN)
        self._call(self._on_register, engine.id)
        self._parties.expect(engine_party(row), STARTED_AGAIN, self.graces.restart)

    def _new_engine(self, engine_id: int, hello: messages.Hello) -> QueuedEngine:
        engine = QueuedEngine(
            engine_id, hello, self.clock, self._processes, self.commands, self._confirmations
        )
        engine.on_killed = lambda: self._killed(engine)
        engine.handle(frames.LEAVING, lambda *_: self.drains.leave(engine))
        engine.on_turn = self.turned
        return engine

    def turned(self) -> None:
        """Tasks or commands have come, begun or ended."""
        self.loads.turned()
        self.drains.changed()

    def told_ended(self, engine_ids: Sequence[int], reason: str) -> None:
        """Engines have been ended by the system that ran them; what they ran is not to blame."""
        for engine_id in engine_ids:
            engine = self.engines.get(engine_id)
            if engine is not None:
                engine.blameless = True
                self._gone(engine, reason)

    def _label_of(self, client: bytes) -> str:
        identity = self.clients.identity(client)
        return "" if identity is None else identity.label

    def _add(self, engine: QueuedEngine) -> None:
        uuid = engine.hello.uuid
        self.engines[engine.id] = engine
        self.observer.engine_came(engine)
        self.waits.engine_came(engine)
        self._ids.pop(uuid, None)
        self._ids[uuid] = engine.id
        while len(self._ids) > MOST_REMEMBERED:
            self._ids.popitem(last=False)

    def engine_link_lost(self, engine: QueuedEngine, reason: str) -> None:
        """An engine's connection is lost; it may come back soon."""
        if self.engines.get(engine.id) is not engine:
            return
        grace = self.graces.engine
        if grace <= 0 or not self._parties.is_living(engine.hello.uuid):
            self._gone(engine, reason)
            return
        engine.go_away(reason)
        self.observer.engine_changed(engine.id)
        log.info("engine {id} is out of reach: {reason}", id=engine.id, reason=reason)
        self._call(self._on_away, engine.id)
        self._parties.left(engine.hello.uuid, reason, grace)

    def engine_back(self, engine: QueuedEngine) -> None:
        """An engine that was away has registered again, and its link is attached."""
        log.info("engine {id} is back", id=engine.id)
        self.commands.engine_changed(engine)
        self.observer.engine_changed(engine.id)
        self._call(self._on_back, engine.id)

    def unregister_engine(self, engine_id: int, reason: str = "it was unregistered") -> None:
        engine = self.engines.get(engine_id)
        if engine is not None:
            self._gone(engine, reason)

    def _engine_gone(self, uuid: str, reason: str) -> None:
        """One does not wait any more for an engine that was away."""
        engine = self.engines.get(self._ids.get(uuid, -1))
        if engine is not None and engine.hello.uuid == uuid:
            self._gone(engine, reason)

    def _killed(self, engine: QueuedEngine) -> None:
        """An engine was to end; whether its process has ended or not, nobody waits for it."""
        self._unwanted[engine.hello.uuid] = None
        while len(self._unwanted) > MOST_REMEMBERED:
            self._unwanted.popitem(last=False)
        self._gone(engine, "it was killed")

    def is_unwanted(self, hello: messages.Hello) -> bool:
        """Whether this engine was to end, and could not be ended from here."""
        return hello.uuid in self._unwanted

    def _gone(self, engine: QueuedEngine, reason: str) -> None:
        if self.engines.get(engine.id) is not engine:
            return
        del self.engines[engine.id]
        link = engine.link
        engine.end(reason)
        if link is not None:
            link.abort(reason)
        self.waits.engine_gone(engine.id)
        self.drains.gone(engine.id)
        log.info("engine {id} is gone: {reason}", id=engine.id, reason=reason)
        self._call(self._on_unregister, engine.id)
        engine.fail_all()
        self.observer.engine_gone(engine.id)
        self.commands.engine_changed(engine)
        self._parties.goodbye(engine.hello.uuid, reason)
        self.journal.engine_gone(engine.origin)
        if self._full:
            self._full_is("")

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
        before = self._ids.get(hello.uuid)
        if before is not None and before not in self.engines:
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

    def on_register_engine_do(
        self, f: Callable[..., Any], include_id: bool = False, *args: Any, **kwargs: Any
    ) -> None:
        self._on_register.append((f, include_id, args, kwargs))

    def on_unregister_engine_do(
        self, f: Callable[..., Any], include_id: bool = False, *args: Any, **kwargs: Any
    ) -> None:
        self._on_unregister.append((f, include_id, args, kwargs))

    def on_engine_away_do(self, f: Callable[..., Any], include_id: bool = False) -> None:
        self._on_away.append((f, include_id, (), {}))

    def on_engine_back_do(self, f: Callable[..., Any], include_id: bool = False) -> None:
        self._on_back.append((f, include_id, (), {}))

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

    def welcome(self, known: bool, **extra: Any) -> messages.Welcome:
        """What a party is told that has registered."""
        return messages.Welcome(
            max_message=self.max_message,
            pid=os.getpid(),
            instance=self.journal.instance,
            epoch=self.journal.epoch,
            known=known,
            extra={"warnings": self.warnings, **extra},
        )

    @property
    def warnings(self) -> list[str]:
        """What is wrong, for people; one line each."""
        lines = (trouble_of(self.journal), self.journal.lost, self._full, *self._warnings.values())
        return [line for line in lines if line]

    def set_warning(self, matter: str, text: str) -> bool:
        """Tell the clients what is wrong in some matter, or with an empty text that all is well again.

        :returns: whether that is news.
        """
        if self._warnings.get(matter, "") == text:
            return False
        self._warnings[matter] = text
        self.clients.warn(self.warnings)
        return True

    def on_end_do(self, f: Callable[[], None]) -> None:
        """Call ``f`` at the end of the process, before the journal is closed."""
        self._on_end.append(f)

    def ended(self) -> None:
        """No link is left; the process ends."""
        self.observer.stop()
        for function in self._on_end:
            self._guarded(function, (), {})

    def stop_waiting(self) -> None:
        """Wait for no party any more; for the end of the process."""
        self._parties.stop()
        self.clients.stop()

    def _call(self, callbacks: list[Hook], engine_id: int) -> None:
        for function, include_id, args, kwargs in list(callbacks):
            self._guarded(function, (engine_id, *args) if include_id else args, kwargs)

    @staticmethod
    def _guarded(function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        """One interface's failure must not keep the others from hearing the news."""
        try:
            function(*args, **kwargs)
        except Exception:
            log.failure("a callback of the registry of engines failed")
