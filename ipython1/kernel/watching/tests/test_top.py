"""What ``ipcluster top`` makes of a controller's news, and of keys."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from twisted.trial import unittest

import ipython1
from ipython1.kernel.watching.amounts import (
    bytes_text,
    count_text,
    duration_text,
    rate_text,
)
from ipython1.kernel.watching.topcontrols import Controls
from ipython1.kernel.watching.topscreen import keys_of, show_once
from ipython1.kernel.watching.topstate import FAILURES_KEPT, TopState, doing_text, seconds_left
from ipython1.kernel.watching.topview import Screen, render, share_rows
from ipython1.kernel.wire.monitoring import (
    EngineInfo,
    FailureInfo,
    News,
    TaskCounts,
    Traffic,
    WorkInfo,
)

NOW = 1_700_000_000.0


def engine(number: int, **fields: Any) -> EngineInfo:
    values: dict[str, Any] = {
        "pid": 4000 + number,
        "host": "one",
        "away": False,
        "doing": "idle",
        "queued": 0,
    }
    return EngineInfo(id=number, **{**values, **fields})


def work(**fields: Any) -> WorkInfo:
    values: dict[str, Any] = {
        "key": 1,
        "what": "simulate",
        "label": "ada@one",
        "unit": "items",
        "total": 1000,
        "running": 4,
        "succeeded": 397,
        "failed": 3,
        "seconds": 0.5,
        "submitted": NOW - 60,
        "completed": None,
    }
    return WorkInfo(**{**values, **fields})


def news(mark: int = 1, whole: bool = True, **fields: Any) -> News:
    values: dict[str, Any] = {
        "time": NOW,
        "started": NOW - 600,
        "name": "",
        "clients": 2,
        "tasks": TaskCounts(12, 4, 1034, 3, 120.0),
        "traffic": Traffic(1.2e6, 3.4e5, 0.0),
    }
    return News(mark, whole, **{**values, **fields})


def shown(
    state: TopState, controls: Controls | None = None, width: int = 120, **screen: Any
) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(render(state, controls or Controls(), Screen(width, **screen)))
    return capture.get()


class StateTests(unittest.SynchronousTestCase):
    def test_changes_are_added_to_what_is_known(self) -> None:
        state = TopState()
        state.apply(news(engines=(engine(0), engine(1)), work=(work(),)))
        state.apply(news(2, False, engines=(engine(1, doing="task"), engine(2)), gone=(0,)))
        self.assertEqual((state.mark, sorted(state.engines)), (2, [1, 2]))
        self.assertEqual(state.engines[1].doing, "task")
        self.assertEqual(len(state.work), 1)

    def test_everything_anew_replaces_what_was_known(self) -> None:
        state = TopState()
        failure = FailureInfo("task", 1, "f", 0, "ValueError: x", "", NOW)
        state.apply(news(engines=(engine(0),), work=(work(),), failures=(failure,) * 300))
        self.assertEqual(len(state.failures), FAILURES_KEPT)
        state.apply(news(9, engines=(engine(7),)))
        self.assertEqual((sorted(state.engines), state.work), ([7], {}))
        self.assertEqual(len(state.failures), 0)

    def test_time_left_is_that_of_those_that_run(self) -> None:
        self.assertEqual(seconds_left(work()), 0.5 * 600 / 4)
        for unknown in ({"seconds": None}, {"running": 0}, {"completed": NOW}, {"total": 400}):
            self.assertIsNone(seconds_left(work(**unknown)))

    def test_what_an_engine_does(self) -> None:
        self.assertEqual(doing_text(engine(0)), "")
        self.assertEqual(doing_text(engine(0, doing="task", what="f", since=NOW)), "f")
        self.assertEqual(doing_text(engine(0, doing="execute", since=NOW)), "execute")
        self.assertEqual(doing_text(engine(0, doing="apply", what="f", since=NOW)), "apply: f")


class ControlTests(unittest.SynchronousTestCase):
    def order(self, *keys: str) -> list[int]:
        engines = {
            0: engine(0, cpu=5.0, memory=300, host="b"),
            1: engine(1, cpu=90.0, memory=100, host="a", since=NOW - 5),
            2: engine(2, cpu=None, memory=200, host="c", since=NOW - 50, queued=3),
        }
        controls = Controls()
        for key in keys:
            controls = controls.after(key, 10)
        return [each.id for each in controls.chosen(engines)]

    def test_orders(self) -> None:
        for keys, wanted in (
            ("", [0, 1, 2]),
            ("i", [2, 1, 0]),
            ("c", [1, 0, 2]),
            ("cc", [2, 0, 1]),
            ("m", [0, 2, 1]),
            ("h", [1, 0, 2]),
            ("n", [2, 0, 1]),
            ("t", [2, 1, 0]),
            ("b", [1, 2]),
            ("x", [0, 1, 2]),
        ):
            self.assertEqual(self.order(*keys), wanted, keys)

    def test_scrolling_stays_within_what_there_is(self) -> None:
        controls = Controls()
        for key, first in (("up", 0), ("down", 1), ("page down", 41), ("page up", 1), ("end", 60)):
            controls = controls.after(key, 40)
            controls = replace(controls, first=controls.scrolled(100, 40))
            self.assertEqual(controls.first, first, key)
        self.assertEqual(controls.after("home", 40).first, 0)
        self.assertEqual(controls.scrolled(10, 40), 0)

    def test_what_terminals_send(self) -> None:
        self.assertEqual(list(keys_of("c\x1b[A\x1b[6~q")), ["c", "up", "page down", "q"])
        self.assertEqual(list(keys_of("\x1bOB")), ["down"])


class ViewTests(unittest.SynchronousTestCase):
    def state(self, engines: int = 3, **fields: Any) -> TopState:
        state = TopState()
        busy = [
            engine(n, doing="task", what="simulate", since=NOW - 3, cpu=98.4, memory=123e6, tasks=2)
            for n in range(engines - 1)
        ]
        failure = FailureInfo("task", 9, "simulate", 1, "ValueError: [red]no[/]\nmore", "", NOW)
        values: dict[str, Any] = {
            "engines": (*busy, engine(engines - 1, away=True, queued=3)),
            "work": (work(), work(key=2, what="<lambda>", running=0, completed=NOW - 30)),
            "failures": (failure,),
        }
        state.apply(news(**{**values, **fields}))
        return state

    def test_everything_at_once(self) -> None:
        text = shown(self.state())
        for wanted in (
            r"default cluster  up 10 min · 3 engines · 2 clients · in 1.2 MB/s, out 340 kB/s",
            r"tasks  12 waiting · 4 running · 1,034 done · 3 failed · 120/s",
            r"simulate +400 of 1,000 items .* 3 +4 +75 s or more +0.5 s +ada@one",
            r"<lambda> +400 of 1,000 items .* took 30 s",
            r" 0  busy +4000  98 %  123 MB +- +2 +3 s  simulate",
            r" 2  away +4002 +- +- +3 +-",
            # What others say is no markup.
            r"\d\d:\d\d:\d\d +1  simulate  ValueError: \[red\]no\[/\]\s*$",
        ):
            self.assertRegex(text, f"(?m){wanted}")
        self.assertNotIn("host", text)
        self.assertNotIn("quit", text)

    def test_what_is_wrong_is_seen(self) -> None:
        state = self.state(traffic=Traffic(0, 0, 0.7), name="mine")
        text = shown(state, width=160, height=30, silent=12.0)
        self.assertIn("cluster 'mine'", text)
        self.assertIn("the controller is late by 0.7 s", text)
        self.assertIn("no answer for 12 s", text)
        state.apply(news(2, False, gone=(0, 1, 2)))
        self.assertIn("no engine is registered", shown(state))

    def test_hosts_are_shown_if_there_are_several(self) -> None:
        state = self.state()
        state.apply(news(2, False, engines=(engine(5, host="\x1b[2Jtwo"),)))
        text = shown(state)
        self.assertIn(r"\x1b[2Jtwo", text)
        self.assertNotIn("\x1b", text)

    def test_long_texts_leave_room_for_the_rest(self) -> None:
        what, error = "simulate_" * 20, "ValueError: " + "no solution " * 40
        state = self.state(2, work=(work(what=what),))
        doing = engine(0, doing="task", what=what, since=NOW - 3, cpu=98.4, memory=123e6)
        failure = FailureInfo("task", 9, what, 1, error, "", NOW)
        state.apply(news(2, False, engines=(doing,), failures=(failure,)))
        for width in (40, 60, 66, 79, 80, 120):
            text = shown(state, width=width)
            self.assertRegex(text, r"(?m)^ +0  busy +(4000 +)?98 %  123 MB .*simul\S*…", width)
            self.assertRegex(text, r"(?m)^\d\d:\d\d:\d\d +1  sim\S*…  ValueE\S*.*…$", width)
            self.assertRegex(text, r"(?m)^simul\S*… +400 of 1,000.* 3\b", width)
            self.assertLessEqual(max(map(len, text.splitlines())), width)

    def test_a_screen_is_never_longer_than_the_terminal(self) -> None:
        state = self.state(1000, failures=(self.state().failures[0],) * 50)
        for height in (8, 10, 15, 24, 30, 50, 80):
            for width in (60, 80, 120):
                lines = shown(state, width=width, height=height).splitlines()
                self.assertLessEqual(len(lines), height)
                self.assertLessEqual(max(map(len, lines)), width)
            if height >= 10:
                self.assertRegex("\n".join(lines), r"engines 1-\d+ of 1,000, by id")
        self.assertGreaterEqual(share_rows(state, Controls(), 24).engines, 8)

    def test_the_end_of_many_engines_can_be_reached(self) -> None:
        state = self.state(1000)
        rows = share_rows(state, Controls(), 30).engines
        text = shown(state, Controls().after("end", rows), height=30)
        self.assertIn(" 999  away", text)
        self.assertIn(f"engines {1001 - rows}-1,000 of 1,000", text)

    def test_once_shows_all(self) -> None:
        class Client:
            def news(self, mark: int) -> News:
                return news(engines=tuple(map(engine, range(200))))

        console = Console(width=100, force_terminal=False)
        with console.capture() as capture:
            show_once(Client(), console)
        self.assertIn(" 199  idle", capture.get())
        self.assertNotIn(" \n", capture.get())


class DocumentationTests(unittest.SynchronousTestCase):
    def test_the_documentation_shows_what_it_looks_like(self) -> None:
        docs = Path(ipython1.__file__).parents[1] / "docs" / "source"
        page = docs / "guide" / "terminal.txt"
        if not page.exists():
            raise unittest.SkipTest("the documentation is not here")
        state = TopState()
        engines = [
            engine(
                n, pid=4714 + n, doing="task", what="simulate", tasks=2, cpu=98.0 + n, memory=212e6
            )
            for n in range(3)
        ]
        engines = [replace(each, since=NOW - 0.12 * (each.id + 1)) for each in engines]
        waiting = engine(
            3, pid=4717, doing="execute", since=NOW - 7, queued=2, cpu=1.0, memory=64e6
        )
        state.apply(
            news(
                started=NOW - 720,
                tasks=TaskCounts(574, 3, 420, 3, 12.0),
                traffic=Traffic(2900, 3800, 0.001),
                engines=(*engines, waiting),
                work=(
                    work(unit="tasks", succeeded=420, running=3, seconds=0.25, label="ada@myhost"),
                    WorkInfo(
                        *(2, "<lambda>", "ada@myhost", "items", 100, 0, 100, 0, 0.02),
                        *(NOW - 90, NOW - 88),
                    ),
                ),
                failures=(
                    FailureInfo(
                        "task", 17, "simulate", 1, "ZeroDivisionError: division by zero", "", 0.0
                    ),
                ),
            )
        )
        lines = shown(state, width=100, height=24).splitlines()
        text = "\n".join(f"    {line}".rstrip() for line in lines)
        # The time of day is that of the reader.
        text = re.sub(r"\d\d:\d\d:\d\d", "16:35:49", text)
        self.assertIn(text, page.read_text(encoding="utf-8"), f"the page should show:\n{text}")


class AmountTests(unittest.SynchronousTestCase):
    def test_times(self) -> None:
        for seconds, text in (
            *((-1, "0 s"), (0.0012, "1.2 ms"), (0.02, "20 ms"), (0.5, "0.5 s"), (3.0, "3 s")),
            *((9.96, "10 s"), (48.9, "48 s"), (119, "119 s"), (120, "2 min"), (7300, "2 h")),
            (200000, "2 d"),
        ):
            self.assertEqual(duration_text(seconds), text)

    def test_sizes_and_numbers(self) -> None:
        for size, text in (
            *((0, "0 B"), (999, "999 B"), (1400, "1.4 kB"), (9.99e6, "10 MB"), (999.9e6, "1.0 GB")),
            *((12e9, "12 GB"), (5e12, "5.0 TB"), (7e15, "7000 TB")),
        ):
            self.assertEqual(bytes_text(size), text)
        self.assertEqual(
            list(map(rate_text, (0, 0.31, 12.4, 1250))), ["0/s", "0.3/s", "12/s", "1,250/s"]
        )
        self.assertEqual(count_text(1, "process", "processes"), "1 process")
        self.assertEqual(count_text(1000, "engine"), "1,000 engines")
