"""What a user reaches for first: views, results one by one, waiting for engines, and errors that say what to do."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION
from pathlib import Path
from typing import Any

import numpy

from ipython1.kernel import client


def raises(kind: type[BaseException], text: str, call: Callable[[], Any]) -> Any:
    try:
        call()
    except BaseException as problem:
        assert type(problem) is kind, f"{type(problem)}: {problem}"
        assert text in str(problem), f"{text!r} is not in {problem!s}"
        return problem
    raise AssertionError(f"{kind} was not raised")


@contextlib.contextmanager
def ctrl_c_after(seconds: float) -> Any:
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    yield
    timer.join()


@contextlib.contextmanager
def ctrl_c_when_told() -> Any:
    """Press Ctrl-C once standard error has a line, which is kept."""
    with contextlib.redirect_stderr(io.StringIO()) as seen:

        def press() -> None:
            limit = time.monotonic() + 30
            while "\n" not in seen.getvalue() and time.monotonic() < limit:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=press)
        thread.start()
        yield seen
        thread.join()


def has(name: str) -> list[bool]:
    """Whether each engine has a name."""
    names = mec.keys()
    return [name in each for each in names]


mec = client.MultiEngineClient()
assert mec.wait_for_engines(4, timeout=30) == [0, 1, 2, 3]
mec.scatter("rank", range(4), flatten=True)

# -- views: which engines
assert mec[1].ids == [1] and mec[1:3].ids == [1, 2] and mec[[2, 0]].ids == [2, 0]
assert mec[0, 3].ids == [0, 3] and mec[range(2)].ids == [0, 1] and mec[:].ids == mec.ids
assert mec[::2].ids == [0, 2] and mec[2:99].ids == [2, 3] and mec[3:0:-1].ids == [3, 2, 1]
assert mec[numpy.int64(2)].ids == [2] and mec[numpy.array([1, 3])].ids == [1, 3]
some = mec[[2, 0]]
assert len(some) == 2 and list(some) == [2, 0] and 2 in some and 1 not in some and some
assert some[0].ids == [0] and some[:1].ids == [0] and repr(some) == repr(mec[[2, 0]])
assert "targets=[2, 0], block=True" in repr(some), some
raises(client.InvalidEngineID, "there is no engine 7; the engines are 0-3", lambda: mec[7])
raises(client.InvalidEngineID, "an id, not a position", lambda: mec[-1])
raises(client.InvalidEngineID, "ids are not negative", lambda: mec[-2:])
raises(client.InvalidEngineID, "no engine with an id in 4:", lambda: mec[4:])
raises(client.InvalidEngineID, "twice", lambda: mec[[1, 1]])
raises(client.InvalidEngineID, "empty", lambda: mec[[]])
raises(client.InvalidEngineID, "no engine 1 in this view", lambda: some[1])
raises(client.InvalidEngineID, "no engine 3 in this view", lambda: some.pull("rank", targets=3))
for wrong in (True, 1.5, None, {0: 1}, b"0"):
    raises(TypeError, "", lambda wrong=wrong: mec[wrong])
raises(TypeError, "cannot be pickled", lambda: pickle.dumps(some))
raises(client.ClientError, "close the client", some.close)
raises(client.ClientError, "ends the controller", lambda: some.kill(controller=True))

# -- views: the same methods, on these engines only
assert some.pull("rank") == [2, 0] and some["rank"] == [2, 0]
some["a"] = 1
assert some.gather("rank") == [2, 0] and has("a") == [1, 0, 1, 0]
assert some.apply(lambda x: x + rank, 10) == [12, 10]  # type: ignore[name-defined]  # noqa: F821
where = lambda x: (rank, x)  # type: ignore[name-defined]  # noqa: E731, F821
assert some.map(where, "abc") == [(2, "a"), (2, "b"), (0, "c")]
assert {at for at, _ in some.mapper().map(where, range(8))} == {0, 2}
assert {at for at, _ in some.raw_map(where, [range(8)])} == {0, 2}
assert {at for at, _ in some.parallel()(where)(range(8))} == {0, 2}
some.scatter("part", range(4))
assert mec.pull("part", targets=[2, 0]) == [[0, 1], [2, 3]] and some.gather("part") == [0, 1, 2, 3]
with some.executor() as executor:
    assert list(executor.map(where, range(6), chunksize=1)) and executor.engine_ids == [0, 2]
with contextlib.redirect_stdout(io.StringIO()), some.sync_imports():
    import colorsys
assert colorsys and has("colorsys") == [1, 0, 1, 0]
with some:
    client.remote()
    in_block = rank + 1  # type: ignore[name-defined]  # noqa: F821
assert some["in_block"] == [3, 1]
assert [engine_id for engine_id, _ in some.queue_status()] == [2, 0]
some.targets, some.block = 2, False
assert some.pull("rank").r == [2] and mec.block is True and mec.targets == "all"

# -- the view of one engine: single values, and its own exceptions
one = mec[1]
assert one["rank"] == 1 and one.pull(["rank", "rank"]) == [1, 1] and one.push({"b": 2}) is None
assert one.apply(abs, -3) == 3 and one.keys() == ["b", "rank"] and one.zip_pull(["b"]) == [2]
assert one.map(abs, [-1, -2]) == [1, 2] and one.gather("rank") == [1]
result = one.execute("print('hello'); 6 * 7")
assert result["stdout"] == "hello\n" and result["id"] == 1
assert (
    repr(result)
    == f"[1] In [{result['number']}]: print('hello'); 6 * 7\n[1] Out[{result['number']}]: hello\n42"
)
assert one.get_result()["number"] == result["number"]
one.set_properties({"big": True})
assert one.get_properties() == {"big": True} and one.has_properties(["big", "x"]) == [True, False]
problem = raises(ZeroDivisionError, "division by zero", lambda: one.execute("1/0"))
assert "ZeroDivisionError" in problem.__notes__[-1], problem.__notes__
raises(client.NotDefined, "'c' is not defined", lambda: one["c"])
raises(client.CompositeError, "SystemExit: 3", lambda: one.execute("import sys; sys.exit(3)"))
failed = raises(client.CompositeError, "item 1: 0", lambda: one.map(lambda x: 1 // x, [1, 0, 1]))
assert failed.results[0] == failed.results[2] == 1
one.block = False
pending = one.apply(lambda: 1 / 0)
raises(ZeroDivisionError, "division", pending.get_result)
assert isinstance(pending.exception(), ZeroDivisionError) and not pending.successful()
pending = one.apply(abs, -5)
assert (
    list(pending) == [5] and len(pending) == 1 and pending[0] == pending.r == pending.get(10) == 5
)

# -- a view keeps the client open
lonely = client.MultiEngineClient()[0]
gc.collect()
assert lonely["rank"] == 0

# -- pending results, one by one
mec.block = False


def late(gate: str, value: Any = None) -> Any:
    """End once there is a file for this engine."""
    import os
    import time

    time.sleep(0.2)
    while not os.path.exists(f"{gate}{rank}"):  # type: ignore[name-defined]  # noqa: F821
        time.sleep(0.01)
    print("engine", rank)  # type: ignore[name-defined]  # noqa: F821
    return rank if value is None else value  # type: ignore[name-defined]  # noqa: F821


gate = os.path.join(os.environ["IPYTHONDIR"], "late")
begun = time.monotonic()
pending = mec.apply(late, gate)
Path(f"{gate}3").touch()
assert pending.wait(return_when=FIRST_COMPLETED) and not pending.ready and pending[3] == 3
found = []
for value in pending.as_completed():
    found.append(value)
    Path(f"{gate}{value - 1}").touch()
passed = time.monotonic() - begun
assert found == [3, 2, 1, 0] and list(pending) == pending.r == [0, 1, 2, 3]
assert next(pending.as_completed(numbered=True)) == (3, 3) and len(pending) == 4
assert (
    pending[1:] == [1, 2, 3] and pending[-1] == 3 and pending.get_dict() == {i: i for i in range(4)}
)
assert pending.stdout == {i: f"engine {i}\n" for i in range(4)}, pending.stdout
assert 0.19 < pending.wall_time < passed and 0.79 < pending.serial_time < 4 * passed, passed
raises(IndexError, "apply has 4 results", lambda: pending[4])
raises(TypeError, "numbered from 0", lambda: pending["stdout"])

pending = mec.map(lambda x: [x], range(6), block=False)
assert list(pending) == [[x] for x in range(6)] and len(pending) == 6 and pending[4] is pending.r[4]
assert pending.get_dict() == {0: [[0], [1]], 1: [[2], [3]], 2: [[4]], 3: [[5]]}
pending = mec.mapper(dist="r", block=False).map(abs, range(6))
assert list(pending) == list(range(6)) and pending.get_dict()[0] == [0, 4]
assert sorted(pending.as_completed(numbered=True)) == [(x, x) for x in range(6)]
assert list(mec.map(abs, [])) == [] and list(mec.map(abs, [-1])) == [1]

# in pieces, an engine's first item is there before its last one
begun, gate = time.monotonic(), f"{gate}-in-pieces"
pending = mec.map(lambda x: late(gate, x) if x else x, range(4), targets=0, chunks=4)
assert next(iter(pending)) == 0 and not pending.ready and pending.unfinished == [0]
Path(f"{gate}0").touch()
assert list(pending.as_completed()) == list(pending) == pending.r == [0, 1, 2, 3]
assert (
    pending.get_dict() == {0: [0, 1, 2, 3]}
    and 0.59 < pending.serial_time < time.monotonic() - begun
)
pending = mec.map(lambda x: 6 // x, [0, 1, 2, 3, 0, 6], targets=[1, 2], chunks=3)
assert pending[1:4] == [6, 3, 2] and pending[5] == 1 and len(pending) == 6
assert pending.failures().keys() == {1, 2} and pending.exception().results[1] == 6
pending = mec.map(lambda x: 1 // x, [1, 0, 1, 1])
items = iter(pending)
assert next(items) == 1
raises(ZeroDivisionError, "", lambda: next(items))
assert list(items) == [1, 1] and pending.exception().results[2] == 1
pending = mec.pull("rank")
assert [*pending] == [0, 1, 2, 3] and [*mec.gather("rank")] == [0, 1, 2, 3]
assert [*mec.zip_pull(["rank"])] == [(0, 1, 2, 3)] and len(mec.queue_status()) == 4
big = mec[:2].apply(numpy.ones, 200_000)
assert big[0] == 1.0 if numpy.ndim(big[0]) == 0 else big[0] is big.r[0]

# -- an engine's error is seen while others still run
sys.ps1 = ">>> "  # a person waits
code = "import time\nif rank == 1: raise ValueError('rank 1 is lost')\ntime.sleep(60)"
pending = mec.execute(code)
assert pending.wait(timeout=30, return_when=FIRST_EXCEPTION) and not pending.wait(timeout=0.1)
assert list(map(str, pending.failures().values())) == ["rank 1 is lost"]
lost = "execute raised ValueError: rank 1 is lost here, and still runs on engines 0,2-3"
assert lost in repr(mec.stacks(block=True)) and lost in repr(mec[1].stacks(block=True))
with ctrl_c_when_told() as seen:
    interrupted = raises(
        client.WaitInterrupted, "still running on engines 0,2-3", pending.get_result
    )
assert str(interrupted).endswith("\nengine 1 raised ValueError: rank 1 is lost"), interrupted
assert (
    seen.getvalue()
    == "engine 1 raised ValueError: rank 1 is lost. execute still runs on engines 0,2-3\n"
)
with ctrl_c_after(0.3):
    raises(client.WaitInterrupted, "rank 1 is lost", lambda: list(pending))
with ctrl_c_after(1.4), contextlib.redirect_stderr(io.StringIO()) as seen:
    raises(client.WaitInterrupted, "waiting for 5 engines; 4 are", lambda: mec.wait_for_engines(5))
assert "4 of 5 engines registered" in seen.getvalue(), seen.getvalue()
del sys.ps1
pending.abort()
outcomes = iter(pending)
raises(client.CompositeError, "[0:execute]: KeyboardInterrupt", lambda: next(outcomes))
raises(ValueError, "rank 1 is lost", lambda: next(outcomes))
mec.block = True

# -- code on an engine takes results one by one, too
nested = """
from ipython1.kernel import client
with_others = client.MultiEngineClient()[1:]
with_others.block = False
total = sum(with_others.apply(pow, 2, 3))
"""
mec.execute(nested, targets=0)
assert mec[0]["total"] == 24

# -- names that are nearly right
raises(AttributeError, "use apply() of a client or view", lambda: mec.apply_sync)
raises(AttributeError, "mec[:] of all engines", lambda: mec.direct_view)
raises(AttributeError, "client.TaskClient()", lambda: mec[0].load_balanced_view)
raises(AttributeError, "did you mean 'execute'?", lambda: mec.excute)
raises(AttributeError, "use wait(timeout)", lambda: pending.wait_for)
raises(TypeError, "did you mean 'targets'?", lambda: mec.execute("a = 1", target=0))
raises(TypeError, "has no parameter 'targets'", lambda: mec.apply(abs, -1, targets=0))

# -- an engine that comes, and one that goes
started = time.monotonic()
engine = subprocess.Popen(
    [sys.executable, "-m", "ipython1.kernel.scripts.ipengine"],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
)
try:
    assert mec.wait_for_engines(5, timeout=60) == [0, 1, 2, 3, 4]
    assert mec[4:].ids == [4] and mec[4].apply(os.getpid) == engine.pid
    last = mec[[0, 4]]
    last.block = False
    pending = last.execute("import time; time.sleep(1)")
    engine.kill()
    raises(client.EngineDied, "engine 4", lambda: pending[1])
    assert pending[0]["id"] == 0
finally:
    engine.kill()
    engine.wait()
raises(client.ResultNotCompleted, "only 4 are registered", lambda: mec.wait_for_engines(5, 0.1))
raises(client.InvalidEngineID, "there is no engine 4", lambda: last.execute("a = 1").r)


# -- errors that are short
def frames_of_ours(problem: BaseException) -> int:
    """How many lines of this package a traceback shows."""
    frames, entry = 0, problem.__traceback__
    while entry is not None:
        frames += f"{os.sep}kernel{os.sep}" in entry.tb_frame.f_code.co_filename
        entry = entry.tb_next
    return frames


unknown = raises(client.InvalidEngineID, "no engine 9", lambda: mec.execute("a", targets=9))
assert frames_of_ours(unknown) == 1
assert frames_of_ours(raises(ZeroDivisionError, "", lambda: mec[0].execute("1/0"))) == 1
raises(AttributeError, "did you mean 'targets'?", lambda: setattr(mec[0], "target", 0))

# -- clients that cannot be used
raises(
    client.ClientError, "('127.0.0.1', 5000)", lambda: client.MultiEngineClient("127.0.0.1:5000")
)
missing = raises(
    client.NoController, "no cluster 'other' is running here", lambda: client.TaskClient("other")
)
assert not isinstance(missing, client.SecurityError) and isinstance(missing, ConnectionError)
assert frames_of_ours(missing) == 2
view, pending = mec[:], mec.execute("a = 1", block=False)
assert pending.r
mec.close()
raises(client.ClientClosed, "the client was closed by its close()", lambda: mec.execute("a = 1"))
raises(client.ClientClosed, "the client was closed by its close()", lambda: view.execute("a = 1"))
raises(client.ClientClosed, "the client was closed by its close()", lambda: mec.wait_for_engines(4))
assert list(pending) == pending.r
tc = client.TaskClient()
raises(AttributeError, "push(namespace) of a MultiEngineClient", lambda: tc.put)
raises(AttributeError, "use abort(taskids)", lambda: tc.terminate)
raises(AttributeError, "use submit(f, ...)", lambda: tc.apply_async)
tc.close()
raises(client.ClientClosed, "closed by its close()", lambda: tc.run(client.Task("a = 1")))
raises(client.ClientClosed, "closed by its close()", tc.queue_status)
lonely.block = False
pending = lonely.execute("import time; time.sleep(60)")
client.MultiEngineClient().kill(controller=True)
try:
    list(pending)
except (client.EngineDied, client.ConnectionError):  # whichever comes first
    pass
else:
    raise AssertionError("it has a result")
print("everything comes naturally")
