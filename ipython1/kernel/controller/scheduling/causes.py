"""Why a task is not run that was to run after others, for people."""

from __future__ import annotations

from typing import NamedTuple

from ipython1.core.texts import clip
from ipython1.kernel.controller.scheduling.accounts import Finished
from ipython1.kernel.wire.failureline import failure_line

LONGEST: int = 400
"""Characters of what is told of the task that is to blame."""

SUCCEEDED = ", which succeeded, and it was to run only if that failed"
FAILED = ", which failed"
NO_SUCH_TASK = ", and there is no such task"
NEVER_CAME = (
    ", and there is no such task: its client ended before the controller had it, or it was cleared so long ago that "
    "nobody knows how it came out"
)
ITSELF = ", which is itself"
CIRCLE = ", which waits for it in turn, perhaps through others"


class Cause(NamedTuple):
    """What keeps a task from ever running.

    :ivar ids: the tasks that it was to run after, directly and indirectly, the nearest first; if they are many, the
        first two and the last.
    :ivar left_out: how many are not among them.
    :ivar what: what is to be said of the last.
    """

    ids: tuple[int, ...]
    left_out: int
    what: str

    def before(self, task_id: int) -> Cause:
        """The cause of what was to run after ``task_id``, which this is the cause of."""
        ids = (task_id, *self.ids)
        if len(ids) <= 3:
            return Cause(ids, self.left_out, self.what)
        return Cause((*ids[:2], ids[-1]), self.left_out + len(ids) - 3, self.what)

    def message(self, task_id: int) -> str:
        """What is told of a task that is not run."""
        steps = [f"after task {each}" for each in self.ids]
        if self.left_out:
            more = f"{self.left_out} more task{'s' if self.left_out > 1 else ''}"
            steps[-2] += f" (and so on, through {more})"
        return f"task {task_id} was not run: it was to run {', which was to run '.join(steps)}{self.what}"


def outcome_of(finished: Finished) -> str:
    """What is said of a task that did not come out as others wanted."""
    if not finished.status:
        return SUCCEEDED
    if finished.error is not None:
        how = f"{finished.error[0]}: {finished.error[1]}"
    else:
        payload = finished.payload
        how = failure_line(payload) if isinstance(payload, bytes | memoryview) else ""
    return f"{FAILED}: {clip(how, LONGEST)}" if how else FAILED
