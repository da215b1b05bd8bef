"""dask on a real cluster of four engines: through executors, and with workers in the engines."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import dask
import dask.array
import dask.bag
import distributed
import numpy as np
import psutil

from ipython1.kernel import client

tc = client.TaskClient()
mec = client.MultiEngineClient()


class OwnError(Exception):
    pass


@dask.delayed
def add(*numbers: int) -> int:
    return sum(numbers)


@dask.delayed
def process() -> int:
    return os.getpid()


@dask.delayed
def fail(text: str) -> None:
    raise OwnError(text)


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.05)


def compute(**options: Any) -> None:
    """Compute graphs of each kind, with the default scheduler or the one that the options name."""
    total = add(*[add(n, 1) for n in range(10)])
    assert dask.compute(total, **options) == (55,)
    bag = dask.bag.from_sequence(range(100), npartitions=4)
    assert bag.map(lambda n: n * 2).filter(lambda n: n % 3 == 0).sum().compute(**options) == 3366
    numbers = np.arange(10_000.0).reshape(100, 100)
    array = dask.array.from_array(numbers, chunks=(50, 50))
    assert np.allclose(
        (array @ array.T).mean(axis=0).compute(**options), (numbers @ numbers.T).mean(0)
    )
    try:
        dask.compute(fail("for a reason"), **options)
    except OwnError as problem:
        assert str(problem) == "for a reason"
    else:
        raise AssertionError("an error was lost")


def check_executors() -> None:
    pids = {*mec.apply(os.getpid)}
    for pool in (tc.executor(), mec.executor()):
        with pool:
            assert {*dask.compute(*[process() for _ in range(8)], pool=pool)} <= pids
            compute(pool=pool)
            with dask.config.set(pool=pool, scheduler="processes"):
                compute()
    with tc.executor() as pool:
        try:
            dask.compute(fail("here"), pool=pool, scheduler="threads")
        except OwnError as problem:
            assert "in fail" in problem.__notes__[-1], "the engine's traceback is lost"


def threads() -> list[str]:
    return sorted(each.name for each in threading.enumerate())


def listening() -> list[Any]:
    connections = psutil.Process().net_connections("tcp")
    return [each.laddr for each in connections if each.status == psutil.CONN_LISTEN]


def check_workers() -> None:
    before = mec.apply(threads)
    dask_client = mec.become_dask()
    assert isinstance(dask_client, distributed.Client)
    assert {*dask_client.run(os.getpid).values()} == {*mec.apply(os.getpid)}
    compute()
    assert mec.execute("a = 1 + 1; a")[0]["result"] and tc.map(abs, [-1, -2]) == [1, 2]
    assert mec.become_dask() is dask_client
    check_security(dask_client)
    mec.stop_dask()
    mec.stop_dask()
    until(lambda: mec.apply(threads) == before)
    assert listening() == []


def check_security(dask_client: distributed.Client) -> None:
    """Nothing listens but dask's own connections, which take nobody without the key."""
    ports = [*mec.apply(listening), listening()]
    assert [[each.ip for each in own] for own in ports] == [["127.0.0.1"]] * 5, ports
    address = dask_client.scheduler.address
    assert address.startswith("tls://127.0.0.1:")
    other = distributed.Security.temporary()
    for where, security in ((address.replace("tls:", "tcp:"), None), (address, other)):
        try:
            distributed.Client(where, security=security, timeout=5, set_as_default=False)
        except OSError:
            continue
        raise AssertionError(f"{where} takes everybody")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    worker = next(iter(dask_client.scheduler_info()["workers"]))
    for each in (address, worker):
        host, _, port = each.removeprefix("tls://").rpartition(":")
        try:
            with socket.create_connection((host, int(port)), 5) as plain:
                with context.wrap_socket(plain) as peer:
                    assert peer.recv(1) == b"", "somebody without a certificate was answered"
        except OSError:
            pass


def check_missing() -> None:
    """Engines without distributed are left out, with a word; if there are no others, that is an error."""
    mec.execute("import sys; sys.modules['distributed'] = None", targets=[1, 2])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dask_client = mec.become_dask()
    [told] = [str(each.message) for each in caught if "dask worker" in str(each.message)]
    assert told.startswith("engines 1-2 get no dask worker") and "ipython1[dask]" in told, told
    assert len(dask_client.scheduler_info()["workers"]) == 2
    mec.stop_dask()
    try:
        mec.become_dask([1, 2])
    except client.ClientError as problem:
        assert "pip install ipython1[dask]" in str(problem)
    mec.execute("del sys.modules['distributed']", targets=[1, 2])


def check_a_program_that_is_killed() -> None:
    """Workers end with the program that has the scheduler."""
    before = mec.apply(threads)
    program = "from ipython1.kernel import client; import time\n"
    program += "dc = client.MultiEngineClient().become_dask(); print(dc.submit(pow, 2, 3).result(), flush=True)\n"
    program += "time.sleep(100)"
    started = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    with started:
        assert started.stdout.readline() == "8\n"
        assert mec.apply(threads) != before
        started.send_signal(signal.SIGKILL)
    until(lambda: mec.apply(threads) == before)


def check_death() -> None:
    """An engine dies; its work goes to others.  The client is closed, and all ends."""
    dask_client = mec.become_dask()
    futures = dask_client.map(lambda n: (time.sleep(0.05), n)[1], range(40))
    mec.kill(targets=3)
    assert dask_client.gather(futures) == list(range(40))
    mec.close()
    assert dask_client.status == "closed" and listening() == []


check_executors()
check_workers()
check_missing()
check_a_program_that_is_killed()
check_death()
print("dask gives on engines what it gives elsewhere")
