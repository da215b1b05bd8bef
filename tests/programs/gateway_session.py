"""Gateways on real processes: what a user does, and what is killed; run by ``tests/test_gateways.py``.

``python gateway_session.py PART DIRECTORY``: each part is a function below.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ipython1.kernel import client, error
from ipython1.testing.processes import private_environ
from tests import gateways

CONTROLLER = "ipython1.kernel.scripts.ipcontroller"
ENGINE = "ipython1.kernel.scripts.ipengine"

INI = """\
[controller]
client_ip = 127.0.0.1
engine_grace = 60
"""

WAIT = 60.0


def wait_until(what: str, condition: Any, within: float = WAIT) -> None:
    """Look until something is so."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {within:g} s")
        time.sleep(0.02)


class Party:
    """A controller, or an engine, in a directory of its own.

    :param arguments: what it is started with, each time.
    """

    def __init__(self, directory: Path, module: str, *arguments: str) -> None:
        directory.mkdir(exist_ok=True)
        (directory / "ipython1.kernel.ini").write_text(INI)
        self.directory = directory
        self.is_controller = module == CONTROLLER
        self._command = [sys.executable, "-m", module, *arguments]
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens if it is a controller."""
        self.process = subprocess.Popen(
            self._command,
            env=private_environ(self.directory),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if self.is_controller:
            assert self.process.stdout is not None
            said = ""
            for line in self.process.stdout:
                said += line
                if "multiengine:" in line:
                    return
            raise AssertionError(f"the controller did not start: {said}")

    def furl(self, name: str) -> str:
        """One of its FURL files."""
        return str(self.directory / "security" / f"ipcontroller-{name}.furl")

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        self.process.kill()
        self.end()

    def end(self) -> None:
        """Wait for its end."""
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


class Tree:
    """A controller, gateways to it, and engines of theirs."""

    def __init__(self, directory: Path, gateways: int, engines: int) -> None:
        self.engines: list[list[Party]] = []
        self.parties: list[Party] = []
        self.top = self._add(Party(directory / "top", CONTROLLER))
        self.gateways = []
        for number in range(gateways):
            gateway = Party(
                directory / f"gateway{number}", CONTROLLER, f"--upstream={self.top.furl('engine')}"
            )
            self.gateways.append(self._add(gateway))
            self.engines.append([])
            for _ in range(engines):
                self.add_engine(number)

    def _add(self, party: Party) -> Party:
        self.parties.append(party)
        return party

    def add_engine(self, gateway: int) -> Party:
        """Start an engine below a gateway."""
        party = self._add(Party(self.gateways[gateway].directory, ENGINE))
        self.engines[gateway].append(party)
        return party

    def stop(self) -> None:
        """End all."""
        for party in reversed(self.parties):
            if party.process.poll() is None:
                # Engines would wait for gateways that end beside them.
                stop = party.process.terminate if party.is_controller else party.process.kill
                stop()
        for party in self.parties:
            party.end()


@contextmanager
def tree(directory: str, gateways: int = 2, engines: int = 2) -> Iterator[tuple[Tree, Any, Any]]:
    """Run a tree; gives it, and clients of the controller at its top."""
    made = Tree(Path(directory), gateways, engines)
    try:
        with (
            closing(client.MultiEngineClient(made.top.furl("mec"))) as mec,
            closing(client.TaskClient(made.top.furl("tc"))) as tc,
        ):
            wait_until("all engines", lambda: len(mec.get_ids()) == gateways * engines)
            yield made, mec, tc
    finally:
        made.stop()


# -- what is killed

TASK = """\
import time
time.sleep(0.002)
with open({path!r}, "a") as file:
    print({number}, file=file)
