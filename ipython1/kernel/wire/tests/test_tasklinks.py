"""What tasks say of the tasks that they wait for, and how failures are told of in a line."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.wire.failureline import after_line, failure_line, pack_line
from ipython1.kernel.wire.tasklinks import FAILURE, FOLLOW, SUCCESS, Links
from ipython1.kernel.wire.taskwire import Entry, OptionsSpec, pack_submissions, unpack_submissions


class LinksTests(SynchronousTestCase):
    def test_there_and_back(self) -> None:
        rng = random.Random(1)
        for _ in range(200):
            wanted = {
                flags: {
                    rng.randrange(rng.choice((10, 10**6, 2**62))) for _ in range(rng.randrange(9))
                }
                for flags in (SUCCESS, FAILURE, SUCCESS | FOLLOW)
            }
            links = Links.unpack(bytes(Links.pack(wanted.items())))
            found = {
                tie.flags: {number for some in tie.ranges for number in range(*some)}
                for tie in links.ties
            }
            self.assertEqual(found, {flags: ids for flags, ids in wanted.items() if ids})
            self.assertEqual(links.follows, bool(wanted[SUCCESS | FOLLOW]))

    def test_garbage_is_refused(self) -> None:
        good = bytes(Links.pack([(SUCCESS, [1, 5, 9]), (FAILURE | FOLLOW, [2])]))
        for wrong in (
            good[:-1],
            b"\x00\x01\x01\x00",
            b"\x09\x01\x01\x00",
            b"\x01\x00",
            b"\x01" + b"\xff" * 12,
        ):
            self.assertRaises(ProtocolError, Links.unpack, wrong)
        rng = random.Random(2)
        for _ in range(2000):
            try:
                links = Links.unpack(rng.randbytes(rng.randrange(12)))
            except ProtocolError:
                continue
            self.assertTrue(all(start < stop for tie in links.ties for start, stop in tie.ranges))

    def test_tasks_share_them(self) -> None:
        options = OptionsSpec(b"t" * 16, targets=(0, 7), by_properties=True).pack()
        links = Links.pack([(SUCCESS, range(5000))])
        entries = [Entry(number, options, b"p", [(links, b"")]) for number in range(6000, 6100)]
        [(parts, size)] = pack_submissions(entries)
        self.assertLess(size, 100 * 40 + 200)
        tasks = unpack_submissions(b"".join(parts[1:]), OptionsSpec.unpack)
        self.assertEqual([task.recovery for task in tasks], [[(links, b"")]] * 100)
        self.assertEqual({task.options for task in tasks}, {OptionsSpec.unpack(options)})


class LineTests(SynchronousTestCase):
    def test_there_and_back(self) -> None:
        packed = pack_line("ValueError: two\n  lines") + b"\x04rest"
        self.assertEqual(failure_line(packed), "ValueError: two lines")
        self.assertEqual(after_line(packed), b"\x04rest")
        self.assertLess(len(pack_line("x" * 5000)), 310)
        for none in (b"", b"\x80\x05N.", b"\x04abc"):
            self.assertEqual((failure_line(none), after_line(none)), ("", none))
