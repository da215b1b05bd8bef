"""Many ssh hosts, some of them dead: when the living are usable.

::

    python -m tests.benchmarks.sshhosts                  40 hosts; 5 refuse connections, 5 do not answer at all
    python -m tests.benchmarks.sshhosts --shared         each starts a Python of its own on this machine's processors
    python -m tests.benchmarks.sshhosts --hosts 6 --dead 2

The living are also started alone, to show what the dead cost them.  All hosts are the testbed ``ssh``, so their
processors are those of this machine.  Without ``--shared``, hosts have a Python that runs already
(:mod:`tests.benchmarks.farpython`): as if each had processors of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.farpython import FarPython
from tests.testbeds import testbed
from tests.testbeds.lib import free_ports

_LIMIT = 120.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a start.

    :ivar usable: seconds until all engines of the living could be used.
    :ivar returned: seconds until the start was over.
    :ivar printed: what ``ipcluster`` printed until then.
    """

    usable: float
    returned: float
    printed: str


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """Give a port of this machine that does not answer at all, as if packets to it were dropped."""
    with contextlib.ExitStack() as stack:
        hole = stack.enter_context(socket.socket())
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        for _ in range(3):  # the queue of connections is full now
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(hole.getsockname())
        yield int(hole.getsockname()[1])


def start_hosts(directory: Path, hosts: int, dead: int, python: str = "") -> Outcome:
    """Start a cluster with one engine per host, and end it.

    :param directory: for its files.
    :param dead: how many of them are dead: every other one refuses connections, the others do not answer.
    :param python: the interpreter there; empty for this one.
    """
    with silent_port() as silent:
        command = _command(directory, hosts, dead, python, silent)
        environ = {
            **os.environ,
            "IPYTHONDIR": str(directory / "here"),
            "PYTHONUNBUFFERED": "1",
        }
        begin = time.monotonic()
        process = subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            return _watch(process, environ, hosts - dead, begin)
        finally:
            process.terminate()
            process.communicate(timeout=_LIMIT)


def _command(directory: Path, hosts: int, dead: int, python: str, silent: int) -> list[str]:
    config = testbed("ssh", max_startups="10:30:100").environ["SSH_CONFIG"]
    ports = [silent, free_ports(1)]
    blocks = []
    engines = {}
    for number in range(hosts):
        name = f"far{number}"
        port = f"    Port {ports[number % 2]}\n" if number < dead else ""
        blocks.append(f"Host {name}\n    HostName 127.0.0.1\n{port}")
        engines[name] = {"n": 1, "ipython_dir": str(directory / name), "python": python}
    own = directory / "ssh_config"
    own.write_text("".join(blocks) + Path(config).read_text())
    file = directory / "hosts.py"
    file.write_text(f"engines = {engines!r}\n")
    program = [sys.executable, "-P", "-m", "ipython1.kernel.scripts.ipcluster"]
    return [*program, "-f", str(file), "--ssh", f"ssh -F {own}"]


def _watch(
    process: subprocess.Popen[str], environ: dict[str, str], living: int, begin: float
) -> Outcome:
    furl = Path(environ["IPYTHONDIR"]) / "security" / "ipcontroller-mec.furl"
    code = (
        "import os, time; from ipython1.kernel.client import MultiEngineClient\n"
        f"while not os.path.exists({str(furl)!r}): time.sleep(0.02)\n"
        f"mec = MultiEngineClient(timeout={_LIMIT})\n"
        f"mec.wait_for_engines({living}); mec.execute('1'); print(time.monotonic())"
    )
    client = subprocess.Popen(
        [sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, text=True
    )
    printed = ""
    assert process.stdout is not None
    for line in process.stdout:
        printed += line
        if "the cluster is up" in line:
            break
    returned = time.monotonic() - begin
    said, _ = client.communicate(timeout=_LIMIT)
    return Outcome(float(said) - begin, returned, printed)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.sshhosts")
    parser.add_argument("--hosts", type=int, default=40)
    parser.add_argument("--dead", type=int, default=10)
    parser.add_argument("--shared", action="store_true")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="ipython1-sshhosts-") as name,
        contextlib.ExitStack() as stack,
    ):
        directory = Path(name)
        python = ""
        if not given.shared:
            python = str(stack.enter_context(FarPython(directory)).path)
        for dead in dict.fromkeys((0, given.dead)):
            hosts = given.hosts - given.dead + dead
            own = directory / f"{hosts}-hosts"
            own.mkdir()
            outcome = start_hosts(own, hosts, dead, python)
            print(
                f"{hosts} hosts, {dead} of them dead: the living are usable after {outcome.usable:.1f} s, "
                f"the start is over after {outcome.returned:.1f} s; load {os.getloadavg()[0]:.1f}"
            )


if __name__ == "__main__":
    main()
