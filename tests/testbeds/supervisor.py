"""Starting and ending a testbed.

Each testbed has a process that runs it, its *supervisor*, which adopts all processes that the daemons leave behind.
When the supervisor ends, all of them end: on ``SIGTERM``, on Ctrl-C, or when the process that it is tied to is gone.
While it lives, it holds a lock in the testbed's directory.  If it is killed, :func:`down` still finds its processes by
a mark in their environment.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from ipython1.daemon import osprocess
from tests.testbeds.htcondor import Htcondor
from tests.testbeds.lib import MARK, Failed, HostedTestbed, Missing, Testbed, search_path
from tests.testbeds.netns import Netns
from tests.testbeds.sge import Sge
from tests.testbeds.slurm import Slurm
from tests.testbeds.ssh import Ssh

BEDS: Mapping[str, type[Testbed]] = {bed.name: bed for bed in (Netns, Ssh, Slurm, Sge, Htcondor)}

CHECKOUT = Path(__file__).resolve().parents[2]

_LOCK = "lock"
_STATE = "state.json"
_END_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_TERM_LIMIT = 3.0
_KILL_LIMIT = 10.0
_DOWN_LIMIT = 30.0


def default_directory(name: str) -> Path:
    """The directory of a testbed that is started by hand."""
    return Path(tempfile.gettempdir()) / f"ipython1-testbed-{name}"


def make(name: str, directory: Path | None, settings: Mapping[str, str]) -> Testbed:
    """The testbed of that name.

    :param directory: None for the default one.
    :raises ValueError: if there is no such testbed, or it has no such setting.
    """
    if name not in BEDS:
        raise ValueError(f"there is no testbed {name!r}; there are: {', '.join(BEDS)}")
    settings = dict(settings)
    if issubclass(BEDS[name], HostedTestbed) and settings.get("on"):
        settings.setdefault("netns", str(default_directory("netns")))
    return BEDS[name].make(directory or default_directory(name), settings)


@dataclass(frozen=True, slots=True)
class Up:
    """A testbed that is up.

    :ivar environ: the environment variables that lead its users to it.
    :ivar supervisor: its supervisor if this process started it; closing its ``stdin`` ends the testbed.
    """

    environ: dict[str, str]
    supervisor: subprocess.Popen[str] | None = None

    def let_go(self) -> None:
        """End the supervisor to which this process is tied, if any, and wait for its end."""
        if self.supervisor:
            if self.supervisor.stdin:
                self.supervisor.stdin.close()
            self.supervisor.wait(_DOWN_LIMIT)


def up(bed: Testbed, *, tied: bool = False) -> Up:
    """Start a testbed; keep one that runs with the same settings, and replace one with others.

    :param tied: whether it ends with this process.
    :raises Missing: if it is not available here.
    :raises Failed: if it does not come up.
    """
    bed.check()
    if _holder(bed.directory):
        state = _read_state(bed.directory)
        if state and state["settings"] == bed.settings:
            return Up(state["environ"])
    down(bed)
    settings = [f"{name}={value}" for name, value in bed.settings.items()]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.testbeds", "--directory", str(bed.directory)),
            *("supervise", *(["--tied"] if tied else []), bed.name, *settings),
        ],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE if tied else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        with process.stdout:
            line = process.stdout.readline()
        told: dict[str, Any] = json.loads(line) if line else {"failed": "its supervisor broke off"}
        if "environ" in told:
            return Up(told["environ"], process if tied else None)
        process.wait()
        kind = Missing if "missing" in told else Failed
        raise kind(
            f"the testbed {bed.name} cannot be used: {told.get('missing') or told['failed']}"
        )
    except BaseException:
        process.terminate()
        Up({}, process).let_go()
        raise


def down(bed: Testbed) -> bool:
    """End a testbed and all its processes, even if its supervisor was killed, and remove its files.

    :returns: whether there was something to end.
    :raises Failed: if something does not end.
    """
    limit = time.monotonic() + _DOWN_LIMIT
    told = set()
    found = False
    while pid := _holder(bed.directory):
        found = True
        if pid not in told:
            told.add(pid)
            osprocess.send_signal(pid, signal.SIGTERM)
        if time.monotonic() > limit:
            raise Failed(f"the supervisor of the testbed {bed.name}, process {pid}, does not end")
        time.sleep(0.02)
    if bed.directory.is_dir():
        found = True
        _make_directory(bed.directory)  # which checks that it is ours
        _clean(bed)
    return found


def supervise(bed: Testbed, *, tied: bool) -> int:
    """Act as the supervisor of a testbed until told to end; print one line of JSON when it is up or has failed.

    :param tied: whether it ends at the end of its standard input.
    :returns: the exit status.
    """
    osprocess.adopt_orphans()
    os.environ["PATH"] = search_path()
    os.environ[MARK] = str(bed.directory)
    for number in _END_SIGNALS:
        signal.signal(number, _leave)
    _make_directory(bed.directory)
    with _locked(bed.directory):
        try:
            environ = bed.start()
            state = {"settings": bed.settings, "environ": environ}
            (bed.directory / _STATE).write_text(json.dumps(state))
            _report(state)
            if not tied:
                # Release the terminal, or the reader of the output.
                os.dup2(1, 2)
            _wait(tied)
        except (Missing, Failed) as problem:
            _report({"missing" if isinstance(problem, Missing) else "failed": str(problem)})
            return 1
        finally:
            for number in _END_SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            _clean(bed)
    return 0


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _report(told: Mapping[str, object]) -> None:
    """Report to the waiting process, which may be gone; discard all later output."""
    with contextlib.suppress(OSError):
        os.write(1, f"{json.dumps(told)}\n".encode())
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def _wait(tied: bool) -> None:
    """Collect dead children until it is time to end."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (*_END_SIGNALS, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    while True:
        _reap()
        ready, _, _ = select.select([reader, *([0] if tied else [])], [], [])
        if 0 in ready and not os.read(0, 4096):
            return
        if reader in ready and set(os.read(reader, 4096)) & set(_END_SIGNALS):
            return


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _clean(bed: Testbed) -> None:
    """End all processes of a testbed, undo what else it did, and remove its directory."""
    try:
        _end_processes(bed)
    finally:
        bed.close()
        shutil.rmtree(bed.directory, ignore_errors=True)


