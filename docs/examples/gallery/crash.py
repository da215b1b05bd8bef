"""Kill an engine and the controller while tasks run; every result arrives, and arrives once.

The program starts its own cluster. Run it with ``python crash.py [FIGURE]``.
"""

import os
import signal
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt

from ipython1.kernel.client import Cluster

TASKS, ENGINES, SECONDS = 36, 3, 0.15


def work(item, diary):
    """Runs on an engine: note in a file when each attempt begins and ends, so that attempts cut short show."""

    def note(what):
        with open(f"{diary}/{os.getpid()}", "a") as file:
            file.write(f"{what} {item} {time.time()}\n")

    note("begin")
    time.sleep(SECONDS)
    note("end")
    return item * item


def kill_9(process):
    """End a process in the middle of its work; it can neither save anything nor say goodbye."""
    time.sleep(SECONDS / 2)
    os.kill(process.pid, signal.SIGKILL)
    return time.time()


def run(diary):
    """The results as they came, when what was killed, and the engines by the numbers of their processes."""
    kills = {}
    with Cluster(n=ENGINES, restart=True) as cluster, cluster.task() as tc:
        engines = {engine.pid: f"engine {engine.id}" for engine in cluster.status().engines}
        # A task whose engine dies uses up a retry.
        calls = tc.with_options(retries=1)
        pending = calls.map(work, range(TASKS), [diary] * TASKS, block=False)
        arrived = []
        for item, value in pending.as_completed(numbered=True):
            arrived.append((item, value))
            if len(arrived) == TASKS // 4:
                kills["engine 1"] = kill_9(cluster.status().engines[1])
            if len(arrived) == TASKS // 2:
                kills["controller"] = kill_9(cluster.status().controller)
    return arrived, kills, engines


def read_diary(diary, engines):
    """The attempts by engine, each with its item, and when it began and ended (None if it did not)."""
    rows = {}
    for path in Path(diary).iterdir():
        attempts = {}
        for line in path.read_text().splitlines():
            what, item, when = line.split()
            attempts.setdefault(int(item), {})[what] = float(when)
        engine = engines.get(int(path.name), "engine 1 again")
        rows[engine] = [(item, a["begin"], a.get("end")) for item, a in attempts.items()]
    return dict(sorted(rows.items(), reverse=True))


def plot(rows, kills, figure):
    zero = min(begin for row in rows.values() for _, begin, _ in row)
    fig, axes = plt.subplots(figsize=(7, 4), dpi=120, layout="constrained")
    for engine, row in rows.items():
        for item, begin, end in row:
            stop = end or kills["engine 1"]
            color = "tab:blue" if end else "crimson"
            axes.barh(engine, stop - begin, left=begin - zero, color=color, edgecolor="white")
            middle = (begin + stop) / 2 - zero
            axes.text(middle, engine, item, ha="center", va="center", color="white", fontsize=7)
    for (name, when), style in zip(kills.items(), ("--", ":"), strict=True):
        axes.axvline(when - zero, color="black", ls=style, label=f"kill -9 of {name}")
    axes.barh("engine 1", 0, color="crimson", label="attempt cut short")
    axes.set(xlabel="time (s)", ylim=(-0.6, len(rows) + 0.2))
    axes.set_title(f"{TASKS} tasks, by the engines that ran them")
    axes.legend(loc="upper center", ncols=3, fontsize=8)
    fig.savefig(figure)


def main(figure="crash.png"):
    open(figure, "ab").close()  # fails before the work, not after it
    with TemporaryDirectory() as diary:
        arrived, kills, engines = run(diary)
        rows = read_diary(diary, engines)
    print("killed:", ", ".join(kills))
    print(f"{len(arrived)} results, of {len(dict(arrived))} tasks")
    print("all right:", sorted(arrived) == [(item, item * item) for item in range(TASKS)])
    plot(rows, kills, figure)


if __name__ == "__main__":
    main(*sys.argv[1:])