answer = {number} * 3
"""


def run_tasks(tc: Any, path: Path, numbers: range) -> list[Any]:
    """Submit tasks that leave a trace."""
    return [
        tc.run(client.StringTask(TASK.format(path=str(path), number=number), pull=["answer"]))
        for number in numbers
    ]


def check_tasks(tc: Any, path: Path, ids: list[Any], numbers: range) -> None:
    """Each has the right result, and ran once."""
    tc.barrier(ids)
    for task_id, number in zip(ids, numbers, strict=True):
        assert tc.get_task_result(task_id, block=True).ns.answer == number * 3
    times = Counter(int(line) for line in path.read_text().split())
    path.unlink()
    assert times == Counter(numbers), [each for each in times.items() if each[1] != 1]


def session(directory: str) -> None:
    """All that works with engines of one's own works through gateways, also after some parts were killed."""
    with tree(directory) as (made, mec, tc):
        check_kills(made, mec, tc, Path(directory) / "ran")
        check_calls(mec)
        check_tasks_of_all_sizes(tc)
        check_bulk(mec, Path(directory) / "go")
        check_control(mec)
        check_own_clients(made, mec)
        check_coming_and_going(made, mec, tc)
        check_refusals(made)


def check_kills(made: Tree, mec: Any, tc: Any, path: Path) -> None:
    """A gateway, then the controller at the top, are killed under load, and started again."""
    pids = mec.execute("import os; pid = os.getpid(); count = 0") and mec.pull("pid")
    numbers = range(300)
    ids = run_tasks(tc, path, numbers)
    pending = mec.execute("import time; time.sleep(1); count += 1; print(count)", block=False)
    wait_until("some tasks have run", lambda: path.exists() and path.stat().st_size > 100)
    made.gateways[0].kill()
    made.gateways[0].start()
    check_tasks(tc, path, ids, numbers)
    assert [each["stdout"] for each in pending.get_result()] == ["1\n"] * 4
    print("a gateway was killed: each task ran once, each command too")

    more = range(300, 600)
    ids = run_tasks(tc, path, more)
    pending = mec.execute("time.sleep(1); count += 1; print(count)", block=False)
    wait_until("some tasks have run", lambda: path.exists() and path.stat().st_size > 100)
    made.top.kill()
    made.top.start()
    check_tasks(tc, path, ids, more)
    assert [each["stdout"] for each in pending.get_result()] == ["2\n"] * 4
    assert mec.get_ids() == [0, 1, 2, 3] and mec.pull("pid") == pids
    print("the controller at the top was killed: each task ran once, each command too")


# -- what is used


def check_calls(mec: Any) -> None:
    """Commands, in order, with their ids and errors."""
    results = mec.execute("import os, time; pid = os.getpid(); print('hello')")
    assert [each["id"] for each in results] == [0, 1, 2, 3], results
    assert [each["stdout"] for each in results] == ["hello\n"] * 4
    assert len(set(mec.pull("pid"))) == 4
    assert mec.map(lambda x: x * x, range(100)) == [x * x for x in range(100)]
    try:
        mec.execute("1 / 0", targets=[1, 2])
    except error.CompositeError as problem:
        assert "[1:execute]: ZeroDivisionError" in str(problem), problem
        assert "[2:execute]: ZeroDivisionError" in str(problem), problem
    else:
        raise AssertionError("no error")
    print("calls")


def check_tasks_of_all_sizes(tc: Any) -> None:
    """Tasks, small and large, that fail, and that are stopped."""
    assert tc.map(lambda x: -x, range(500)) == [-x for x in range(500)]
    large = bytes(range(256)) * 8192
    assert tc.map(lambda each: each[::-1], [large] * 6) == [large[::-1]] * 6
    failed = tc.run(client.StringTask("no_such_name"))
    try:
        assert not tc.get_task_result(failed, block=True).results
    except NameError as problem:
        assert "no_such_name" in str(problem), problem
    else:
        raise AssertionError("it did not fail")
    waiting = tc.run(client.StringTask("import time; time.sleep(60)"))
    wait_until("it runs", lambda: tc.queue_status(verbose=True)["pending"])
    tc.abort(waiting)
    try:
        assert not tc.get_task_result(waiting, block=True).results
    except error.TaskAborted:
        print("tasks")
    else:
        raise AssertionError("it was not aborted")


