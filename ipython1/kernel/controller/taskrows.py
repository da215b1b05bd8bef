"""Results as they are sent and kept: packed heads and payloads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ipython1.kernel.controller.scheduling.accounts import Batch, Finished
from ipython1.kernel.wire import messages, taskwire
from ipython1.kernel.wire.frames import Buffer, Bytes
from ipython1.kernel.wire.taskwire import Frame, Status


class TaskRows:
    """Packs results.

    :param time: seconds since the epoch at a time of the machine.
    """

    def __init__(self, time: Callable[[float], float]) -> None:
        self.time = time

    def frames(self, batch: Batch) -> list[Frame]:
        """The ``DONE`` frames of a batch whose results are at hand and not large; they are packed once."""
        if batch.frames is None:
            batch.frames = list(taskwire.pack_done(self.rows(batch.finished), batch.number))
        return batch.frames

    def packed(self, batch: Batch) -> list[Buffer]:
        """The same without the frames around them."""
        return [part for parts, _ in self.frames(batch) for part in parts[1:]]

    def some(self, finished: Iterable[Finished]) -> list[Buffer]:
        """The heads and payloads of some results."""
        return [part for row in self.rows(finished) for part in row]

    def rows(self, finished: Iterable[Finished]) -> Iterator[tuple[bytes, Bytes]]:
        """The packed head and the payload of each."""
        offset = self.time(0.0)
        pack = taskwire.DONE_HEAD.pack
        for each in finished:
            payload = each.payload
            if each.status is Status.REFUSED and each.error is not None:
                payload = messages.pack_json(each.error)
            head = pack(
                each.id,
                len(payload),
                each.status,
                each.engine,
                each.attempt,
                each.submitted + offset,
                each.completed + offset,
                each.duration,
            )
            yield head, payload

    def head(self, finished: Finished) -> bytes:
        """The packed head of one result."""
        [(head, _)] = self.rows([finished])
        return head


def with_size(head: bytes, size: int) -> bytes:
    """A packed head that says another size of the payload."""
    task_id, _, *rest = taskwire.DONE_HEAD.unpack(head)
    return taskwire.DONE_HEAD.pack(task_id, size, *rest)
