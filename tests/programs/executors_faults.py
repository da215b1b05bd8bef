"""Executors when engines, the controller or the client go away; run as ``executors_faults.py mec`` or ``tc``.

At the end, the cluster's controller is gone.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, wait
from pathlib import Path
from typing import Any

from ipython1.kernel import client

ENGINES = 4
KIND = sys.argv[1]
FILES = Path(tempfile.mkdtemp(prefix="ipython1-executors-"))
atexit.register(shutil.rmtree, FILES, ignore_errors=True)
mec = client.MultiEngineClient()
tc = client.TaskClient()


def make(**options: Any) -> Any:
    return mec.executor(**options) if KIND == "mec" else tc.executor(**options)


def note(name: str) -> None:
    with open(name, "a") as file:
        file.write(f"{os.getpid()}\n")


def square(x: int) -> int:
    return x * x


def slow_square(x: int) -> int:
    time.sleep(0.1)
    return x * x


def until(name: str, limit: float = 60.0) -> int:
    """Return the process's id once a file of that name exists."""
    Path(f"{name}.{os.getpid()}").touch()
    end = time.time() + limit
    while not os.path.exists(name):
        if time.time() > end:
            raise AssertionError(f"there is no {name}")
        time.sleep(0.005)
    return os.getpid()


@contextlib.contextmanager
def raises(
    kind: type[BaseException] | tuple[type[BaseException], ...], text: str = ""
) -> Iterator[None]:
    begun = time.monotonic()
    try:
        yield
    except kind as problem:
        assert text in str(problem), f"{text!r} is not in {problem}"
        assert time.monotonic() - begun < 15, "the error came late"
    else:
        raise AssertionError(f"no {kind.__name__} was raised")


def within(seconds: float, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.01)


def running_pids(gate: str) -> list[int]:
    """The processes of the engines that are waiting for a file."""
    return [
        int(name.rpartition(".")[2]) for name in os.listdir(FILES) if name.startswith(f"{gate}.")
    ]


def busy(executor: Any, gate: str, engines: int) -> list[Future]:
    futures = [executor.submit(until, str(FILES / gate)) for _ in range(engines)]
    within(20, lambda: len(running_pids(gate)) == engines)
    return futures


def more_engines(number: int) -> None:
    before = len(mec.get_ids())
    subprocess.run(
        [sys.executable, "-m", "ipython1.kernel.scripts.ipcluster", "engines", "-n", str(number)],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=60,
    )
    within(30, lambda: len(mec.get_ids()) == before + number)


# An engine is killed: the call that it ran fails, and nothing else.
executor = make()
futures = busy(executor, "one", ENGINES)
waiting = [executor.submit(square, n) for n in range(20)]
os.kill(running_pids("one")[0], signal.SIGKILL)
done, _ = wait(futures, timeout=20, return_when="FIRST_COMPLETED")
assert len(done) == 1
problem = done.pop().exception()
assert type(problem) is client.EngineDied, repr(problem)
assert "engine" in str(problem), problem
(FILES / "one").touch()
results = [future.result(timeout=20) for future in futures if not future.exception(timeout=20)]
assert len(set(results)) == ENGINES - 1
assert [future.result(timeout=20) for future in waiting] == [n * n for n in range(20)]
assert len(executor.engine_ids) == ENGINES - 1

# A call ends its engine, in the middle of many others.
list(executor.map(square, range(50)))
futures = [executor.submit(os._exit if n == 50 else square, 3) for n in range(100)]
failed = [n for n, future in enumerate(futures) if future.exception(timeout=30) is not None]
assert failed == [50], failed
with raises(client.EngineDied):
    futures[50].result()
assert len(executor.engine_ids) == ENGINES - 2

