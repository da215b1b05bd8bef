"""Kill engines at random while 2,000 tasks with retries run: every result is right, and none arrives twice."""

from __future__ import annotations

import collections
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from ipython1.kernel import client

TASKS = 2000
KILLS = 12

random.seed(20080308)
tc = client.TaskClient()
mec = client.MultiEngineClient()
journal = Path(tempfile.mkdtemp(dir=os.environ["IPYTHONDIR"])) / "journal"
journal.touch()


def work(number: int, seconds: float, path: str) -> tuple[int, int]:
    """Record that this ran, in one write that a kill cannot split."""
    import os
    import time

    time.sleep(seconds)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, b"%d %d\n" % (number, os.getpid()))
    os.close(descriptor)
    return number * number, os.getpid()


def start_engine() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "ipython1.kernel.scripts.ipengine"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


started: list[subprocess.Popen[bytes]] = []
killed: set[int] = set()
over = threading.Event()


def kill_now_and_then() -> None:
    while len(killed) < KILLS and not over.wait(random.uniform(0.05, 0.4)):
        pids = [pid for pid in engines() if pid not in killed]
        victim = random.choice(pids)
        killed.add(victim)
        os.kill(victim, signal.SIGKILL)
        started.append(start_engine())
        # A new engine takes a while to start; always leave some.
        while not over.is_set() and len(mec.get_ids()) < 3:
            time.sleep(0.05)


def engines() -> list[int]:
    """The process ids of the present engines."""
    while True:
        try:
            mec.execute("import os; pid_ = os.getpid()")
            return list(mec.pull("pid_"))
        except client.CompositeError:
            pass


killer = threading.Thread(target=kill_now_and_then, daemon=True)
try:
    killer.start()
    ids = [
        tc.run(
            client.MapTask(
                work, (number, random.choice((0.0, 0.0, 0.002, 0.02)), str(journal)), retries=20
            )
        )
        for number in range(TASKS)
    ]
    tc.barrier(ids, timeout=120)
    over.set()
    killer.join(30)
    results = [tc.get_task_result(task_id) for task_id in ids]
finally:
    over.set()
    for process in started:
        process.kill()
        process.wait()

wrong = [
    result
    for number, result in enumerate(results)
    if result.failure or result.result[0] != number * number
]
assert not wrong, wrong[:3]
status = tc.queue_status()
assert status == {"scheduled": 0, "pending": 0, "succeeded": TASKS, "failed": 0}, status

runs: dict[int, list[int]] = collections.defaultdict(list)
for line in journal.read_text().splitlines():
    number, pid = map(int, line.split())
    runs[number].append(pid)
assert len(runs) == TASKS
for number, pids in runs.items():
    told = results[number].result[1]
    assert told in pids, (number, told, pids)
    # A task that ran on an engine that was not killed was reported, and did not run again.
    living = [pid for pid in pids if pid not in killed]
    assert len(living) <= 1, (number, pids)
again = sum(len(pids) > 1 for pids in runs.values())
print(f"{len(killed)} engines killed, {again} of {TASKS} tasks run again", file=sys.stderr)
print("every result is right and none was given twice")
