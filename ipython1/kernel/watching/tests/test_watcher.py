"""Tests of looking at a controller again and again."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial import unittest

from ipython1.kernel.basics.error import ConnectionError
from ipython1.kernel.watching import watcher as watching
from ipython1.kernel.watching.tests.simulated import SimulatedSource
from ipython1.kernel.watching.watcher import Watcher


class Page:
    """A viewer that notes what it is shown."""

    def __init__(self, hidden: bool = False) -> None:
        self.hidden = hidden
        self.events: list[tuple[str, Any]] = []

    def show(self, event: str, data: bytes) -> None:
        self.events.append((event, json.loads(data)))

    @property
    def reasons(self) -> list[str]:
        return [content["reason"] for event, content in self.events if event == "away"]

    @property
    def names(self) -> list[str]:
        return [event for event, _ in self.events]


class WatcherTests(unittest.TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sources: list[SimulatedSource] = []
        self.refuse = False
        self.watcher = Watcher(self.clock, self.open, self.clock.seconds)
        self.successResultOf(Deferred.fromCoroutine(self.watcher.begin()))
        self.addCleanup(lambda: Deferred.fromCoroutine(self.watcher.close()))

    async def open(self) -> SimulatedSource:
        if self.refuse:
            raise ConnectionError("nobody answers")
        self.sources.append(SimulatedSource(3, now=self.clock.seconds))
        return self.sources[-1]

    def page(self, hidden: bool = False) -> Page:
        page = Page(hidden)
        self.watcher.add(page)
        return page

    def test_a_page_gets_everything_and_then_what_changes(self) -> None:
        page = self.page()
        self.clock.pump([watching.VISIBLE_PAUSE] * 3)
        self.assertEqual(page.names[:3], ["whole", "news", "news"])
        self.assertEqual(len(page.events[0][1]["engines"]), 3)

    def test_all_pages_share_one_look(self) -> None:
        pages = [self.page() for _ in range(20)]
        before = self.sources[0].looks
        self.clock.pump([watching.VISIBLE_PAUSE] * 5)
        self.assertLessEqual(self.sources[0].looks - before, 5)
        self.assertEqual({len(page.events) for page in pages}, {len(pages[0].events)})

    def test_it_looks_rarely_when_nobody_sees_it(self) -> None:
        self.page(hidden=True)
        before = self.sources[0].looks
        self.clock.pump([0.1] * 100)
        self.assertLessEqual(self.sources[0].looks - before, 10.0 / watching.HIDDEN_PAUSE)

    def test_a_page_that_is_opened_ends_a_long_pause(self) -> None:
        self.clock.pump([0.1] * 3)
        before = self.sources[0].looks
        self.page()
        self.clock.advance(0)
        self.assertEqual(self.sources[0].looks, before + 1)

    def test_a_controller_that_answers_slowly_is_asked_less_often(self) -> None:
        answer: Deferred[None] = Deferred()
        news = self.sources[0].news

        async def slow(mark: int) -> Any:
            await answer
            return await news(mark)

        self.sources[0].news = slow  # type: ignore[method-assign]
        self.page()
        self.clock.advance(watching.VISIBLE_PAUSE)
        self.clock.advance(1.0)
        answer.callback(None)
        self.assertGreaterEqual(self.watcher.pause, watching.SHARE * 1.0)

    def test_it_says_since_when_the_controller_is_away_and_shows_all_when_it_is_back(self) -> None:
        page = self.page()
        self.refuse = self.sources[0].broken = True
        self.clock.pump([0.1] * 30)
        event, content = page.events[-1]
        self.assertEqual(event, "away")
        self.assertLess(content["since"], 0.5)
        self.assertEqual(page.reasons, ["the connection was lost", "nobody answers"])
        self.assertEqual(self.sources[0].closed, 1)
        late = self.page()
        self.assertEqual(late.names, ["whole", "away"])
        self.refuse = False
        self.clock.pump([0.1] * 40)
        self.assertIsNone(self.watcher.away)
        self.assertIn("whole", page.names[page.names.index("away") :])

    def test_a_controller_that_does_not_answer_is_away(self) -> None:
        async def never(mark: int) -> Any:
            await Deferred()

        self.refuse = True
        self.sources[0].news = never  # type: ignore[method-assign]
        page = self.page()
        self.clock.pump([1.0] * 15)
        self.assertIn("has not answered for 10 s", page.reasons[0])

    def test_a_page_that_is_closed_is_shown_nothing(self) -> None:
        page = self.page()
        self.watcher.remove(page)
        shown = len(page.events)
        self.clock.pump([0.5] * 10)
        self.assertEqual(len(page.events), shown)

    def test_closing_gives_up_the_connection(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.watcher.close()))
        self.assertEqual(self.sources[0].closed, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class BeginTests(unittest.TestCase):
    def test_a_controller_that_cannot_be_reached_at_first_is_an_error(self) -> None:
        async def refuse() -> SimulatedSource:
            raise ConnectionError("nobody answers")

        watcher = Watcher(Clock(), refuse)
        self.failureResultOf(Deferred.fromCoroutine(watcher.begin()), ConnectionError)