# New engines are used, and run the initializer of an executor first; each engine runs it once.
prepared = make(initializer=note, initargs=(str(FILES / "prepared"),))
assert prepared.submit(square, 3).result(timeout=20) == 9
more_engines(2)
futures = busy(executor, "two", ENGINES)
(FILES / "two").touch()
assert len({future.result(timeout=20) for future in futures}) == ENGINES
for gate in ("two again", "two once more"):
    futures = busy(prepared, gate, ENGINES)
    (FILES / gate).touch()
    assert len({future.result(timeout=20) for future in futures}) == ENGINES
pids = (FILES / "prepared").read_text().split()
assert len(pids) == ENGINES and set(map(int, pids)) == set(running_pids("two")), pids
prepared.shutdown()

# All engines are gone: the pool is broken, and says so.
futures = busy(executor, "three", ENGINES)
waiting = [executor.submit(square, n) for n in range(30)]
mapped = executor.map(square, range(10))
for pid in running_pids("three"):
    os.kill(pid, signal.SIGKILL)
# A task that had just started may have been given to another engine before that died, too.
deaths = (client.EngineDied,) if KIND == "mec" else (client.EngineDied, client.BrokenEnginePool)
for future in futures:
    assert isinstance(future.exception(timeout=20), deaths), future.exception()
for future in waiting:
    with raises(BrokenExecutor, "all engines"):
        future.result(timeout=20)
with raises(client.BrokenEnginePool, "create a new executor"):
    list(mapped)
with raises(client.BrokenEnginePool, "all engines"):
    executor.submit(square, 2)
assert "broken" in repr(executor)
executor.shutdown()
with raises(BrokenExecutor):
    executor.submit(square, 2)
if KIND == "mec":
    with raises(client.NoEnginesRegistered):
        make()
else:
    status = tc.queue_status()
    assert not status["scheduled"] and not status["pending"], status

# With new engines, a new executor works.
more_engines(3)
with make() as executor:
    assert list(executor.map(square, range(30))) == [n * n for n in range(30)]

# A program that ends waits until its executor has finished; callbacks are called, too.
program = f"""
import time
from ipython1.kernel import client
executor = client.{"MultiEngineClient" if KIND == "mec" else "TaskClient"}().executor()
def slow(n):
    time.sleep(0.2)
    return n
for n in range(6):
    executor.submit(slow, n).add_done_callback(lambda future: print(future.result(), flush=True))
executor.shutdown(wait=False)
print('the end', flush=True)
"""
(FILES / "program.py").write_text(program)
ended = subprocess.run(
    [sys.executable, str(FILES / "program.py")],
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
)
lines = ended.stdout.split("\n")
assert ended.returncode == 0 and lines[0] == "the end", (ended.stdout, ended.stderr)
assert sorted(lines[1:-1]) == list("012345"), ended.stdout

# The client is closed, with calls under way.
other = client.MultiEngineClient() if KIND == "mec" else client.TaskClient()
executor = other.executor()
futures = [executor.submit(time.sleep, 1.0) for _ in range(8)]
other.close()
for future in futures:
    with raises(client.BrokenEnginePool, "closed"):
        future.result(timeout=20)
with raises(client.BrokenEnginePool):
    executor.submit(square, 2)
executor.shutdown()
with raises(client.ConnectionError):
    other.executor()

# The controller is killed, and started again.
executor = make()
lock = Path(os.environ["IPYTHONDIR"]) / "security" / "ipcontroller.lock"
futures = [executor.submit(slow_square, n) for n in range(20)]
os.kill(int(lock.read_text()), signal.SIGKILL)
later = executor.submit(square, 30)
assert [future.result(timeout=60) for future in futures] == [n * n for n in range(20)]
assert later.result(timeout=60) == 900

# The controller ends.
futures = busy(executor, "four", 3) + [executor.submit(square, n) for n in range(20)]
client.MultiEngineClient().kill(controller=True)
for future in futures:
    with raises((BrokenExecutor, client.EngineDied)):
        future.result(timeout=20)
with raises(client.BrokenEnginePool, "gone"):
    executor.submit(square, 2)
executor.shutdown()
with raises(client.ConnectionError):
    make()

print(f"the {KIND} executor survives, or says why not")