def check_bulk(mec: Any, go: Path) -> None:
    """Large data: to all, to some, from all; once per gateway on its way down."""
    large = bytes(range(256)) * 2**14
    mec.push({"large": large})
    assert (
        mec.execute("print(len(large), large == bytes(range(256)) * 2**14)")[3]["stdout"]
        == "4194304 True\n"
    )
    mec.push({"large": large[:-1]}, targets=[1, 3])
    found = mec.pull("large")
    assert [len(each) for each in found] == [2**22, 2**22 - 1] * 2
    assert all(large.startswith(each) for each in found)
    # Where one engine is busy, the others have their data all the same; what it has not begun can be taken back.
    source = f"while not os.path.exists({str(go)!r}): time.sleep(0.01)"
    busy = mec.execute(source, targets=[0], block=False)
    waiting = [mec.push({"large": each}, block=False) for each in (large, large[:-2])]
    wait_until("the others have it", lambda: not any(q for _, q in queues(mec)[1:]))
    mec.clear_queue(targets=[0])
    go.touch()
    busy.get_result()
    for each in waiting:
        try:
            each.get_result()
        except error.CompositeError as problem:
            assert "[0:push]: QueueCleared" in str(problem), problem
    assert [len(each) for each in mec.pull("large")] == [2**22] + [2**22 - 2] * 3
    mec.push({"large": b"ok"})
    assert mec.pull("large") == [b"ok"] * 4
    print("bulk")


def queues(mec: Any) -> list[tuple[int, Any]]:
    """What each engine has to do: its id, and its queue with what runs there, or None."""
    return [
        (each[0], [each[1]["pending"], *each[1]["queue"]] if each[1]["pending"] else None)
        for each in mec.queue_status()
    ]


def check_control(mec: Any) -> None:
    """What reaches an engine while it is busy."""
    pending = mec.execute("time.sleep(60)", block=False)
    wait_until("all are busy", lambda: all(queue for _, queue in queues(mec)))
    assert "time.sleep(60)" in str(mec.stacks())
    mec.interrupt()
    try:
        pending.get_result()
    except error.CompositeError as problem:
        assert str(problem).count("KeyboardInterrupt") == 4, problem
    mec.set_properties({"colour": "blue"}, targets=[2])
    assert mec.get_properties(targets=[2])[0]["colour"] == "blue"
    print("control")


def check_own_clients(made: Tree, mec: Any) -> None:
    """A gateway's own clients use the same engines, and see the same names."""
    with closing(client.MultiEngineClient(made.gateways[1].furl("mec"))) as own:
        assert own.get_ids() == [0, 1]
        pids = mec.pull("pid")
        same = [pids.index(pid) for pid in own.pull("pid")]
        own.push({"shared": 42})
        assert mec.pull("shared", targets=same) == [42, 42]
        both = [each.execute("time.sleep(0.2)", block=False) for each in (own, mec)]
        for each in both:
            each.get_result()
    with closing(client.TaskClient(made.gateways[1].furl("tc"))) as own:
        assert own.map(lambda x: x + 1, range(50)) == list(range(1, 51))
    print("own clients")


def check_coming_and_going(made: Tree, mec: Any, tc: Any) -> None:
    """An engine comes; one is killed there, and one from here."""
    made.add_engine(0)
    wait_until("another engine", lambda: len(mec.get_ids()) == 5)
    assert mec.execute("print(1)", targets=[4])[0]["stdout"] == "1\n"
    made.engines[1][1].kill()
    wait_until("its end", lambda: len(mec.get_ids()) == 4)
    mec.kill(targets=[4])
    wait_until("its end, too", lambda: len(mec.get_ids()) == 3)
    made.engines[0][2].end()
    assert tc.map(lambda x: x + 1, range(50)) == list(range(1, 51))
    print("coming and going")


def check_refusals(made: Tree) -> None:
    """What cannot be a gateway says why, and ends."""
    for furl, why in (
        (made.gateways[0].furl("engine"), "trees of controllers have two levels"),
        (made.top.furl("mec"), "ipcontroller-engine.furl is for engines and gateways"),
    ):
        directory = made.top.directory.parent / "refused"
        directory.mkdir(exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", CONTROLLER, f"--upstream={furl}"],
            env=private_environ(directory),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1 and why in done.stderr, done
    print("refusals")


def measured(directory: str) -> None:
    """The benchmark runs."""
    print(gateways.measure(1, 10, 1, calls=2, tasks=100, rounds=1))


def main() -> None:
    part, directory = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    globals()[part](directory)
    print("done")


if __name__ == "__main__":
    main()
