"""``htcondor``: a private HTCondor with one execute machine, this one.

::

    eval "$(scripts/testbed up htcondor)"
    condor_status; condor_submit job.sub; ipcluster htcondor -n 3
    scripts/testbed down htcondor                 which ends all jobs

Debian has HTCondor in some of its releases only.  So ``scripts/prepare-venv test`` unpacks the packages of one that has
it into ``.venv/htcondor``, beside the libraries that they need, and changes the programs so that they find those.
Nothing is installed in the system.  ``IPYTHON1_TEST_HTCONDOR`` names another directory with HTCondor's ``bin``,
``sbin`` and ``lib``.

HTCondor refuses root's jobs.  For root, its daemons and commands run in user namespaces in which root is another user.
It listens on loopback only, and trusts every user of this machine.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from tests.testbeds.lib import Missing, Needs, Testbed, free_ports, is_root, succeeds, wait_for

VARIABLE: Final = "IPYTHON1_TEST_HTCONDOR"

INSTALL_NEEDS: Final = (Needs("patchelf", ("patchelf",)),)

_RELEASE: Final = "trixie"
_USER: Final = "daemon"
_LIMIT: Final = 300.0
_STAMP: Final = "prepared"
_COMMANDS: Final = ("submit", "q", "rm", "hold", "release", "status", "history", "config_val")

_CONFIGURATION: Final = """\
RELEASE_DIR = {release}
LOCAL_DIR = {directory}
BIN = $(RELEASE_DIR)/bin
SBIN = $(RELEASE_DIR)/sbin
LIB = $(RELEASE_DIR)/lib/condor
LIBEXEC = $(RELEASE_DIR)/libexec/condor
SHARE = $(RELEASE_DIR)/share/condor
LOG = $(LOCAL_DIR)/log
SPOOL = $(LOCAL_DIR)/spool
EXECUTE = $(LOCAL_DIR)/execute
RUN = $(LOCAL_DIR)/run
LOCK = $(LOCAL_DIR)/locks
DAEMON_LIST = MASTER COLLECTOR NEGOTIATOR SCHEDD STARTD
CONDOR_HOST = 127.0.0.1
COLLECTOR_HOST = 127.0.0.1:{port}
NETWORK_INTERFACE = 127.0.0.1
BIND_ALL_INTERFACES = False
ENABLE_IPV6 = False
USE_SHARED_PORT = False
UID_DOMAIN = testbed
FILESYSTEM_DOMAIN = testbed
DEFAULT_DOMAIN_NAME = testbed
use SECURITY : HOST_BASED
ALLOW_READ = *
ALLOW_WRITE = *
ALLOW_ADMINISTRATOR = *
ALLOW_DAEMON = *
ALLOW_NEGOTIATOR = *
SEC_DEFAULT_AUTHENTICATION_METHODS = FS
NUM_CPUS = {cpus}
MEMORY = 8192
START = True
SUSPEND = False
PREEMPT = False
KILL = False
RunBenchmarks = False
# Look for work, and at limits, every second.
NEGOTIATOR_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 1
NEGOTIATOR_MIN_INTERVAL = 1
SCHEDD_INTERVAL = 1
SCHEDD_MIN_INTERVAL = 1
PERIODIC_EXPR_INTERVAL = 1
UPDATE_INTERVAL = 5
"""


def _unpacked() -> Path:
    return Path(sys.prefix) / "htcondor"


@dataclass(frozen=True)
class Htcondor(Testbed):
    """A private HTCondor.

    :ivar cpus: how many jobs run at the same time, regardless of the real number of processors.
    :ivar port: the collector's; 0 for a free one.
    """

    name: ClassVar[str] = "htcondor"
    needs: ClassVar[tuple[Needs, ...]] = (Needs("unshare", ("util-linux",)),)

    cpus: int = 8
    port: int = 0

    @property
    def release(self) -> Path:
        """The directory of the programs."""
        given = os.environ.get(VARIABLE)
        return Path(given) if given else _unpacked() / "usr"

    def check(self) -> None:
        if not (self.release / "sbin" / "condor_master").exists():
            raise Missing(
                f"HTCondor is missing in {self.release}: 'scripts/prepare-venv test' unpacks it as root on Debian, "
                f"and {VARIABLE} names another one"
            )
        super().check()
        if is_root() and not succeeds([*_as_user(), "true"]):
            raise Missing(
                "the testbed htcondor needs user namespaces to run for root, which this system forbids"
            )

    def start(self) -> dict[str, str]:
        for name in ("log", "spool", "execute", "run", "locks", "bin"):
            (self.directory / name).mkdir()
        configuration = self.directory / "condor_config"
        configuration.write_text(
            _CONFIGURATION.format(
                release=self.release,
                directory=self.directory,
                port=self.port or free_ports(1),
                cpus=self.cpus,
            )
        )
        environ = {
            "CONDOR_CONFIG": str(configuration),
            "PATH": f"{self.directory}/bin{os.pathsep}{os.environ['PATH']}",
        }
        for name in _COMMANDS:
            program = self.release / "bin" / f"condor_{name}"
            wrapper = self.directory / "bin" / program.name
            wrapper.write_text(f'#!/bin/sh\nexec {shlex.join([*_as_user(), str(program)])} "$@"\n')
            wrapper.chmod(0o755)
        os.environ.update(environ)
        master = self.spawn(
            "condor_master",
            [*_as_user(), str(self.release / "sbin" / "condor_master"), "-f"],
            self.directory / "log" / "MasterLog",
        )

        def ready() -> bool:
            """Whether the execute machine takes jobs, and the queue answers."""
            status = subprocess.run(
                ["condor_status", "-af", "State"], capture_output=True, text=True, check=False
            )
            return status.stdout.strip() == "Unclaimed" and succeeds(["condor_q"])

        wait_for("HTCondor", ready, [master], 60.0)
        return environ


def _as_user() -> list[str]:
    """The words before a command that let root run it as another user, who has root's files."""
    if not is_root():
        return []
    user = pwd.getpwnam(_USER)
    return ["unshare", "--user", f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}"]


