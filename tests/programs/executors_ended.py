"""Executors where nothing can run their calls: in forked children, after the reactor has stopped, and at the very end.

Run as ``executors_ended.py mec`` or ``tc``.  Whatever hangs ends the program.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

from twisted.internet import reactor

from ipython1.kernel import client

KIND = sys.argv[1]


@contextlib.contextmanager
def raises(kind: type[BaseException], text: str) -> Iterator[None]:
    try:
        yield
    except kind as problem:
        assert text in str(problem), f"{text!r} is not in {problem}"
    else:
        raise AssertionError(f"no {kind.__name__} was raised")


def in_child(check: Callable[[], None]) -> None:
    """Run a check in a forked child."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            check()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0, "the child failed"


def refused(make: Callable[[], Executor], executor: Any, text: str) -> None:
    """Check that an executor accepts nothing."""
    for call in (
        lambda: executor.submit(abs, -1),
        lambda: executor.map(abs, [-1]),
        lambda: executor.map(abs, []),
        executor.abort,
        make,
    ):
        with raises(client.ClientError, text):
            call()


def in_forked_children(make: Callable[[], Executor]) -> None:
    executor: Any = make()
    done = executor.submit(abs, -3)
    assert done.result() == 3
    waiting: list[Future] = [executor.submit(time.sleep, 0.2) for _ in range(6)]
    values = executor.map(abs, range(5))

    def check() -> None:
        text = "this process was forked"
        refused(make, executor, text)
        for future in waiting:
            for call in (future.result, future.exception, future.cancel, future.abort):
                with raises(client.ClientError, text):
                    call()
            assert not future.running()
        with raises(client.ClientError, text):
            next(values)
        assert done.result() == 3 and done.exception() is None
        with executor:
            pass
        executor.shutdown(wait=True, cancel_futures=True)

    in_child(check)
    assert list(values) == list(range(5)) and [f.result() for f in waiting] == [None] * 6
    executor.shutdown()


def at_the_end(executor: Executor) -> None:
    """Run when the interpreter is ending, before the reactor is stopped."""
    with raises(RuntimeError, "cannot schedule new futures after interpreter shutdown"):
        executor.submit(abs, -1)
    print(f"the {KIND} executor refuses what cannot run", flush=True)


def after_the_reactor(make: Callable[[], Executor]) -> None:
    executor: Any = make()
    future = executor.submit(time.sleep, 1)
    ended: list[BaseException | None] = []
    thread = threading.Thread(target=lambda: ended.append(future.exception()))
    thread.start()
    reactor.callFromThread(reactor.stop)  # type: ignore[attr-defined]
    thread.join()
    # The one who waited is told, and nothing keeps the program from ending.
    assert isinstance(ended[0], client.BrokenEnginePool), ended
    for each in threading.enumerate():
        if each.name == "ipython1-reactor":
            each.join()
    refused(make, executor, "reactor has stopped")
    executor.shutdown()
    print(f"the {KIND} executor says that the reactor has stopped", flush=True)


def main() -> None:
    faulthandler.dump_traceback_later(60, exit=True)
    user: Any = client.MultiEngineClient() if KIND == "mec" else client.TaskClient()
    if sys.argv[2] == "stop":
        after_the_reactor(user.executor)
    else:
        in_forked_children(user.executor)
        atexit.register(at_the_end, user.executor())


if __name__ == "__main__":
    main()
