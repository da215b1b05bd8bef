"""A model of a controller, for tests of what a client of the task interface does.

It has what it was told in memory, and some of it on disk; :meth:`ModelController.restart` forgets what is not.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from ipython1.kernel.tasks.resultbook import refused_result
from ipython1.kernel.wire import frames, messages, taskwire
from ipython1.kernel.wire.arrivals import Arrivals
from ipython1.kernel.wire.link import FrameLink
from ipython1.kernel.wire.tasksync import LeaseState, ResyncAnswer, read_ranges
from ipython1.kernel.wire.taskwire import DONE_HEAD, OptionsSpec, Status, Submitted

WINDOW = 16
WINDOW_SIZE = 600_000


@dataclass
class Knowledge:
    """What a controller knows of its client.

    :ivar leases: start, stop and next of each block of ids.
    :ivar tasks: the sizes of the tasks that have arrived, in their order.
    :ivar results: of those that are done.
    :ivar confirmed: tasks whose results the client has.
    """

    leases: list[list[int]] = field(default_factory=list)
    tasks: dict[int, int] = field(default_factory=dict)
    functions: dict[bytes, bytes] = field(default_factory=dict)
    results: dict[int, bytes] = field(default_factory=dict)
    confirmed: set[int] = field(default_factory=set)


class ModelController:
    """A controller with one client.

    :param make_result: makes the payload of a task's result.
    :param is_open: returns whether the client has no result of a task.
    :ivar aborted: the tasks of which the client has told that it aborted them before it sent them.
    """

    def __init__(
        self,
        chance: random.Random,
        make_result: Callable[[int], bytes],
        is_open: Callable[[int], bool],
    ) -> None:
        self._is_open = is_open
        self._chance = chance
        self._make_result = make_result
        self.known = Knowledge()
        self.safe = Knowledge()
        self.aborted: set[int] = set()
        self.link: FrameLink | None = None
        self._arrivals = Arrivals()
        self._batches: dict[int, list[int]] = {}
        self._next_batch = 1
        self._next_id = 0
        self._base = 0
        self._base_size = 0
        self.settled = False
        self.seen = 0

    # -- what comes

    def frame_received(self, kind: int, flags: int, ident: int, meta: Any, payload: Any) -> None:
        if kind == taskwire.SUBMIT:
            head = meta if flags & frames.BULK else payload
            self._in_turn(flags, payload, lambda bodies: self._submit(head, bodies))
        elif kind == taskwire.FUNCTION:
            digest = bytes(meta)
            self._in_turn(
                flags,
                payload,
                lambda data: self.known.functions.update(
                    {digest: bytes(payload if data is None else data)}
                ),
            )
        elif kind == taskwire.FORGET:
            digest = bytes(meta)
            self._in_turn(0, payload, lambda data: self.known.functions.pop(digest, None))
        elif kind == taskwire.CONFIRM:
            for task_id in self._batches.pop(ident):
                self._is_read(task_id)
        elif kind == frames.ASK:
            self._in_turn(
                0, payload, lambda data: self._asked(ident, messages.unpack_json(payload))
            )

    def link_lost(self, reason: str) -> None:
        self.link = None
        self.settled = False
        self._arrivals.clear()
        self._batches.clear()

    def _in_turn(self, flags: int, payload: Any, take: Callable[[bytes | None], object]) -> None:
        if flags & frames.BULK:
            assert self.link is not None
            self._arrivals.transfer(self.link, payload, take)
        else:
            self._arrivals.in_turn(lambda: take(None))

    def _submit(self, head: Any, bodies: Any) -> None:
        assert self.settled, "tasks come before it is settled who has what"
        for task in taskwire.unpack_submissions(head, OptionsSpec.unpack, bodies):
            self._task(task)

    def _task(self, task: Submitted) -> None:
        options: Any = task.options
        [lease] = [each for each in self.known.leases if each[0] <= task.task_id < each[1]]
        for digest in options.functions:
            assert digest in self.known.functions, "a function is missing"
        if task.task_id < lease[2]:
            self.seen += 1
            return
        if options.aborted:
            assert not task.payload, "what is not to be run is sent"
            self.aborted.add(task.task_id)
        else:
            assert self._is_open(task.task_id), "a task that is over is sent again"
        lease[2] = task.task_id + 1
        size = len(task.payload) + sum(len(payload) for _, payload in task.recovery)
        self.known.tasks[task.task_id] = size

    def _asked(self, number: int, question: Any) -> None:
        name, args = question["name"], question["args"]
        assert self.settled or name in ("begin", "resync"), f"{name} is asked too early"
        value = getattr(self, f"_ask_{name}")(**args)
        if self.link is not None:
            self.link.send(frames.REPLY, number, b"", messages.pack_json({"value": value}))
        if name == "resync":
            self.settled = True
            self._deliver_missing(read_ranges(args["missing"]))

    def _ask_begin(self) -> Any:
        self.settled = True
        return self._ask_lease(), self._credit()

    def _ask_lease(self) -> Any:
        start = self._next_id
        self._next_id += self._chance.choice((10, 40))
        self.known.leases.append([start, self._next_id, start])
        self.safe.leases.append([start, self._next_id, start])
        return start, self._next_id

    def _ask_resync(self, missing: Any, functions: list[str], failed: Any) -> Any:
        known = self.known
        left = {task_id for start, stop in read_ranges(missing) for task_id in range(start, stop)}
        for task_id in known.tasks.keys() - left:
            self._is_read(task_id)
        answer = ResyncAnswer(
            tuple(LeaseState(*lease) for lease in known.leases),
            self._base + len(known.tasks),
            self._base_size + sum(known.tasks.values()),
            self._accepted(),
            self._credit(),
            tuple(each for each in map(bytes.fromhex, functions) if each not in known.functions),
        )
        return answer.pack()

    def _ask_fetch(self, taskids: list[int], wait: bool) -> Any:
        done = [task_id for task_id in taskids if task_id in self.known.results]
        self._send_results(done, 0)
        return len(done) == len(taskids)

    def _ask_has_begun(self, taskid: int) -> bool:
        there = taskid in self.known.tasks or not self._is_open(taskid)
        assert there, "it is asked about before it is there"
        return taskid in self.known.results

    # -- what it does

    def _credit(self) -> tuple[int, int]:
        confirmed = self.known.confirmed & self.known.tasks.keys()
        size = sum(self.known.tasks[task_id] for task_id in confirmed)
        tasks = self._base + len(confirmed) + WINDOW
        return tasks, self._base_size + size + WINDOW_SIZE

    def _accepted(self) -> int:
        """Count the first tasks that the client need not keep."""
        over = self.safe.tasks.keys() | self.known.confirmed
        for number, task_id in enumerate(self.known.tasks):
            if task_id not in over:
                return self._base + number
        return self._base + len(self.known.tasks)

    def tell_credit(self) -> None:
        """Tell the client of its credit, whether it has been settled or not."""
        if self.link is not None:
            meta = taskwire.pack_credit(*self._credit())
            self.link.send(taskwire.CREDIT, self._accepted(), meta)

    def write(self) -> None:
        """Have more on disk: tasks, their functions, and results that are not written yet."""
        known, safe = self.known, self.safe
        unsafe = [task_id for task_id in known.tasks if task_id not in safe.tasks]
        for task_id in unsafe[: self._chance.randint(0, 10)]:
            safe.tasks[task_id] = known.tasks[task_id]
            for lease in safe.leases:
                if lease[0] <= task_id < lease[1]:
                    lease[2] = task_id + 1
        if self._chance.random() < 0.5:
            safe.functions.update(known.functions)
        for task_id in list(known.results):
            if task_id in safe.tasks and self._chance.random() < 0.5:
                safe.results[task_id] = known.results[task_id]
        safe.confirmed |= known.confirmed & safe.tasks.keys()

    def work(self) -> None:
        """Finish some tasks, and deliver their results."""
        if not self.settled:
            return
        left = [task_id for task_id in self.known.tasks if task_id not in self.known.results]
        done = self._chance.sample(left, min(len(left), self._chance.randint(1, 8)))
        for task_id in done:
            payload = self._make_result(task_id)
            head = DONE_HEAD.pack(task_id, len(payload), Status.OK, 0, 1, 0.0, 0.0, 0.0)
            self.known.results[task_id] = head + payload
        self._deliver(done)

    def _deliver(self, task_ids: list[int]) -> None:
        if task_ids:
            number, self._next_batch = self._next_batch, self._next_batch + 1
            self._batches[number] = task_ids
            self._send_results(task_ids, number)

    def _deliver_missing(self, ranges: list[tuple[int, int]]) -> None:
        missing = {task_id for start, stop in ranges for task_id in range(start, stop)}
        self._deliver([task_id for task_id in self.known.results if task_id in missing])

    def _send_results(self, task_ids: list[int], number: int) -> None:
        link = self.link
        if link is None:
            return
        rows = []
        for task_id in task_ids:
            data = self.known.results[task_id]
            head, payload = data[: DONE_HEAD.size], data[DONE_HEAD.size :]
            if len(payload) > taskwire.INLINE:
                link.send_large(taskwire.DONE, 0, head, [payload])
            else:
                rows.append((head, payload))
        for frame in taskwire.pack_done(rows, number):
            link.send_packed(*frame)

    def _is_read(self, task_id: int) -> None:
        """Its client has the result, which nobody keeps from now on."""
        self.known.confirmed.add(task_id)
        problem = IndexError("its client has read it")
        self.known.results[task_id] = refused_result(task_id, 0.0, problem)

    def restart(self) -> None:
        """Forget what is not on disk, and count anew."""
        known = self.known = deepcopy(self.safe)
        for task_id in list(known.confirmed):
            self._is_read(task_id)
        self._base = self._chance.randint(0, 1000)
        self._base_size = self._chance.randint(0, 1000)
