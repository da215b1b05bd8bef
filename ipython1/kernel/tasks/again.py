"""Tasks as they were submitted, fetched from the controller to be submitted again; in the reactor's thread.

The controller sends the functions of a task and the task itself as a client would, and then answers (see
:mod:`~ipython1.kernel.wire.tasksync`).  What is lost with a link is asked for again.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock

from ipython1.kernel.basics.error import MessageSizeError
from ipython1.kernel.calls.clientlink import ClientEnd
from ipython1.kernel.tasks.encoder import Encoded, Packed
from ipython1.kernel.wire import frames, taskwire
from ipython1.kernel.wire.arrivals import Arrivals
from ipython1.kernel.wire.frames import Buffer, Bytes
from ipython1.kernel.wire.taskwire import Submitted


class Submissions:
    """Fetches tasks as they were submitted, one at a time."""

    def __init__(self, end: ClientEnd) -> None:
        self._end = end
        self._turn = DeferredLock()
        self._begin()
        end.handlers[taskwire.FUNCTION] = self._function_received
        end.handlers[taskwire.SUBMIT] = self._task_received
        end.on_away.append(self._link_lost)

    def _begin(self) -> None:
        self._arrivals = Arrivals()
        self._functions: dict[bytes, bytes] = {}
        self._tasks: list[Submitted] = []
        self._problem = ""
        self._all_here: Deferred[bool] | None = None

    async def fetch(self, task_id: int) -> Encoded:
        """Fetch a task.

        :raises IndexError: if there is no such task.
        :raises KernelError: if it is not kept, cannot be received, or the controller is gone for good.
        """
        await self._turn.acquire()
        try:
            while True:
                self._begin()
                digests = await self._end.ask("submission", taskid=task_id)
                here = self._all_here = Deferred()
                self._arrivals.in_turn(partial(_fire, here, True))
                if await here and self._is_complete(digests):
                    return self._encoded(task_id, digests)
        finally:
            self._begin()
            self._turn.release()

    def _is_complete(self, digests: list[str]) -> bool:
        """Whether all came; not if the link was lost between the task and the answer."""
        if self._problem:
            return True
        return bool(self._tasks) and all(bytes.fromhex(each) in self._functions for each in digests)

    def _encoded(self, task_id: int, digests: list[str]) -> Encoded:
        if self._problem:
            raise MessageSizeError(f"task {task_id} did not arrive at this client: {self._problem}")
        task: Any = self._tasks[-1]
        functions = [
            Packed(digest, self._functions[digest], b"") for digest in map(bytes.fromhex, digests)
        ]
        return Encoded(task.options, task.payload, task.recovery, functions)

    def _link_lost(self, reason: str) -> None:
        if self._all_here is not None:
            _fire(self._all_here, False)

    def _function_received(self, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        digest = bytes(meta)

        def take(data: Bytes) -> None:
            self._functions[digest] = bytes(data)

        if flags & frames.BULK:
            self._arrivals.transfer(self._end.link, payload, take, self._failed)
        else:
            self._arrivals.in_turn(partial(take, bytes(payload)))

    def _task_received(self, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        def take(head: bytes, bodies: Bytes | None) -> None:
            # Options stay as they are packed.
            self._tasks += taskwire.unpack_submissions(head, bytes, bodies)

        if flags & frames.BULK:
            take_bodies = partial(take, bytes(meta))
            self._arrivals.transfer(self._end.link, payload, take_bodies, self._failed)
        else:
            self._arrivals.in_turn(partial(take, bytes(payload), None))

    def _failed(self, reason: str) -> None:
        self._problem = reason


def _fire(deferred: Deferred[bool], value: bool) -> None:
    if not deferred.called:
        deferred.callback(value)
