"""The executors keep the promises of ``concurrent.futures.Executor``; run as ``executors_session.py mec`` or ``tc``."""

from __future__ import annotations

import asyncio
import atexit
import collections
import contextlib
import gc
import itertools
import json
import os
import shutil
import sys
import tempfile
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    Executor,
    Future,
    as_completed,
    wait,
)
from pathlib import Path
from typing import Any

import numpy as np

from ipython1.kernel import client

ENGINES = 4
KIND = sys.argv[1]
mec = client.MultiEngineClient()
tc = client.TaskClient()
FILES = Path(tempfile.mkdtemp(prefix="ipython1-executors-"))
atexit.register(shutil.rmtree, FILES, ignore_errors=True)


def make(**options: Any) -> Any:
    return mec.executor(**options) if KIND == "mec" else tc.executor(**options)


# -- what engines do


def square(x: int) -> int:
    return x * x


def arguments(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def leave_mark(name: str, seconds: float = 0.0) -> str:
    Path(name).write_text(f"{time.time()}")
    time.sleep(seconds)
    return name


def until(name: str, limit: float = 20.0) -> bool:
    """Return once a file of that name exists."""
    end = time.time() + limit
    while not os.path.exists(name):
        if time.time() > end:
            raise AssertionError(f"there is no {name}")
        time.sleep(0.005)
    return True


class OwnError(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} ({code})")
        self.code = code


def fails(x: int) -> int:
    if x < 0:
        raise OwnError(x, "below zero")  # the line that the traceback shows
    return x


def fails_because(x: int) -> int:
    try:
        return {}[x]
    except KeyError as problem:
        raise ValueError("not there") from problem


class OnlyThere:
    """Can be pickled, but not unpickled where this program runs."""

    def __reduce__(self) -> Any:
        return only_there, (os.getpid(),)


def only_there(pid: int) -> str:
    if os.getpid() != pid:
        raise RuntimeError("this is not where it was made")
    return "here"


# -- helpers


@contextlib.contextmanager
def raises(kind: type[BaseException], text: str = "") -> Iterator[None]:
    try:
        yield
    except kind as problem:
        assert text in str(problem), f"{text!r} is not in {problem}"
    else:
        raise AssertionError(f"no {kind.__name__} was raised")


def busy(executor: Executor) -> tuple[str, list[Future]]:
    """Make all engines wait for a file."""
    gate = str(FILES / f"gate{time.monotonic_ns()}")
    futures = [executor.submit(until, gate) for _ in range(ENGINES)]
    end = time.monotonic() + 20
    while not all(future.running() for future in futures):
        assert time.monotonic() < end, "the engines do not begin"
        time.sleep(0.005)
    return gate, futures


def within(seconds: float, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.005)


# -- the promises


def test_calls() -> None:
    with make() as executor:
        assert executor.submit(pow, 2, 5).result() == 32
        assert executor.submit(arguments, 1, a=2, fn=3, self=4).result() == (
            (1,),
            {"a": 2, "fn": 3, "self": 4},
        )
        futures = [executor.submit(square, n) for n in range(300)]
        assert [future.result() for future in futures] == [n * n for n in range(300)]
        assert all(future.done() and not future.running() for future in futures)
        assert {future.engine_id for future in futures} <= set(range(ENGINES))
        with raises(TypeError):
            executor.submit()
        assert isinstance(executor.submit(5).exception(), TypeError)


def test_output_is_kept() -> None:
    with make() as executor:
        future = executor.submit(print, "said on an engine")
        assert future.result() is None and future.stdout == "said on an engine\n", future.stdout


def test_shutdown() -> None:
    executor = make()
    future = executor.submit(nap, 0.3)
    executor.shutdown()
    assert future.done()
    executor.shutdown()
    with raises(RuntimeError, "cannot schedule new futures after shutdown"):
        executor.submit(square, 2)
    executor = make()
    gate = str(FILES / "shutdown")
    futures = [executor.submit(until, gate) for _ in range(6)]
    executor.shutdown(wait=False)
    assert not any(future.done() for future in futures)
    with raises(RuntimeError):
        executor.map(square, [1])
    Path(gate).touch()
    assert [future.result() for future in futures] == [True] * 6
    executor.shutdown(wait=True)
    with make() as unused:
        pass
    with raises(RuntimeError):
        unused.submit(square, 2)


def test_shutdown_cancels() -> None:
    executor = make()
    gate, running = busy(executor)
    marks = [str(FILES / f"never{n}") for n in range(50)]
    waiting = [executor.submit(leave_mark, mark) for mark in marks]
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    assert not any(future.done() for future in running)
    Path(gate).touch()
    executor.shutdown()
    assert all(future.result() for future in running)
    assert not any(os.path.exists(mark) for mark in marks)


def test_map() -> None:
    with make() as executor:
        numbers = list(range(57))
        for chunksize in (1, 2, 10, 57, 1000):
            assert list(executor.map(square, numbers, chunksize=chunksize)) == [
                n * n for n in numbers
            ]
            assert list(executor.map(pow, [2, 3, 4], [5, 2], chunksize=chunksize)) == [32, 9]
        assert list(executor.map(square, [])) == [] and list(executor.map(square)) == []
        for chunksize in (0, -1):
            with raises(ValueError, "chunksize must be >= 1"):
                executor.map(square, [1], chunksize=chunksize)
        for buffersize in (1, 2, 57, 1000):
            for chunksize in (1, 10):
                values = executor.map(square, numbers, chunksize=chunksize, buffersize=buffersize)
                assert list(values) == [n * n for n in numbers]
        endless = itertools.count()
        assert list(itertools.islice(executor.map(square, endless, buffersize=3), 3)) == [0, 1, 4]
        assert next(endless) == 6, "more was submitted than is allowed"
        for kind, size in ((ValueError, 0), (TypeError, 2.0)):
            with raises(kind, "buffersize must be"):
                executor.map(square, [1], buffersize=size)
        # The call submits everything, whether or not anybody looks at the values.
        taken: list[int] = []
        marks = [str(FILES / f"mapped{n}") for n in range(3)]
        iterator = executor.map(leave_mark, (taken.append(1) or mark for mark in marks))
        assert taken == [1, 1, 1]
        within(10, lambda: all(os.path.exists(mark) for mark in marks))
        assert next(iterator) == marks[0] and list(iterator) == marks[1:]


def test_map_fails_where_the_call_fails() -> None:
    with make() as executor:
        for chunksize in (1, 3, 10):
            got: list[int] = []
            with raises(OwnError, "below zero (-1)"):
                got.extend(executor.map(fails, [5, 4, 3, 2, -1, 7, 8], chunksize=chunksize))
            assert got == [5, 4, 3, 2], (chunksize, got)


def test_map_timeout() -> None:
    with make() as executor:
        got: list[bool] = []
        gate, opened = str(FILES / "map-timeout"), str(FILES / "opened")
        Path(opened).touch()
        with raises(TimeoutError):
            got.extend(executor.map(until, [opened, opened, gate], timeout=2.0))
        assert got == [True, True]
        Path(gate).touch()
        assert list(executor.map(nap, [0, 0.01], timeout=20)) == [0, 0.01]


def test_what_is_left_of_a_map_is_cancelled() -> None:
    with make() as executor:
        gate, running = busy(executor)
        for how in ("close", "error"):
            marks = [str(FILES / f"{how}{n}") for n in range(20)]
            values = executor.map(leave_mark, marks, timeout=0.05)
            if how == "close":
                with raises(TimeoutError):
                    next(values)
                values.close()
            else:
                with raises(TimeoutError):
                    list(values)
            last = executor.submit(square, 3)
        Path(gate).touch()
        assert last.result() == 9 and all(future.result() for future in running)
        assert not [name for name in os.listdir(FILES) if name.startswith(("close", "error"))]


def test_cancel() -> None:
    with make() as executor:
        gate, running = busy(executor)
        marks = [str(FILES / f"cancelled{n}") for n in range(9)]
        waiting = [executor.submit(leave_mark, mark) for mark in marks]
        told: list[Future] = []
        for future in waiting:
            future.add_done_callback(told.append)
            assert not future.running() and not future.done()
        assert not any(future.cancel() for future in running)
        assert all(future.running() for future in running)
        keep, cancelled = waiting[4], [*waiting[:4], *waiting[5:]]
        assert all(future.cancel() for future in cancelled)
        assert all(future.cancel() and future.cancelled() and future.done() for future in cancelled)
        assert not any(future.running() for future in cancelled)
        assert wait(cancelled, timeout=5).not_done == set()
        assert set(told) == set(cancelled)
        for look in (cancelled[0].result, cancelled[0].exception):
            with raises(CancelledError):
                look()
        Path(gate).touch()
        assert keep.result() == marks[4] and not keep.cancel() and not keep.cancelled()
        executor.shutdown()
        assert [mark for mark in marks if os.path.exists(mark)] == [marks[4]]


def test_callbacks() -> None:
    with make() as executor:
        gate, _ = busy(executor)
        calls: list[Any] = []
        finished = threading.Event()
        future = executor.submit(square, 4)
        future.add_done_callback(lambda f: calls.append(("first", f is future, f.result())))
        future.add_done_callback(lambda f: 1 / 0)
        # A callback may wait for other calls.
        future.add_done_callback(lambda f: calls.append(executor.submit(square, 5).result()))
        future.add_done_callback(lambda f: finished.set())
        Path(gate).touch()
        assert finished.wait(20)
        assert calls == [("first", True, 16), 25], calls
        future.add_done_callback(lambda f: calls.append(threading.current_thread()))
        assert calls[-1] is threading.current_thread()
        seen = threading.Event()
        broken = executor.submit(fails, -1)
        broken.add_done_callback(lambda f: seen.set() if f.exception() else None)
        assert seen.wait(20)
        late: list[int] = []
        slow = executor.submit(nap, 0.1)
        slow.add_done_callback(lambda f: (time.sleep(0.3), late.append(1)))
    assert late == [1], "shutdown did not wait for a callback"


def test_a_callback_cannot_wait_for_the_end() -> None:
    executor = make()
    problems: list[BaseException] = []

    def end(future: Future) -> None:
        try:
            executor.shutdown()
        except RuntimeError as problem:
            problems.append(problem)

    executor.submit(nap, 0.1).add_done_callback(end)
    executor.shutdown()
    assert len(problems) == 1


def test_wait_and_as_completed() -> None:
    with make() as executor:
        gates = [str(FILES / f"waited{n}") for n in range(4)]
        quick, slow = executor.submit(square, 2), executor.submit(until, gates[3])
        done, not_done = wait([quick, slow], return_when=FIRST_COMPLETED, timeout=20)
        assert quick in done and slow in not_done
        assert wait([slow], timeout=0.01).done == set()
        with raises(TimeoutError):
            list(as_completed([quick, slow], timeout=0.05))
        with raises(TimeoutError):
            slow.result(timeout=0.01)
        with raises(TimeoutError):
            slow.exception(timeout=0)
        bad = executor.submit(fails, -1)
        done, not_done = wait([slow, bad], return_when=FIRST_EXCEPTION, timeout=20)
        assert bad in done and slow in not_done
        Path(gates[3]).touch()
        assert wait([bad, slow, quick], return_when=ALL_COMPLETED).not_done == set()
        futures = {executor.submit(until, gates[n]): n for n in range(3)}
        ended = []
        Path(gates[2]).touch()
        for future in as_completed([*futures, *futures]):
            ended.append(futures[future])
            Path(gates[ended[-1] - 1]).touch()
        assert ended == [2, 1, 0]


def test_exceptions() -> None:
    with make() as executor:
        problem = executor.submit(fails, -3).exception()
        assert (
            type(problem) is OwnError and problem.code == -3 and str(problem) == "below zero (-3)"
        )
        text = "".join(traceback.format_exception(problem))
        assert "# the line that the traceback shows" in text, text
        assert text.count("# the line that the traceback shows") == 1, text
        assert "the line that" in problem.__cause__.tb
        problem = executor.submit(fails_because, 7).exception()
        assert type(problem) is ValueError and isinstance(problem.__cause__, KeyError), problem
        text = "".join(traceback.format_exception(problem))
        assert 'raise ValueError("not there") from problem' in text, text
        for kind in (SystemExit, KeyboardInterrupt):
            with raises(kind):
                executor.submit(exec, f"raise {kind.__name__}").result()
        with raises(ModuleNotFoundError, "no_such_module"):
            executor.submit(__import__, "no_such_module").result()
        assert executor.submit(square, 6).result() == 36


def test_what_cannot_travel() -> None:
    with make() as executor:
        for call in (
            lambda: executor.submit(square, threading.Lock()),
            lambda: executor.submit(arguments, a=(n for n in ())),
            lambda: executor.submit(threading.Lock().acquire),
            lambda: executor.submit(threading.Lock),
            lambda: executor.submit(lambda: (n for n in ())),
        ):
            future = call()
            with raises(client.SerializationError, "cannot be sent"):
                future.result()
            assert "lock" in str(future.exception()) or "generator" in str(future.exception())
            assert executor.submit(square, 3).result() == 9
        # The exception is raised here, and only for the caller who asks.
        with raises(client.SerializationError, "this is not where it was made"):
            executor.submit(OnlyThere).result()
        with raises(client.SerializationError, "this is not where it was made"):
            executor.submit(square, OnlyThere()).result()
        assert list(executor.map(square, [1, 2])) == [1, 4]


def test_results_are_read_once() -> None:
    with make() as executor:
        future = executor.submit(list, "abc")
        got: list[Any] = []
        threads = [threading.Thread(target=lambda: got.append(future.result())) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert got == [["a", "b", "c"]] * 5 and all(each is got[0] for each in got)


def test_arrays() -> None:
    with make() as executor:
        large = np.arange(1 << 20, dtype=float)
        future = executor.submit(np.multiply, large, 2)
        twice = future.result()
        assert np.array_equal(twice, large * 2)
        twice[0] = 1.0
        small = np.zeros(1000)
        futures = []
        for n in range(20):
            small[:] = n
            futures.append(executor.submit(np.sum, small))
        assert [future.result() for future in futures] == [1000.0 * n for n in range(20)]


def test_max_workers() -> None:
    for wrong in (0, -1):
        with raises(ValueError, "max_workers must be greater than 0"):
            make(max_workers=wrong)
    with make(max_workers=2) as executor:
        began = time.monotonic()
        list(executor.map(nap, [0.15] * 6))
        assert time.monotonic() - began > 0.44, "more than two ran at the same time"
        gate = str(FILES / "two")
        futures = [executor.submit(until, gate) for _ in range(4)]
        within(10, lambda: [future.running() for future in futures] == [True, True, False, False])
        assert futures[3].cancel() and futures[2].cancel() and not futures[0].cancel()
        Path(gate).touch()


STATUS = "not initialized"


def set_status(status: str) -> None:
    global STATUS
    STATUS = status


def get_status() -> str:
    return STATUS


def bad_initializer() -> None:
    raise OwnError(5, "not possible")


def test_initializer() -> None:
    with make(initializer=set_status, initargs=("ready",)) as executor:
        assert {executor.submit(get_status).result() for _ in range(20)} == {"ready"}
        assert set(executor.map(square, [3] * 9, chunksize=2)) == {9}
        assert executor.submit(arguments, 1, b=2).result() == ((1,), {"b": 2})
        # One that is made later runs its own.
        with make(initializer=set_status, initargs=("again",)) as other:
            gate, running = busy(other)
            Path(gate).touch()
            wait(running)
            assert {executor.submit(get_status).result() for _ in range(20)} == {"again"}
    # It is ended with the calls that wait for it.
    mark = str(FILES / "prepared")
    with make(initializer=leave_mark, initargs=(mark, 60.0), max_workers=1) as executor:
        future = executor.submit(get_status)
        within(20, lambda: os.path.exists(mark))
        executor.abort()
        assert future.cancelled() or future.exception(timeout=20)
    for wrong in ({"initializer": 5}, {"initializer": print, "initargs": 7}):
        with raises(TypeError, next(reversed(wrong))):
            make(**wrong)
    with raises(client.SerializationError, "lock"):
        make(initializer=print, initargs=(threading.Lock(),))


def test_initializer_fails() -> None:
    with make(initializer=bad_initializer) as executor:
        futures = []
        with contextlib.suppress(client.BrokenEnginePool):
            futures.extend(executor.submit(square, n) for n in range(20))
        for future in futures:
            problem = future.exception(timeout=20)
            assert type(problem) is client.BrokenEnginePool, repr(problem)
            assert "initializer failed on engine" in str(problem), problem
            assert "OwnError: not possible (5)" in str(problem), problem
            assert isinstance(problem.__cause__, OwnError), repr(problem.__cause__)
            text = "".join(traceback.format_exception(problem))
            assert "in bad_initializer()" in text, text
        with raises(client.BrokenEnginePool, "not possible"):
            executor.submit(square, 2)
        assert "broken" in repr(executor)
    with make() as executor:
        assert list(executor.map(square, range(9))) == [n * n for n in range(9)]


def test_map_keeps_nothing() -> None:
    with make() as executor:
        for chunksize in (1, 3):
            for value in executor.map(collections.UserList, [()] * 6, chunksize=chunksize):
                kept = weakref.ref(value)
                del value
                assert kept() is None, chunksize
        gc.disable()
        try:
            for chunksize in (1, 3):
                try:
                    list(executor.map(json.loads, ["1", "{"], chunksize=chunksize))
                except json.JSONDecodeError as problem:
                    kept_problem = weakref.ref(problem)
                assert kept_problem() is None, chunksize
            future = executor.submit(json.loads, "{")
            try:
                future.result()
            except json.JSONDecodeError as problem:
                kept_problem = weakref.ref(problem)
            del future
            within(10, lambda: kept_problem() is None)
        finally:
            gc.enable()


def test_number_of_workers() -> None:
    with make() as executor, make(max_workers=3) as three:
        assert (executor._max_workers, three._max_workers) == (ENGINES, 3)


def test_asyncio() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with make() as executor:
            assert await loop.run_in_executor(executor, square, 9) == 81
            assert await executor.submit(square, 8) == 64
            with raises(OwnError):
                await executor.submit(fails, -1)
            several = await asyncio.gather(
                *(loop.run_in_executor(executor, square, n) for n in range(5))
            )
            assert several == [0, 1, 4, 9, 16]
            gate, running = busy(executor)
            mark = str(FILES / "awaited")
            task = loop.run_in_executor(executor, leave_mark, mark)
            task.cancel()
            with raises(asyncio.CancelledError):
                await task
            # asyncio forwards it in the next turn of its loop.
            await asyncio.sleep(0)
            Path(gate).touch()
            await asyncio.gather(*map(asyncio.wrap_future, running))
        assert not os.path.exists(mark)

    asyncio.run(main())


def test_a_slow_call_holds_up_no_other() -> None:
    with make() as executor:
        list(executor.map(nap, [0.0] * 40))
        gate = str(FILES / "slow")
        futures = [
            executor.submit(until, gate) if n == 30 else executor.submit(nap, 0.0)
            for n in range(60)
        ]
        others = [*futures[:30], *futures[31:]]
        assert not wait(others, timeout=20).not_done
        within(10, futures[30].running)
        Path(gate).touch()
        assert futures[30].result()


def test_several_threads() -> None:
    with make() as executor:
        sums: list[int] = []

        def use() -> None:
            sums.append(sum(executor.map(square, range(50))))

        threads = [threading.Thread(target=use) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sums == [sum(n * n for n in range(50))] * 6


def test_abort() -> None:
    with make() as executor:
        future = executor.submit(nap, 60)
        within(10, future.running)
        future.abort()
        expected = KeyboardInterrupt if KIND == "mec" else client.TaskAborted
        assert isinstance(future.exception(timeout=20), expected), repr(future.exception())
        _, running = busy(executor)
        waiting = [executor.submit(square, 2) for _ in range(3)]
        executor.abort()
        assert all(future.cancelled() for future in waiting)
        assert all(isinstance(future.exception(timeout=20), expected) for future in running)
        assert executor.submit(square, 2).result() == 4
    assert mec.get_ids() == list(range(ENGINES))


def test_an_executor_that_nobody_ends() -> None:
    future = make().submit(square, 7)
    assert future.result() == 49


# -- what is special to each


def mec_targets() -> None:
    with mec.executor(targets=[1, 3]) as executor:
        assert executor.engine_ids == [1, 3]
        futures = [executor.submit(square, n) for n in range(40)]
        assert sum(future.result() for future in futures) == sum(n * n for n in range(40))
        assert {future.engine_id for future in futures} == {1, 3}
    with raises(client.InvalidEngineID, "there is no engine 77"):
        mec.executor(targets=[0, 77])
    with raises(TypeError):
        mec.executor(targets="some")


def mec_few_in_the_queues() -> None:
    with mec.executor() as executor:
        list(executor.map(square, range(100)))
        gate = str(FILES / "queues")
        futures = [executor.submit(until, gate) for _ in range(60)]
        within(10, lambda: sum(future.running() for future in futures) == ENGINES)
        for _, status in mec.queue_status():
            assert status["pending"] and len(status["queue"]) <= 1, status
        Path(gate).touch()
        assert all(future.result() for future in futures)


def mec_an_engine_that_does_something_else() -> None:
    gate = str(FILES / "else")
    other = mec.execute(
        f"import os, time\nwhile not os.path.exists({gate!r}): time.sleep(0.01)",
        targets=0,
        block=False,
    )
    with mec.executor() as executor:
        futures = [executor.submit(square, n) for n in range(20)]
        assert not wait(futures, timeout=20).not_done, "calls wait for a busy engine"
        assert {future.engine_id for future in futures} <= {1, 2, 3}
        Path(gate).touch()
        other.get_result()
        # The engine is used again.
        gate2, running = busy(executor)
        Path(gate2).touch()
        assert {future.result() and future.engine_id for future in running} == {0, 1, 2, 3}


def tc_options() -> None:
    counter = FILES / "attempts"

    def second_time(name: str) -> int:
        with open(name, "a") as file:
            file.write("x")
        if os.path.getsize(name) < 2:
            raise ValueError("the first time")
        return os.path.getsize(name)

    with tc.executor(retries=3) as executor:
        assert executor.submit(second_time, str(counter)).result() == 2
    mec.set_properties({"gpu": True}, targets=2)
    with tc.executor(depend=lambda properties: properties.get("gpu")) as executor:
        futures = [executor.submit(square, n) for n in range(5)]
        assert {future.result() is not None and future.engine_id for future in futures} == {2}
    mec.clear_properties(targets=2)
    with raises(ValueError, "retries"):
        tc.executor(retries=-1)
    with tc.executor(timeout=0.2) as executor:
        with raises(client.TaskTimeout):
            executor.submit(nap, 30).result(timeout=20)


def tc_counts_are_clean() -> None:
    with tc.executor() as executor:
        gate, running = busy(executor)
        waiting = [executor.submit(square, n) for n in range(200)]
        assert all(future.cancel() for future in waiting)
        status = tc.queue_status()
        assert (status["pending"], status["scheduled"]) == (ENGINES, 0), status
        Path(gate).touch()
        assert all(future.result() for future in running)


def main() -> None:
    names = [name for name in globals() if name.startswith(("test_", f"{KIND}_"))]
    chosen = [name for name in names if len(sys.argv) < 3 or name in sys.argv[2:]]
    for name in chosen:
        began = time.monotonic()
        globals()[name]()
        print(f"{name}: {time.monotonic() - began:.2f} s", flush=True)
    within(10, lambda: not [t for t in threading.enumerate() if "callbacks" in t.name])
    print(f"the {KIND} executor keeps its promises")


if __name__ == "__main__":
    main()
