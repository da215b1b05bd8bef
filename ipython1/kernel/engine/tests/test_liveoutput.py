"""Looks at what running code writes: condensed, of the right code, of tasks that take long."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ipython1.core.livedisplays import LiveDisplays
from ipython1.core.terminaltext import TerminalText
from ipython1.kernel.engine.liveoutput import STREAM_INTERVAL, LiveOutput
from ipython1.kernel.engine.taskwatch import TaskWatch
from ipython1.kernel.objects import mapparts
from ipython1.kernel.wire import taskwire


class Source:
    """What user code has written.

    :ivar on_peek: what happens during a look.
    """

    def __init__(self) -> None:
        self.texts = ["", ""]
        self.peeked_in = 0
        self.on_peek: Any = lambda: None

    def write(self, text: str) -> None:
        self.texts[0] += text

    def peek(self) -> tuple[str, str]:
        found, self.texts = self.texts, ["", ""]
        self.on_peek()
        return found[0], found[1]


class LiveOutputTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.source, self.displays = Source(), LiveDisplays()
        self.output = LiveOutput(self.source, self.displays)
        self.addCleanup(mapparts.forget_items)

    def looked(self, key: object = "a", runs: bool = True) -> list[tuple[str, str]]:
        return [(name, data.decode()) for name, data in self.output.look(key, lambda: runs)]

    def test_a_bar_that_is_drawn_all_the_time_is_sent_once_a_look(self) -> None:
        reader, sent = TerminalText(), 0
        for look in range(20):
            for number in range(1000):
                self.source.write(f"\r{look}: {number}")
            ((_, text),) = self.looked()
            sent += len(text)
            reader.feed(text)
        self.assertEqual(str(reader), "19: 999")
        self.assertLess(sent, 1000)

    def test_plain_text_is_sent_as_it_is(self) -> None:
        self.source.write("a\r\nb  \n")
        self.assertEqual(self.looked(), [("stdout", "a\r\nb  \n")])
        self.assertEqual(self.looked(), [])

    def test_what_was_written_between_two_commands_is_of_the_later_one(self) -> None:
        """Code may end, and other code begin, while one looks."""
        self.source.write("of b")
        self.assertEqual(self.looked("a", runs=False), [])
        self.source.write(", more")
        self.assertEqual(self.looked("b"), [("stdout", "of b, more")])

    def test_what_an_ended_command_had_written_is_not_of_the_next(self) -> None:
        self.source.write("of a")
        self.assertEqual(self.looked("a", runs=False), [])
        self.source.peeked_in = 1
        self.source.write("of b")
        self.assertEqual(self.looked("b"), [("stdout", "of b")])

    def test_displays_and_items(self) -> None:
        self.displays.show({"text/plain": "x"}, {}, None)
        seen: list[Any] = []

        def item(number: int) -> float:
            seen.append(self.looked())
            return 1 / number

        mapparts.map_items(item, [[1, 0, 1, 1]])
        ((name, data),) = seen[0]
        self.assertEqual((name, json.loads(data)[0]["do"]), ("display", "show"))
        self.assertEqual(seen[1:], [[("items", "1 0")], [("items", "2 1")], [("items", "3 1")]])
        self.assertEqual(self.output.ended(), [("items", b"4 1")])


class Link:
    has_room = True

    def __init__(self) -> None:
        self.sent: list[tuple[int, int, bytes, bytes]] = []

    def send(self, *frame: Any) -> None:
        self.sent.append(frame)


class TaskWatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.source, self.clock, self.link = Source(), Clock(), Link()
        self.live, self.current = True, (5, 1)
        output = LiveOutput(self.source, LiveDisplays())
        self.watch = TaskWatch(output, self, lambda: self.current, self, self.clock)  # type: ignore[arg-type]

    def sent(self) -> list[tuple[int, int, bytes, bytes]]:
        sent, self.link.sent = self.link.sent, []
        return sent

    def test_a_long_task_is_watched_until_it_ends(self) -> None:
        self.watch.begin(None)
        self.watch.begin((5, 1))
        self.watch.begin((5, 1))
        self.source.write("text")
        self.clock.advance(STREAM_INTERVAL)
        meta = taskwire.pack_attempt(1) + b"stdout"
        self.assertEqual(self.sent(), [(taskwire.TASK_OUTPUT, 5, meta, b"text")])
        self.current = (6, 1)
        self.source.write("of another task")
        self.clock.advance(STREAM_INTERVAL)
        self.assertEqual((self.sent(), self.clock.getDelayedCalls()), ([], []))

    def test_nothing_is_sent_that_nobody_wants_or_for_which_there_is_no_room(self) -> None:
        self.watch.begin((5, 1))
        self.source.write("first, ")
        for self.live, self.link.has_room in ((False, True), (True, False)):
            self.clock.advance(STREAM_INTERVAL)
            self.assertEqual(self.sent(), [])
        self.link.has_room = True
        self.source.write("second")
        self.clock.advance(STREAM_INTERVAL)
        self.assertEqual(self.sent()[0][3], b"first, second")