def _end_processes(bed: Testbed) -> None:
    left: set[int] = set()
    for number, limit in ((signal.SIGTERM, _TERM_LIMIT), (signal.SIGKILL, _KILL_LIMIT)):
        end = time.monotonic() + limit
        told: set[int] = set()
        while left := _processes(bed):
            for pid in left - told:
                osprocess.send_signal(pid, number)
            told |= left
            if time.monotonic() > end:
                break
            time.sleep(0.02)
            _reap()
        else:
            return
    raise Failed(f"processes of the testbed {bed.name} do not end: {sorted(left)}")


def _processes(bed: Testbed) -> set[int]:
    """All living processes of a testbed except this one."""
    table = osprocess.process_table()
    mine = os.getpid()
    if os.environ.get(MARK) == str(bed.directory):
        found = set(osprocess.descendants(mine, table))
    else:
        found = set()
    found |= {pid for pid in table if osprocess.environment_of(pid).get(MARK) == str(bed.directory)}
    found |= bed.processes()
    return {pid for pid in found if pid in table and table[pid].state != "Z"} - {mine}


def _make_directory(directory: Path) -> None:
    """Create a directory, or check that it is our own, and not a link to somebody else's.

    :raises Missing: if it is not.
    """
    with contextlib.suppress(FileExistsError):
        directory.mkdir(parents=True)
    if directory.is_symlink() or not directory.is_dir() or directory.stat().st_uid != os.geteuid():
        raise Missing(f"{directory} is there, and is not a directory of this user")
    # Jobs of other users may look into it; secrets are in separate files.
    directory.chmod(0o755)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the lock that says that a testbed is up.

    :raises Missing: if another supervisor holds it.
    """
    with (directory / _LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Missing(f"another testbed is being started in {directory}") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _holder(directory: Path) -> int:
    """The pid of the supervisor of the testbed in a directory; 0 if it has none."""
    try:
        with (directory / _LOCK).open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read() or 0)
    except (FileNotFoundError, NotADirectoryError):
        pass
    return 0


def _read_state(directory: Path) -> dict[str, dict[str, str]] | None:
    try:
        found: dict[str, dict[str, str]] = json.loads((directory / _STATE).read_text())
    except FileNotFoundError:
        return None
    return found
