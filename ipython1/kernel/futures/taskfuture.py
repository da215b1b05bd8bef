"""Futures of calls that are tasks."""

from __future__ import annotations

from typing import Final

from ipython1.kernel.futures.executorfuture import EngineFuture

SUBMITTED_GOES_ON: Final = "KeyboardInterrupt: the call continues; abort() of its future ends it"


class TaskFuture(EngineFuture):
    """The future of a call that is a task.

    :ivar taskid: the id of the task, an int, also for the methods of task clients; None until it is submitted, which is
        later only if ``max_workers`` of the executor holds it back.
    """

    taskid: int | None = None


class SubmittedCall(TaskFuture):
    """What ``submit`` of a task client returns; a ``concurrent.futures.Future`` that can also be awaited.

    Unlike an executor's future, :meth:`cancel` also ends a call that runs.
    """

    interrupted_text = SUBMITTED_GOES_ON

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, task {self.taskid}>"

    def cancel(self) -> bool:
        """Abort the call: drop it if it has not begun, interrupt it if it runs.

        :returns: whether it will not run. If it runs already, the result is False; the call is interrupted, and its
            future fails with ``TaskAborted``.
        :raises ClientError: as for :meth:`~EngineFuture.cancel` of other futures.
        """
        if super().cancel():
            return True
        self.abort()
        return self.cancelled()