def install() -> None:
    """Unpack HTCondor from Debian's packages if it is not there yet; print a failure."""
    target = _unpacked()
    if (target / _STAMP).exists() or not is_root() or not shutil.which("patchelf"):
        return
    print(f"unpacking HTCondor into {target} ...", flush=True)
    shutil.rmtree(target, ignore_errors=True)
    try:
        _download(target)
        for package in _packages(target):
            _run("dpkg-deb", "--extract", str(package), str(target))
        shutil.rmtree(target / "apt")
        _change_programs(target)
        _run(str(target / "usr" / "bin" / "condor_version"), CONDOR_CONFIG="/dev/null")
        (target / _STAMP).touch()
    except (OSError, subprocess.SubprocessError) as problem:
        said = getattr(problem, "stderr", "") or str(problem)
        print(f"  this failed, so its tests will be skipped: {said.strip()}", flush=True)


def _download(target: Path) -> None:
    """Download the packages from the mirror that this system uses, without touching the system's own lists."""
    sites = _run("apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages").split()
    mirror = next((site for site in sites if not site.rstrip("/").endswith("security")), "")
    if not mirror:
        raise OSError("this system has no mirror of Debian")
    apt = target / "apt"
    for name in ("lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True)
    sources = apt / "sources.list"
    sources.write_text(f"deb {mirror} {_RELEASE} main\n")
    options = [
        f"--option={each}"
        for each in (
            f"Dir::Etc::sourcelist={sources}",
            "Dir::Etc::sourceparts=/dev/null",
            f"Dir::State::lists={apt / 'lists'}",
            f"Dir::Cache={apt / 'cache'}",
            "Dir::State::status=/dev/null",
            "Debug::NoLocking=1",
            "APT::Sandbox::User=root",
        )
    ]
    _run("apt-get", *options, "update")
    _run(
        *("apt-get", *options, "install", "--yes", "--download-only"),
        *("--no-install-recommends", "condor"),
    )


def _packages(target: Path) -> Iterable[Path]:
    """The packages of HTCondor and of libraries; its scripts in other languages are not used."""
    for package in (target / "apt" / "cache" / "archives").glob("*.deb"):
        if package.name.startswith(("condor_", "lib", "zlib1g")):
            yield package


def _change_programs(target: Path) -> None:
    """Let all programs of HTCondor find the libraries, and the loader, that were unpacked with them."""
    (libc,) = target.glob("usr/lib/*/libc.so.6")
    libraries = f"{libc.parent}:{target}/usr/lib"
    (loader,) = target.glob("usr/lib*/ld-linux*.so.*")
    for path in target.glob("usr/**/*condor*"):
        if path.is_symlink() or not path.is_file() or not _is_binary(path):
            continue
        _run("patchelf", "--force-rpath", "--set-rpath", libraries, str(path))
        if ".so" not in path.name:
            _run("patchelf", "--set-interpreter", str(loader), str(path))


def _is_binary(path: Path) -> bool:
    """Whether it is a program or a library that is linked with others."""
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF" and (".so" in path.name or b"/ld-linux" in file.read())


def _run(*command: str, **environ: str) -> str:
    return subprocess.run(
        command,
        env={**os.environ, "LC_ALL": "C.UTF-8", **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LIMIT,
        check=True,
    ).stdout
