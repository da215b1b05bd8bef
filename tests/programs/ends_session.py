"""What user code does to its engine, and clients that are dropped; run by ``tests/test_ends.py``."""

from __future__ import annotations

import gc
import os
import time
from typing import Any

from ipython1.kernel import client

SOON = 30.0

NO_THREADS = """
import resource, threading
used = int(open('/proc/self/statm').read().split()[0]) * 4096
threading.stack_size(256 << 20)
resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20), resource.RLIM_INFINITY))
"""

AND_BACK = """
threading.stack_size(0)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
"""

TROUBLES = (
    (NO_THREADS, AND_BACK),
    ("import sys; sys.excepthook = None", "sys.excepthook = sys.__excepthook__"),
    ("import sys; sys.stdout = sys.stderr = None", "pass"),
    ("import builtins; kept = print; builtins.print = None", "builtins.print = kept"),
    ("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)", "pass"),
    ("import signal; signal.signal(signal.SIGINT, signal.SIG_DFL)", "pass"),
    ("import signal; signal.signal(signal.SIGINT, lambda *args: None)", "pass"),
    (
        "import sys; kept = sys._current_frames; sys._current_frames = None",
        "sys._current_frames = kept",
    ),
)


class Mine(Exception):
    def __init__(self, code: int, where: str) -> None:
        super().__init__(f"{code} at {where}")
        self.code = code


def raise_group() -> None:
    raise ExceptionGroup("some", [Mine(1, "here"), ExceptionGroup("more", [KeyError("k")])])


def until(condition: Any) -> None:
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def interrupts(mec: Any, tc: Any) -> None:
    """An engine that is interrupted lives on with its names, whatever user code has done."""
    mec.execute("import os, time; pid = os.getpid()")
    before = mec.pull("pid")
    for breaking, mending in TROUBLES:
        pending = mec.execute(f"{breaking}\nhere = 1\ntime.sleep(60)", block=False)
        until(lambda: any(text in str(mec.stacks()) for text in ("time.sleep(60)", "TypeError")))
        mec.interrupt()
        problem = pending.exception(SOON)
        assert "KeyboardInterrupt" in str(problem), (breaking, problem)
        mec.execute(mending)
        assert mec.pull("pid") == before, breaking
        task_id = tc.run(client.Task(f"{breaking}\ntime.sleep(60)"))
        until(lambda: tc.queue_status()["pending"])
        tc.abort(task_id)
        assert "aborted" in str(tc.get_task_result(task_id, block=True).failure), breaking
        mec.execute(mending)
        assert mec.pull(["pid", "here"]) == [[before[0], 1]], breaking
    mec.execute("import signal; signal.setitimer(signal.ITIMER_REAL, 0.2)")
    mec.execute("signal.signal(signal.SIGALRM, lambda *args: 1 / 0)")
    time.sleep(0.5)  # the alarm reaches an idle engine
    assert mec.pull("pid") == before


def groups(mec: Any, tc: Any) -> None:
    for executor in (mec.executor(), tc.executor()):
        found: list[object] = []
        with executor:
            try:
                executor.submit(raise_group).result(SOON)
            except* Mine as some:
                found += [each.code for each in some.exceptions]
            except* KeyError as some:
                found += some.exceptions[0].exceptions[0].args
        assert found == [1, "k"], found


def sockets() -> int:
    gc.collect()
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            pass
    return sum(link.startswith("socket:") for link in links)


def dropped_clients(tc: Any) -> None:
    before = sockets()
    ids = []
    for number in range(10):
        other = client.TaskClient()
        ids.append(other.run(client.MapTask(abs, (-number,))))
    del other
    until(lambda: sockets() <= before)
    tc.barrier(ids, SOON)
    assert [tc.get_task_result(each).result for each in ids] == list(range(10))


def main() -> None:
    mec, tc = client.MultiEngineClient(), client.TaskClient()
    interrupts(mec, tc)
    groups(mec, tc)
    dropped_clients(tc)
    print("done")


if __name__ == "__main__":
    main()
