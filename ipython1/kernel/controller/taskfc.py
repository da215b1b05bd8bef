"""The Foolscap face of the Task interface: unpacks frames, delegates, packs the answers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.components import registerAdapter
from twisted.python.failure import Failure
from zope.interface import implementer

from ipython1.kernel.basics.error import ClientError, KernelError, ProtocolError, to_wire
from ipython1.kernel.basics.taskinterfaces import ITaskController, ITaskObserver
from ipython1.kernel.controller.filepayload import LostPayload
from ipython1.kernel.controller.multienginefc import IFCSessions, send_reply
from ipython1.kernel.controller.resultpost import ResultPost, no_longer_kept
from ipython1.kernel.controller.scheduling.accounts import Batch, Finished
from ipython1.kernel.controller.task import TaskController
from ipython1.kernel.tub.gate import Session
from ipython1.kernel.wire import frames, messages, taskwire
from ipython1.kernel.wire.arrivals import Arrivals
from ipython1.kernel.wire.frames import Buffer, Bytes
from ipython1.kernel.wire.link import FrameLink
from ipython1.kernel.wire.tasksync import read_ranges

log: Logger = Logger()

AT_ONCE = frozenset(("queue_status", "obstacles"))
"""Questions that are answered also while the journal cannot be written."""

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
        self._post: ResultPost | None = None
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
            "resync": self._resync,
            "submission": self._submission,
            "history": self._history,
            "spin": self._tasks.spin,
            "queue_status": self._tasks.queue_status,
            "obstacles": lambda: self._tasks.obstacles(self._uuid),
        }

    def attach(self, link: FrameLink) -> messages.Welcome:
        self._link = link
        tasks = self._tasks
        self._post = ResultPost(
            link, tasks.journal, tasks.rows, lambda number: tasks.confirm(self._uuid, number)
        )
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
        if self._post is not None:
            self._post.stop()
        self._tasks.disconnect(self._uuid, self)
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
            self._in_turn(
                flags,
                payload,
                lambda bodies: self._submit(head, bodies),
                lambda reason: self._refuse(head, reason),
            )
        elif kind == taskwire.CONFIRM:
            self._tasks.confirm(self._uuid, ident)
        elif kind == taskwire.FUNCTION:
            digest = bytes(meta)
            self._in_turn(
                flags,
                payload,
                lambda data: self._tasks.add_function(
                    self._uuid, digest, bytes(payload if data is None else data)
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
            question = bytes(payload)
            self._in_turn(0, b"", lambda nothing: self._asked(ident, question))
        else:
            raise ProtocolError(f"a client sent a frame of unknown kind {kind}")

    def _in_turn(
        self,
        flags: int,
        payload: Buffer,
        take: Callable[[Bytes | None], None],
        failed: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """Handle a frame after those before it.

        :param take: gets what a bulk transfer brought, or None.
        :param failed: called instead, with the reason, if the transfer did not bring it.
        """
        link = self._link
        if link is None:
            return
        if flags & frames.BULK:
            self._arrivals.transfer(
                link, payload, _understood(link, take), _understood(link, failed)
            )
        else:
            self._arrivals.in_turn(lambda: take(None))

    def _submit(self, head: Buffer, bodies: Bytes | None) -> None:
        submissions: Any = taskwire.unpack_submissions(head, self._read_options, bodies)
        self._tasks.submit(self._uuid, submissions, head, bodies)

    def _refuse(self, head: Buffer, reason: str) -> None:
        """The data of a task did not come."""
        bodies: Any = LostPayload(taskwire.bodies_size(head))
        submissions: Any = taskwire.unpack_submissions(
            head, self._read_options, bodies, taskwire.uncut
        )
        self._tasks.refuse(self._uuid, submissions, reason)

    def _read_options(self, packed: bytes) -> object:
        options = self._options.get(packed)
        if options is None:
            if len(self._options) >= MOST_OPTIONS:
                self._options.clear()
            options = self._options[packed] = self._tasks.options(packed)
        return options

    def _asked(self, number: int, payload: Buffer) -> None:
        """Answer a question; not before the client's tasks are safe, if it may be about one of them."""
        try:
            question = messages.unpack_json(payload)
            name, args = question["name"], question["args"]
        except (KernelError, KeyError, TypeError) as problem:
            self._answer(number, {"error": to_wire(_unclear(problem))})
            return
        if name in AT_ONCE:
            self._answer_with(number, name, args)
        else:
            self._tasks.intake.after(self._uuid, lambda: self._answer_with(number, name, args))

    def _answer_with(self, number: int, name: str, args: dict[str, Any]) -> None:
        """Answer a question, now or later."""
        try:
            value = self._questions[name](**args)
        except (KernelError, IndexError) as problem:
            self._answer(number, {"error": to_wire(problem)})
        except (KeyError, TypeError) as problem:
            self._answer(number, {"error": to_wire(_unclear(problem))})
        else:
            if isinstance(value, Deferred):
                value.addCallbacks(
                    lambda result: self._answer(number, {"value": result}),
                    lambda failure: self._answer(number, {"error": _to_wire(failure)}),
                )
            else:
                self._answer(number, {"value": value})

    def _answer(self, number: int, answer: dict[str, Any]) -> None:
        if self._link is not None:
            send_reply(self._link, number, answer)

    def _abort_many(self, taskids: list[int]) -> None:
        """End those tasks that are not done."""
        for task_id in taskids:
            with contextlib.suppress(IndexError):
                self._tasks.abort(task_id)

    def _resync(
        self, missing: list[list[int]], functions: list[str], failed: list[list[int]]
    ) -> dict[str, Any]:
        digests = [bytes.fromhex(digest) for digest in functions]
        ranges = read_ranges(missing), read_ranges(failed)
        return self._tasks.resync(self._uuid, *ranges, digests).pack()

    def _fetch(self, taskids: list[int], wait: bool) -> Deferred[bool]:
        """Deliver the results of tasks; False when not all of them are done."""
        fetched = [(each, self._tasks.fetch(self._uuid, each, wait)) for each in taskids]
        answer: Deferred[bool] = Deferred()
        post = self._post
        if post is None:
            return answer
        post.tell([finished for _, finished in fetched if isinstance(finished, Finished)])
        lost: list[int] = []
        post.tell_kept([each for each, finished in fetched if finished is True], lost.append)

        def sent() -> None:
            if lost:
                answer.errback(no_longer_kept(lost[0]))
            else:
                answer.callback(all(finished is not False for _, finished in fetched))

        post.then(sent)
        return answer

    def _history(
        self, limit: int, before: int | None, states: list[str] | None, own: bool
    ) -> Deferred[list[Any]]:
        async def packed() -> list[Any]:
            history = self._tasks.history
            entries = await history.entries(self._uuid, limit, before, states, own)
            return [entry.pack() for entry in entries]

        return Deferred.fromCoroutine(packed())

    def _submission(self, taskid: int) -> Deferred[list[str]]:
        return Deferred.fromCoroutine(self._send_submission(taskid))

    async def _send_submission(self, task_id: int) -> list[str]:
        entry, digests = await self._tasks.history.submission(task_id)
        functions = [(digest, self._tasks.functions.get(digest)) for digest in digests]
        if any(data is None for _, data in functions):
            raise ClientError(
                f"a function that task {task_id} refers to is no longer kept, so it cannot be submitted again; "
                "make the task again and run it"
            )
        link = self._link
        if link is None:
            return []
        for digest, data in functions:
            assert data is not None
            link.send_bytes(taskwire.FUNCTION, 0, digest, data)
        if entry.size > taskwire.INLINE:
            head, bodies = taskwire.pack_submission_head(entry)
            link.send_large(taskwire.SUBMIT, 0, head, bodies)
        else:
            for parts, size in taskwire.pack_submissions([entry]):
                link.send_packed(parts, size)
        return [digest.hex() for digest in digests]

    # -- out

    def deliver(self, batch: Batch) -> None:
        if self._post is not None:
            self._post.add(batch)

    def tell(self, finished: list[Finished]) -> None:
        if self._post is not None:
            self._post.tell(finished)

    def refuse(self, task_id: int, error: tuple[str, str]) -> None:
        if self._post is not None:
            self._post.refuse(task_id, error)

    def credit(self, accepted: int, tasks: int, size: int) -> None:
        if self._link is not None:
            self._link.send(taskwire.CREDIT, accepted, taskwire.pack_credit(tasks, size))

    def note(self, text: str) -> None:
        if self._link is not None:
            self._link.send(taskwire.NOTE, 0, b"", text.encode(errors="replace"))

    def output(self, task_id: int, engine: int, stream: bytes, text: bytes) -> None:
        if self._link is not None and self._link.has_room:
            meta = messages.pack_ids((engine,)) + stream
            self._link.send(taskwire.TASK_OUTPUT, task_id, meta, text)


def _understood(link: FrameLink, take: Callable[[Any], None]) -> Callable[[Any], None]:
    """``take``, which ends the connection to a client that does not keep to the protocol."""

    def call(what: Any) -> None:
        try:
            take(what)
        except KernelError as problem:
            link.abort(f"what the client sent cannot be understood: {problem}")

    return call


def _unclear(problem: Exception) -> ProtocolError:
    return ProtocolError(f"the call cannot be understood: {problem!r}")


def _to_wire(failure: Failure) -> tuple[str, str]:
    """The error that a question ended with; what is not the asker's business is logged."""
    problem = failure.value
    if isinstance(problem, KernelError | IndexError):
        return to_wire(problem)
    if isinstance(problem, TypeError | ValueError):
        return to_wire(_unclear(problem))
    log.failure("a question of a client could not be answered", failure)
    return to_wire(ClientError(f"the controller failed to answer: {problem!r}; see its log"))


registerAdapter(FCTaskController, ITaskController, IFCTaskController)
