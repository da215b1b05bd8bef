"""What clients and the controller ask each other about tasks survives the wire, and what is malformed is refused."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.wire.tasksync import (
    SUCCEEDED,
    LeaseState,
    ResyncAnswer,
    TaskEntry,
    ranges_of,
    read_ranges,
)


def over_the_wire(value: Any) -> Any:
    return json.loads(json.dumps(value))


class TaskSyncTests(SynchronousTestCase):
    """Packing and unpacking."""

    def test_answers(self) -> None:
        leases = (LeaseState(0, 1024, 7), LeaseState(2048, 4096, 2048))
        answer = ResyncAnswer(leases, 7, 100, 5, (16391, 2**26), (bytes(range(16)),))
        self.assertEqual(ResyncAnswer.unpack(over_the_wire(answer.pack())), answer)

    def test_entries(self) -> None:
        done = TaskEntry(3, "ab" * 16, "a@b", SUCCEEDED, 1, 5.5, 6.5, 0.25, 100)
        failed = TaskEntry(4, "ab" * 16, "", "failed", None, 5.5, 6.5, error=("EngineDied", "x"))
        live = TaskEntry(5, "ab" * 16, "", "pending", 1, 5.5, what="f")
        for entry in (done, failed, live):
            self.assertEqual(TaskEntry.unpack(over_the_wire(entry.pack())), entry)

    def test_what_is_malformed(self) -> None:
        for value in (None, [], {}, {"arrived": 3}):
            self.assertRaises(ProtocolError, ResyncAnswer.unpack, value)
        for value in (None, [], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]):
            self.assertRaises(ProtocolError, TaskEntry.unpack, value)
        for value in ([1], [[1]], [[2, 1]], [[-1, 1]], [["a", "b"]]):
            self.assertRaises(ProtocolError, read_ranges, value)

    def test_ranges(self) -> None:
        self.assertEqual(ranges_of([]), [])
        self.assertEqual(ranges_of([0, 1, 2, 5, 7, 8]), [(0, 3), (5, 6), (7, 9)])
        self.assertEqual(read_ranges([[0, 3], [5, 6]]), [(0, 3), (5, 6)])
