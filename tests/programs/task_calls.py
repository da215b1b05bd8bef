"""``submit``, maps item by item, and lazy maps of a blocking task client, on a real cluster of four engines."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ipython1.kernel import client

tc = client.TaskClient()
mec = client.MultiEngineClient()


def fails(problem: type[BaseException], call: Callable[[], Any], text: str = "") -> BaseException:
    try:
        value = call()
    except problem as error:
        assert text in str(error), error
        return error
    raise AssertionError(f"{value!r} was returned")


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.01)


def nothing_runs() -> bool:
    status = tc.queue_status()
    return bool(status["scheduled"] == status["pending"] == 0)


def sleep_and_give(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def wait_and_give(gate: str, number: int) -> int:
    """Give a number once there is a file for it."""
    while not os.path.exists(f"{gate}{number}"):
        time.sleep(0.01)
    return number


def one_by_one(gate: str, values: Iterator[int]) -> list[int]:
    """Return values in the order in which they come, of calls of :func:`wait_and_give` that end from 0 on."""
    found: list[int] = []
    Path(f"{gate}0").touch()
    for value in values:
        found.append(value)
        Path(f"{gate}{value + 1}").touch()
    return found


def uneven(number: int) -> int:
    if number % 10 == 3:
        raise KeyError(number)
    return number


def interrupted(call: Callable[[], Any]) -> BaseException:
    """Return what a wait raises that Ctrl-C ends."""
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        return fails(KeyboardInterrupt, call)
    finally:
        timer.join()


# -- submit


def check_submit() -> None:
    future = tc.submit(pow, 2, 10)
    assert isinstance(future, concurrent.futures.Future) and future.result() == 1024
    assert tc.get_task_result(future.taskid, block=True).result == 1024
    assert tc.submit(dict, block=False, retries=2).result() == {"block": False, "retries": 2}
    futures = [tc.submit(pow, 2, n) for n in range(20)]
    found = [each.result() for each in concurrent.futures.as_completed(futures)]
    assert sorted(found) == [2**n for n in range(20)]
    error = fails(ZeroDivisionError, tc.submit(divmod, 1, 0).result)
    assert "ZeroDivisionError" in str(error.__cause__)
    fails(TypeError, lambda: tc.submit("a=1"), "submit() needs a function")
    fails(client.SerializationError, tc.submit(len, threading.Lock()).result)


def check_cancelling() -> None:
    running = [tc.submit(time.sleep, 60) for _ in range(4)]
    until(lambda: all(each.running() for each in running))
    waiting = [tc.submit(abs, 1) for _ in range(20)]
    assert waiting[-1].cancel() and waiting[-1].cancelled()
    assert not running[0].cancel()
    fails(client.TaskAborted, running[0].result)
    for _ in range(5):
        # Most of these are cancelled before they are sent; the methods that take ids know them all the same.
        at_once = tc.submit(time.sleep, 60)
        at_once.cancel()
        tc.barrier(at_once.taskid, timeout=60)
        failure = tc.get_task_result(at_once.taskid, block=True).failure
        assert isinstance(failure, client.TaskAborted), failure
    message = str(interrupted(running[1].result))
    assert message == "KeyboardInterrupt: the call continues; abort() of its future ends it"
    for each in running:
        each.cancel()
    assert [each.result() for each in waiting[:-1]] == [1] * 19


async def check_awaiting() -> None:
    assert await tc.submit(pow, 3, 3) == 27
    future = tc.submit(time.sleep, 60)
    try:
        await asyncio.wait_for(asyncio.wrap_future(future), 0.3)
    except TimeoutError:
        pass
    while not future.done():  # cancelling is passed on by the loop
        await asyncio.sleep(0.01)
    assert future.cancelled() or isinstance(future.exception(), client.TaskAborted)


def check_options() -> None:
    own = tc.with_options(depend=lambda properties: properties.get("special"))
    mec.set_properties({"special": True}, targets=2)
    assert {own.submit(os.getpid).result() for _ in range(10)} == {*mec.apply(os.getpid)[2:3]}
    assert {*own.map(lambda _: os.getpid(), range(10))} == {*mec.apply(os.getpid)[2:3]}
    assert {*own.imap(lambda _: os.getpid(), range(10))} == {*mec.apply(os.getpid)[2:3]}
    mec.clear_properties()
    late = tc.with_options(timeout=0.2).submit(time.sleep, 60)
    fails(client.TaskTimeout, late.result)


def check_the_end_of_a_program() -> None:
    """A program does not wait for what it has submitted; the result is there for others."""
    program = "from ipython1.kernel import client; tc = client.TaskClient();"
    program += "import time; f = tc.submit(time.sleep, 90); tc.flush(); print(f.taskid)"
    shown = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    task_id = int(shown.stdout)
    assert tc.get_task_result(task_id) is None
    tc.abort(task_id)


# -- maps, item by item


def check_items(directory: str) -> None:
    gate = f"{directory}/items"
    pending = tc.map(wait_and_give, [gate] * 4, [3, 0, 2, 1], block=False)
    assert len(pending) == 4 and pending and pending.progress[1] == 4
    assert one_by_one(gate, pending.as_completed()) == [0, 1, 2, 3]
    assert pending[1] == 0 and pending[-1] == 1 and pending[1:3] == [0, 2]
    assert list(pending) == pending.r == [3, 0, 2, 1]
    by_engine = pending.get_dict().values()
    assert sorted(itertools.chain(*by_engine)) == [0, 1, 2, 3]
    fails(IndexError, lambda: pending[4])
    begun = time.monotonic()
    pending = tc.map(sleep_and_give, [0.3] * 4, block=False)
    assert pending.r == [0.3] * 4
    passed = time.monotonic() - begun
    assert 0.29 < pending.wall_time < passed and 1.1 < pending.serial_time < 4 * passed

    pending = tc.map(sleep_and_give, [0.05, 60, 60, 60, 60], block=False)
    assert next(iter(pending)) == 0.05 and not pending.done()
    assert pending.wait(return_when=concurrent.futures.FIRST_COMPLETED)
    assert not pending.wait(0.1)
    assert "map is still running" in str(interrupted(lambda: pending[1]))
    pending.abort()
    fails(client.TaskAborted, lambda: pending[1])
    assert pending[0] == 0.05

    pending = tc.map(uneven, range(30), block=False)
    assert pending.wait(return_when=concurrent.futures.FIRST_EXCEPTION)
    items, found = iter(pending), []
    while len(found) < 30:
        try:
            found.append(next(items))
        except KeyError as problem:
            found.append(problem.args[0])
    assert found == list(range(30))
    fails(KeyError, lambda: pending[13])
    assert len(fails(client.CompositeError, lambda: pending.r).items) == 3
    assert sorted(dict(tc.map(abs, range(20000), block=False).as_completed(numbered=True))) == [
        *range(20000)
    ]
    assert tc.map(abs, [-1], block=True) == [1]


# -- lazy maps


def check_lazy(directory: str) -> None:
    squares = tc.imap(lambda x: x * x, itertools.count())
    assert [next(squares) for _ in range(20000)] == [x * x for x in range(20000)]
    squares.close()
    assert list(squares) == []
    assert list(tc.imap(abs, np.arange(3000))) == list(range(3000))
    assert sorted(tc.imap(pow, range(3000), itertools.repeat(2), ordered=False)) == [
        x * x for x in range(3000)
    ]
    gate = f"{directory}/lazy"
    unordered = tc.imap(wait_and_give, [gate] * 4, [3, 0, 2, 1], ordered=False)
    assert one_by_one(gate, unordered) == [0, 1, 2, 3]
    rows = (np.full(1, n) for n in range(1000))
    assert sum(tc.imap(lambda row: row[0], rows)) == 499500


def slowly(number: int) -> Iterator[int]:
    for each in range(number):
        time.sleep(0.3)
        yield each


def check_bounds() -> None:
    read: list[int] = []
    source = (read.append(n) or n for n in itertools.count())  # type: ignore[func-returns-value]
    values = tc.imap(abs, source, outstanding=5)
    for number in range(100):
        assert next(values) == number and len(read) - number - 1 <= 5
    del values
    gc.collect()
    until(nothing_runs)
    begun = time.monotonic()
    assert next(tc.imap(abs, slowly(100))) == 0
    assert time.monotonic() - begun < 5, "values wait for the input"


def check_ends_of_loops() -> None:
    """Whatever ends a loop, nothing goes on on the engines."""
    for _ in tc.imap(sleep_and_give, itertools.chain([0.1], itertools.repeat(60))):
        break
    until(nothing_runs)
    try:
        for _ in tc.imap(uneven, itertools.count()):
            pass
    except KeyError as problem:
        kept = problem  # as an interactive session keeps the last one
    until(nothing_runs)
    assert kept.__notes__[-1] == "(item 3 of the input: 3)"
    values = tc.imap(time.sleep, itertools.repeat(60))
    message = str(interrupted(lambda: next(values)))
    assert message == "KeyboardInterrupt: the map was aborted after 0 values"
    until(nothing_runs)
    values = tc.imap(time.sleep, itertools.repeat(60))
    closing = threading.Timer(0.3, values.close)
    closing.start()
    assert list(values) == []
    closing.join()
    until(nothing_runs)


def check_sharing() -> None:
    """Several threads share a lazy map, and each value goes to one of them."""
    values, found = tc.imap(abs, range(2000)), []
    threads = [threading.Thread(target=lambda: found.extend(values)) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(found) == list(range(2000))


def die_once(number: int, mark: str) -> int:
    if number == 300 and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def check_death(directory: str) -> None:
    """An engine dies with a group of items, which others run again."""
    marks = itertools.repeat(f"{directory}/died")
    assert list(tc.imap(die_once, range(3000), marks)) == list(range(3000))
    assert len(mec.get_ids()) == 3


check_submit()
check_cancelling()
asyncio.run(check_awaiting())
check_options()
check_the_end_of_a_program()
check_items(sys.argv[1])
check_lazy(sys.argv[1])
check_bounds()
check_ends_of_loops()
check_sharing()
until(nothing_runs)
check_death(sys.argv[1])
tc.close()
fails(client.ConnectionError, lambda: tc.submit(abs, 1))
fails(client.ConnectionError, lambda: tc.imap(abs, [1]))
print("every call gave what it should")
