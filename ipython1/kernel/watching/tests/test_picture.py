"""Tests of what is put together from news, and of what the page gets."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from twisted.trial import unittest

from ipython1.kernel.watching import known, picture
from ipython1.kernel.watching.pages import page_files
from ipython1.kernel.watching.picture import Picture
from ipython1.kernel.wire.monitoring import (
    EngineInfo,
    FailureInfo,
    News,
    Span,
    TaskCounts,
    Traffic,
    WorkInfo,
)


def news(mark: int = 1, time: float = 1000.0, whole: bool = False, **parts: Any) -> News:
    return News(mark, whole, time, 900.0, "lab", 2, TaskCounts(1, 2, 3, 4, 5.0), Traffic(), **parts)


def engine(number: int, **changes: Any) -> EngineInfo:
    return replace(EngineInfo(number, 70 + number, "node1", False, "idle", 0), **changes)


def failure(number: int) -> FailureInfo:
    return FailureInfo("task", number, "fit", 0, "ValueError: no", f"Traceback {number}", 1000.0)


def span(begun: float, ended: float, count: int = 1, id: int = 7) -> Span:
    return Span(0, "task", id, "fit", begun, ended, count)


class PictureTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.picture = Picture()

    def whole(self) -> Any:
        return json.loads(self.picture.whole())

    def test_news_change_what_is_known_and_only_they_are_told_again(self) -> None:
        self.picture.update(news(whole=True, engines=(engine(0), engine(1))))
        told = json.loads(
            self.picture.update(news(2, engines=(engine(1, doing="task", what="fit"),), gone=(0,)))
        )
        self.assertEqual([row[0] for row in told["engines"]], [1])
        self.assertEqual(told["gone"], [0])
        self.assertEqual(
            [row[:1] + row[4:7] for row in self.whole()["engines"]], [[1, "task", 0, "fit"]]
        )
        self.assertEqual(self.picture.mark, 2)

    def test_everything_told_anew_replaces_everything(self) -> None:
        self.picture.update(
            news(whole=True, engines=(engine(0),), spans=(span(1, 2),), failures=(failure(1),))
        )
        self.picture.update(news(whole=True, engines=(engine(5),)))
        shown = self.whole()
        self.assertEqual([row[0] for row in shown["engines"]], [5])
        self.assertNotIn("spans", shown)
        self.assertNotIn("failures", shown)

    def test_a_span_that_grows_stays_one(self) -> None:
        self.picture.update(news(spans=(span(990, 991, 10),)))
        self.picture.update(news(spans=(span(990, 992, 30),)))
        ((*_, ended, count, _),) = self.whole()["spans"]
        self.assertEqual((ended, count), (992, 30))

    def test_old_spans_are_forgotten(self) -> None:
        self.picture.update(news(spans=(span(990, 991), span(995, 996, id=8))))
        self.picture.update(news(time=1292.0))
        self.assertEqual([row[2] for row in self.whole()["spans"]], [8])

    def test_there_is_an_end_to_the_number_of_spans(self) -> None:
        for start in range(0, 60_000, 1000):
            spans = tuple(
                span(990 + i / 1e4, 991 + i / 1e4, id=i) for i in range(start, start + 1000)
            )
            self.picture.update(news(spans=spans))
        ids = [row[2] for row in self.whole()["spans"]]
        self.assertLessEqual(len(ids), 1.25 * picture.SPANS_MOST)
        self.assertEqual(max(ids), 59_999)

    def test_the_latest_failures_are_kept_with_their_tracebacks(self) -> None:
        for number in range(1, 302):
            self.picture.update(news(failures=(failure(number),)))
        self.assertEqual(len(self.whole()["failures"]), known.FAILURES_KEPT)
        self.assertEqual(self.picture.traceback(301), "Traceback 301")
        self.assertIsNone(self.picture.traceback(1))
        self.assertNotIn(b"Traceback", self.picture.whole())

    def test_the_latest_work_is_kept(self) -> None:
        for key in range(known.WORK_KEPT + 5):
            work = WorkInfo(key, "fit", "", "tasks", 1, 0, 1, 0, 0.1, 1.0, 2.0)
            self.picture.update(news(work=(work,)))
        self.assertEqual(min(row[0] for row in self.whole()["work"]), 5)

    def test_trends_have_a_point_for_each_second(self) -> None:
        for tenth in range(50):
            self.picture.update(news(time=1000 + tenth / 10))
        self.assertEqual(
            [point[0] for point in self.whole()["trend"]], [1000, 1001, 1002, 1003, 1004]
        )


class FieldTests(unittest.SynchronousTestCase):
    def test_the_page_reads_the_fields_that_are_written(self) -> None:
        source = page_files()["store.js"].data.decode()
        for name, fields in (
            ("ENGINE", picture.ENGINE_FIELDS),
            ("WORK", picture.WORK_FIELDS),
            ("SPAN", picture.SPAN_FIELDS),
            ("FAILURE", ("number", *picture.FAILURE_FIELDS)),
        ):
            found = re.search(rf"const {name} = (\[.*?\]);", source)
            assert found is not None
            self.assertEqual(tuple(json.loads(found[1])), fields)
