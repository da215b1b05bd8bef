"""Install what the testbeds need, with apt-get as root, without starting any service."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.testbeds.lib import Needs, is_root, missing

POLICY = Path("/usr/sbin/policy-rc.d")
"""The program that packages ask whether they may start a service."""

_OURS = "# Written by the testbeds of ipython1 while they install packages.\n"
_LOCK = Path("/var/lock/ipython1-testbeds")
_LOCK_LIMIT = 600.0
_APT_LIMIT = 1200.0
_RETRY = 1.0
_APT = (
    *("apt-get", f"--option=DPkg::Lock::Timeout={_LOCK_LIMIT:g}"),
    *("--option=Acquire::Retries=1", "--option=Acquire::http::Timeout=30"),
)
_INSTALL = ("install", "--yes", "--no-install-recommends", "--no-remove")


def can_install() -> bool:
    """Whether packages can be installed here at all."""
    return is_root() and shutil.which("apt-get") is not None


def install(what: str, needs: Sequence[Needs]) -> None:
    """Install the missing programs, and print what is done, including failures.

    :param what: what they are for.
    """
    if not (lacking := missing(needs)) or not can_install():
        return
    with _alone():
        # Somebody else may have installed them by now.
        lacking = missing(lacking)
        packages = list(dict.fromkeys(name for each in lacking for name in each.packages))
        if not packages:
            return
        print(f"installing for the testbed {what}: {' '.join(packages)} ...", flush=True)
        with _no_services():
            problem = _apt(*_INSTALL, *packages)
            if problem and not _apt("update"):
                # The package list was missing or out of date.
                problem = _apt(*_INSTALL, *packages)
    if problem:
        print(f"  this failed, so its tests will be skipped: {problem}", flush=True)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Wait until nobody else is installing packages for testbeds."""
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Forbid starting services, unless the administrator has set a policy."""
    try:
        # A policy that a killed run left behind would stay in force for ever.
        theirs = _OURS not in POLICY.read_text(errors="replace")
    except OSError:
        theirs = False
    if theirs:
        yield
        return
    try:
        POLICY.write_text(f"#!/bin/sh\n{_OURS}exit 101\n")
        POLICY.chmod(0o755)
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def _apt(*arguments: str) -> str:
    """Run apt-get, waiting for others that run it.

    :returns: what went wrong; empty if nothing did.
    """
    end = time.monotonic() + _LOCK_LIMIT
    while True:
        try:
            done = subprocess.run(
                [*_APT, *arguments],
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_APT_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"apt-get took more than {_APT_LIMIT:g} s"
        if done.returncode == 0:
            return ""
        # The option for the lock covers neither the lists nor the downloads.
        locked = "Could not get lock" in done.stdout or "Unable to lock" in done.stdout
        if not locked or time.monotonic() > end:
            lines = [line for line in done.stdout.splitlines() if line.startswith("E:")]
            return " ".join(lines or done.stdout.splitlines()[-1:]) or "apt-get said nothing"
        time.sleep(_RETRY)
