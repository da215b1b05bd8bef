"""What somebody who only looks sees of four engines at work; run by ``tests/test_monitor_news.py``."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ipython1.kernel import client
from ipython1.kernel.monitorclient import EngineInfo, FailureInfo, News, Span, WorkInfo

SOON = 30.0
DIRECTORY = Path(os.environ["IPYTHONDIR"])

HOLD = "import ctypes; ctypes.PyDLL(None).usleep(2500000)  # which holds the interpreter"


def busy(seconds: float) -> float:
    import time

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return seconds


def picky(number: int) -> int:
    import time

    time.sleep(0.001)
    if number % 10 == 3:
        raise ValueError(f"{number} is not wanted")
    return number


class Viewer:
    """Keeps what it is told, as a page does."""

    def __init__(self) -> None:
        self.monitor = client.MonitorClient()
        self.mark = 0
        self.engines: dict[int, EngineInfo] = {}
        self.work: dict[int, WorkInfo] = {}
        self.spans: dict[tuple[int, float], Span] = {}
        self.failures: list[FailureInfo] = []
        self.news: News = self.look()

    def look(self) -> News:
        self.news = news = self.monitor.news(self.mark)
        self.mark = news.mark
        if news.whole:
            self.engines, self.work, self.spans, self.failures = {}, {}, {}, []
        self.engines.update((each.id, each) for each in news.engines)
        for engine_id in news.gone:
            self.engines.pop(engine_id, None)
        self.work.update((each.key, each) for each in news.work)
        self.spans.update(((each.engine, each.begun), each) for each in news.spans)
        self.failures += news.failures
        return news

    def until(self, condition: Callable[[], Any]) -> None:
        end = time.monotonic() + SOON
        while not condition():
            assert time.monotonic() < end, (self.news, self.engines, self.work, self.failures)
            time.sleep(0.05)
            self.look()

    def work_of(self, what: str) -> WorkInfo:
        """Wait until some work is complete; there is only one of that name."""
        self.until(
            lambda: any(w.what == what and w.completed is not None for w in self.work.values())
        )
        [found] = [each for each in self.work.values() if each.what == what]
        return found


def first_look(view: Viewer) -> None:
    news = view.news
    assert news.whole and news.started <= news.time
    assert abs(news.time - time.time()) < 5, news
    assert sorted(view.engines) == [0, 1, 2, 3]
    for engine in view.engines.values():
        assert (engine.doing, engine.since, engine.away) == ("idle", None, False), engine
        assert engine.memory is not None and engine.memory > 2**20, engine
        assert engine.cpu is not None, "the first look takes long enough to measure it"


def tasks(view: Viewer, tc: Any) -> None:
    """The timeline has each task, where and for how long it ran."""
    begun = time.time()
    ids = [tc.run(client.MapTask(busy, (0.3,))) for _ in range(12)]
    view.until(lambda: any(each.what == "busy" for each in view.engines.values()))
    [one, *_] = [each for each in view.engines.values() if each.what == "busy"]
    assert one.doing == "task" and one.since is not None and one.since >= begun - 0.1, one
    tc.barrier(ids)
    work = view.work_of("busy")
    assert (work.total, work.succeeded, work.failed, work.unit) == (12, 12, 0, "tasks"), work
    assert work.seconds is not None and 0.3 <= work.seconds < 5, work
    view.until(lambda: sum(s.count for s in view.spans.values() if s.what == "busy") == 12)
    results = {each: tc.get_task_result(each) for each in ids}
    for engine_id in view.engines:
        spans = sorted(
            (s for s in view.spans.values() if s.engine == engine_id), key=lambda s: s.begun
        )
        ends = [span.ended for span in spans]
        assert all(end <= later.begun for end, later in zip(ends, spans[1:], strict=False)), spans
        mine = sum(each.engineid == engine_id for each in results.values())
        assert sum(span.count for span in spans) == mine
        for span in spans:
            assert begun - 0.1 <= span.begun and span.ended <= time.time() + 0.1
            # One that was told late, on a machine with much to do, takes some time of the next.
            assert 0.1 <= (span.ended - span.begun) / span.count < 5, span


def maps(view: Viewer, tc: Any) -> None:
    """Items count, not the tasks that they travel in."""
    try:
        tc.map(picky, range(400))
    except client.CompositeError as problem:
        assert len(problem.elist) == 40
    work = view.work_of("picky")
    counts = (work.total, work.succeeded, work.failed, work.unit)
    assert counts == (400, 360, 40, "items"), work
    view.until(lambda: any(each.what == "picky" for each in view.failures))
    failure = next(each for each in view.failures if each.what == "picky")
    assert failure.error.startswith("ValueError: ") and "is not wanted" in failure.error
    assert "in picky(number)" in failure.traceback and "\x1b" not in failure.traceback
    # A task with items that failed is no success, to who looks; and it is none of either when it was cleared.
    view.until(lambda: view.news.tasks.failed > 0)
    tc.clear()
    view.until(lambda: (view.news.tasks.succeeded, view.news.tasks.failed) == (0, 0))


def commands(view: Viewer, mec: Any) -> None:
    """A command is seen, and a process that cannot answer is measured all the same."""
    pending = mec.execute(HOLD, targets=2, block=False)
    view.until(lambda: view.engines[2].doing == "execute")
    since = view.engines[2].since
    assert since is not None and view.news.time - since < SOON
    assert view.engines[2].memory is not None
    pending.get_result()
    view.until(lambda: view.engines[2].doing == "idle")
    view.until(lambda: any(s.what == "execute" for s in view.spans.values()))
    [span] = [each for each in view.spans.values() if each.what == "execute"]
    assert (span.engine, span.kind, span.failed) == (2, "command", 0)
    assert 2.4 < span.ended - span.begun < SOON
    try:
        mec.execute("hush = 1/0", targets=1)
    except client.CompositeError:
        pass
    view.until(lambda: any(each.kind == "command" for each in view.failures))
    [failure] = [each for each in view.failures if each.kind == "command"]
    assert (failure.what, failure.engine) == ("execute", 1), failure
    assert failure.error == "ZeroDivisionError: division by zero", failure
    assert "hush = 1/0" in failure.traceback, failure
    assert view.news.traffic.received > 0 and view.news.traffic.sent > 0, view.news


def another_controller(view: Viewer, mec: Any, tc: Any) -> None:
    """Marks of an earlier controller are void; the new one has been told not to tell errors.

    It counts the tasks that are not done.
    """
    ids = [tc.run(client.MapTask(busy, (0.4,))) for _ in range(8)]
    tc.flush()
    ini = DIRECTORY / "ipython1.kernel.ini"
    ini.touch(mode=0o600)
    ini.write_text("[monitor]\nfailures = False\n")
    old, mark = view.news.started, view.mark
    os.kill(int((DIRECTORY / "security" / "ipcontroller.lock").read_text()), signal.SIGKILL)
    news = view.look()
    assert news.started > old and news.whole and news.mark > mark, news
    view.until(lambda: len(view.engines) == 4 and not any(e.away for e in view.engines.values()))
    assert not view.failures
    work = view.work_of("busy")
    assert 0 < work.total <= 8 and work.succeeded == work.total, work
    tc.barrier(ids)
    try:
        mec.execute("hush = 1/0", targets=1)
    except client.CompositeError:
        pass
    view.until(lambda: view.failures)
    assert "hush" not in str(view.failures) and not view.failures[0].error, view.failures


def main() -> None:
    view, mec, tc = Viewer(), client.MultiEngineClient(), client.TaskClient()
    first_look(view)
    tasks(view, tc)
    maps(view, tc)
    commands(view, mec)
    another_controller(view, mec, tc)
    mec.kill(targets=3)
    view.until(lambda: sorted(view.engines) == [0, 1, 2])
    print("it sees what happens")


if __name__ == "__main__":
    main()
