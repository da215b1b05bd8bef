"""The testbeds: private sshd, batch systems, MPIs and hosts made of network namespaces.

They are scripts outside this package, found by ``$IPYTHON1_TESTBEDS`` or beside the checkout in
``../shared/testbeds``.  A test that needs one is skipped, with the reason, where it cannot be had.
"""

from __future__ import annotations

import atexit
import functools
import os
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from twisted.trial import unittest

CHECKOUT = Path(__file__).resolve().parents[1]
PORTS = {"ssh": 1, "slurm": 17, "sge": 2}
"""How many ports in a row a testbed uses."""

UP_LIMIT = 300.0
"""Seconds; the first use installs packages."""


def testbed_scripts() -> Path:
    """Where the scripts are.

    :raises unittest.SkipTest: when they are not there.
    """
    named = os.environ.get("IPYTHON1_TESTBEDS")
    path = Path(named) if named else CHECKOUT.parent / "shared" / "testbeds"
    if not (path / "lib.sh").exists():
        raise unittest.SkipTest(f"there are no testbeds in {path} (set IPYTHON1_TESTBEDS)")
    return path


def need_root() -> None:
    """Skip where this is not root."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        raise unittest.SkipTest("this testbed needs root")


def run_script(name: str, *arguments: str, environ: Mapping[str, str] | None = None) -> str:
    """The output of a testbed script.

    :raises unittest.SkipTest: when it fails, with what it said.
    """
    done = subprocess.run(
        [str(testbed_scripts() / name), *arguments],
        env={**os.environ, **(environ or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=UP_LIMIT,
        check=False,
    )
    if done.returncode != 0:
        raise unittest.SkipTest(f"{name} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens at now, other runs of these tests included."""
    for _ in range(200):
        first = random.randrange(20000, 30000)
        try:
            for number in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("", number))
        except OSError:
            continue
        return first
    raise unittest.SkipTest(f"there are no {count} free ports in a row")


class Testbed:
    """One testbed with files of its own, for all tests of this run; it is ended when the run is over.

    (Trial knows no set-up of a whole class.)

    :param name: ``ssh``, ``slurm``, ``sge`` or ``netns``.
    :ivar output: what its script has printed.
    """

    def __init__(self, name: str, arguments: tuple[str, ...], environ: Mapping[str, str]) -> None:
        self.name = name
        self._temporary = tempfile.TemporaryDirectory(prefix=f"ipython1-{name}-")
        self.directory = Path(self._temporary.name)
        self.directory.chmod(0o755)
        self.environ = {"TESTBED_DIR": str(self.directory), **environ}
        if name in PORTS:
            self.environ[f"TESTBED_{name.upper()}_PORT"] = str(free_ports(PORTS[name]))
        atexit.register(self.down)
        try:
            self.output = run_script(f"{self.name}-up", *arguments, environ=self.environ)
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """End it and remove its files."""
        atexit.unregister(self.down)
        try:
            run_script(f"{self.name}-down", environ=self.environ)
        finally:
            self._temporary.cleanup()


_testbeds: dict[object, Testbed | unittest.SkipTest] = {}


def testbed(name: str, *arguments: str, **environ: str) -> Testbed:
    """The running testbed of that name and settings.

    :raises unittest.SkipTest: where it cannot be had.
    """
    key = (name, arguments, tuple(sorted(environ.items())))
    if key not in _testbeds:
        try:
            _testbeds[key] = Testbed(name, arguments, environ)
        except unittest.SkipTest as skip:
            _testbeds[key] = skip
    found = _testbeds[key]
    if isinstance(found, unittest.SkipTest):
        raise found
    return found


@functools.cache
def mpi_programs() -> dict[str, tuple[str, str]]:
    """The MPIs that work here: by name the launcher's command and the Python to use.

    :raises unittest.SkipTest: when there is none.
    """
    script = testbed_scripts() / "mpi-check"
    done = subprocess.run(
        [str(script)],
        # Its virtual environments belong to the one that runs the tests, and are kept with it.
        env={
            **os.environ,
            "PYTHON": sys.executable,
            "TESTBED_DIR": str(Path(sys.prefix) / "testbeds"),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=UP_LIMIT,
        check=False,
    )
    found: dict[str, tuple[str, str]] = {}
    for line in done.stdout.splitlines():
        name, _, rest = line.partition(" ")
        word, _, command = rest.partition(" ")
        if word == "run":
            launcher, python = command.split(" -n 4 ")
            found[name] = (launcher, python)
    if not found:
        raise unittest.SkipTest(f"no MPI works here: {done.stdout.strip()} {done.stderr.strip()}")
    return found
