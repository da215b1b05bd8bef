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

from ipython1.kernel import client, error
from ipython1.testing.processes import private_environ

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
        if CONTROLLER in self._command:
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
                party.process.terminate()
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
    file.write("{number}\\n")
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
    times = Counter(int(line) for line in path.read_text().split())
    path.unlink()
    assert times == Counter(numbers), [each for each in times.items() if each[1] != 1]


def killed(directory: str) -> None:
    """A gateway, then the controller at the top, are killed under load, and started again."""
    path = Path(directory) / "ran"
    with tree(directory) as (made, mec, tc):
        pids = mec.execute("import os; pid = os.getpid(); count = 0") and mec.pull("pid")
        numbers = range(600)
        ids = run_tasks(tc, path, numbers)
        pending = mec.execute("import time; time.sleep(1); count += 1; print(count)", block=False)
        wait_until("some tasks have run", lambda: path.exists() and path.stat().st_size > 100)
        made.gateways[0].kill()
        made.gateways[0].start()
        check_tasks(tc, path, ids, numbers)
        assert [each["stdout"] for each in pending.get_result()] == ["1\n"] * 4
        print("a gateway was killed: each task ran once, each command too")

        more = range(600, 1200)
        ids = run_tasks(tc, path, more)
        pending = mec.execute("time.sleep(1); count += 1; print(count)", block=False)
        wait_until("some tasks have run", lambda: path.exists() and path.stat().st_size > 100)
        made.top.kill()
        made.top.start()
        check_tasks(tc, path, ids, more)
        assert [each["stdout"] for each in pending.get_result()] == ["2\n"] * 4
        assert mec.get_ids() == [0, 1, 2, 3] and mec.pull("pid") == pids
        print("the controller at the top was killed: each task ran once, each command too")


def main() -> None:
    part, directory = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    globals()[part](directory)
    print("done")


if __name__ == "__main__":
    main()
