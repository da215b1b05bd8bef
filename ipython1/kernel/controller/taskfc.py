"""The Foolscap face of the Task interface: unpacks frames, delegates, packs the answers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from twisted.python.components import registerAdapter
from zope.interface import implementer

from ipython1.kernel.basics.error import KernelError, ProtocolError, to_wire
from ipython1.kernel.basics.taskinterfaces import ITaskController, ITaskObserver
from ipython1.kernel.controller.multienginefc import IFCSessions, send_reply
from ipython1.kernel.controller.scheduling.accounts import Finished
from ipython1.kernel.controller.task import TaskController
from ipython1.kernel.tub.gate import Session
from ipython1.kernel.wire import frames, messages, taskwire
from ipython1.kernel.wire.arrivals import Arrivals
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.link import FrameLink
from ipython1.kernel.wire.taskwire import Status

MOST_OPTIONS = 4096
"""Different options that a session remembers."""


class IFCTaskController(IFCSessions):
    """The face of :class:`ITaskController`."""


@implementer(IFCTaskController)
class FCTaskController:
    """Adapts an :class:`ITaskController` to sessions with clients."""

    def __init__(self, tasks: TaskController) -> None:
        self.tasks = tasks

    def accept(self, hello: messages.Hello) -> Session:
        hello.check_role(messages.TASK)
        hello.check_versions("the client")
        return TaskSession(self.tasks, hello)


@implementer(ITaskObserver)
class TaskSession:
    """One connected client."""

    def __init__(self, tasks: TaskController, hello: messages.Hello) -> None:
        self._tasks = tasks
        self._uuid = bytes.fromhex(hello.uuid)
        self._link: FrameLink | None = None
        self._known = tasks.controller.clients.came(hello)
        self._options: dict[bytes, object] = {}
        self._arrivals = Arrivals()
        self._questions: dict[str, Callable[..., Any]] = {
            "begin": lambda: self._tasks.begin(self._uuid),
            "lease": lambda: self._tasks.lease(self._uuid),
            "engines": lambda: self._tasks.engines,
            "abort": self._tasks.abort,
            "abort_many": self._abort_many,
            "withdraw": self._tasks.withdraw,
            "has_begun": self._tasks.has_begun,
            "fetch": self._fetch,
            "clear": lambda taskids: self._tasks.clear(self._uuid, taskids),
            "spin": self._tasks.spin,
            "queue_status": self._tasks.queue_status,
        }

    def attach(self, link: FrameLink) -> messages.Welcome:
        self._link = link
        self._tasks.join(self._uuid, self)
        controller = self._tasks.controller
        controller.clients.attached(self._uuid.hex(), link)
        controller.on_register_engine_do(self._engine_came, True)
        controller.on_unregister_engine_do(self._engine_went, True)
        return controller.welcome(self._known, ids=sorted(controller.engines))

    def opened(self) -> None:
        pass

    def link_lost(self, reason: str) -> None:
        link, self._link = self._link, None
        self._arrivals.clear()
        self._tasks.leave(self._uuid, for_good=False)
        controller = self._tasks.controller
        controller.clients.left(self._uuid.hex(), link, reason)
        controller.on_register_engine_do_not(self._engine_came)
        controller.on_unregister_engine_do_not(self._engine_went)

    def _engine_came(self, engine_id: int) -> None:
        if self._link is not None:
            self._link.send(frames.ENGINES, engine_id, b"+")

    def _engine_went(self, engine_id: int) -> None:
        if self._link is not None:
            self._link.send(frames.ENGINES, engine_id, b"-")

    # -- in

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        if kind == taskwire.SUBMIT:
            head = meta if flags & frames.BULK else payload
            self._in_turn(flags, payload, lambda bodies: self._submit(head, bodies))
        elif kind == taskwire.CONFIRM:
            self._tasks.confirm(self._uuid, ident)
        elif kind == taskwire.FUNCTION:
            digest = bytes(meta)
            self._in_turn(
                flags,
                payload,
                lambda data: self._tasks.add_function(
                    self._uuid, digest, bytes(payload) if data is None else data
                ),
            )
        elif kind == taskwire.FORGET:
            forgotten = bytes(meta)
            self._in_turn(
                0, b"", lambda nothing: self._tasks.forget_function(self._uuid, forgotten)
            )
        elif kind == frames.GOODBYE:
            reason = bytes(payload).decode(errors="replace")
            self._tasks.controller.clients.goodbye(self._uuid.hex(), reason)
        elif kind == frames.ASK:
            self._in_turn(0, b"", lambda nothing: self._asked(ident, payload))
        else:
            raise ProtocolError(f"a client sent a frame of unknown kind {kind}")

    def _in_turn(self, flags: int, payload: Buffer, take: Callable[[bytes | None], None]) -> None:
        """Handle a frame after those before it; ``take`` gets what a bulk transfer brought, or None."""
        link = self._link
        if link is None:
            return
        if not flags & frames.BULK:
            self._arrivals.in_turn(lambda: take(None))
            return

        def arrived(data: bytes) -> None:
            try:
                take(data)
            except KernelError as problem:
                link.abort(f"what the client sent cannot be understood: {problem}")

        self._arrivals.transfer(link, payload, arrived)

    def _submit(self, head: Buffer, bodies: Buffer | None) -> None:
        submissions: Any = taskwire.unpack_submissions(head, self._read_options, bodies)
        self._tasks.submit(self._uuid, submissions)

    def _read_options(self, packed: bytes) -> object:
        options = self._options.get(packed)
        if options is None:
            if len(self._options) >= MOST_OPTIONS:
                self._options.clear()
            options = self._options[packed] = self._tasks.options(packed)
        return options

    def _asked(self, number: int, payload: Buffer) -> None:
        question = messages.unpack_json(payload)
        try:
            value = self._questions[question["name"]](**question["args"])
            answer: dict[str, Any] = {"value": value}
        except (KernelError, IndexError) as problem:
            answer = {"error": to_wire(problem)}
        except (KeyError, TypeError) as problem:
            unclear = ProtocolError(f"the call cannot be understood: {problem!r}")
            answer = {"error": to_wire(unclear)}
        if self._link is not None:
            send_reply(self._link, number, answer)

    def _abort_many(self, taskids: list[int]) -> None:
        """End those tasks that are not done."""
        for task_id in taskids:
            with contextlib.suppress(IndexError):
                self._tasks.abort(task_id)

    def _fetch(self, taskids: list[int], wait: bool) -> bool:
        """Deliver the results of tasks; False when not all of them are done."""
        fetched = [self._tasks.fetch(self._uuid, task_id, wait) for task_id in taskids]
        done = [finished for finished in fetched if finished is not None]
        self.deliver(0, done)
        return len(done) == len(taskids)

    # -- out

    def deliver(self, number: int, finished: list[Finished]) -> None:
        link = self._link
        if link is None:
            return
        for parts, size in taskwire.pack_done(self._rows(finished), number):
            link.send_packed(parts, size)

    def _rows(self, batch: list[Finished]) -> Iterator[tuple[bytes, bytes]]:
        epoch = self._tasks.epoch()
        for finished in batch:
            payload = finished.payload
            if finished.status is Status.REFUSED and finished.error is not None:
                payload = messages.pack_json(finished.error)
            head = taskwire.DONE_HEAD.pack(
                finished.id,
                len(payload),
                finished.status,
                finished.engine,
                finished.attempt,
                finished.submitted + epoch,
                finished.completed + epoch,
                finished.duration,
            )
            if len(payload) <= taskwire.INLINE:
                yield head, payload
                continue
            link = self._link
            if link is not None:
                link.send_large(taskwire.DONE, 0, head, [payload])

    def credit(self, accepted: int, tasks: int, size: int) -> None:
        if self._link is not None:
            self._link.send(taskwire.CREDIT, accepted, taskwire.pack_credit(tasks, size))


registerAdapter(FCTaskController, ITaskController, IFCTaskController)
