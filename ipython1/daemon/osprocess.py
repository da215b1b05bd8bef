"""Everything that the supervision of processes needs from the operating system, in one place.

Linux provides all of it: a process can adopt the orphans below it (``PR_SET_CHILD_SUBREAPER``), the kernel can kill a
process when its parent dies (``PR_SET_PDEATHSIG``), and ``/proc`` shows who descends from whom.  On other systems each
function falls back to ``psutil``, or does nothing and says so by its return value; :mod:`ipython1.system` decides that.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ipython1 import system

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

NO_FORK_VARIABLE = "IPYTHON1_NO_FORK"


def is_linux() -> bool:
    """Return whether the Linux calls may be used."""
    return system.LINUX


def can_fork_warm() -> bool:
    """Return whether a process that has imported Python libraries may be forked and continue in the child.

    It may not on Windows (no fork) and macOS (its system libraries do not survive a fork); only Linux is tried.
    """
    return system.LINUX and os.environ.get(NO_FORK_VARIABLE) != "1"


def _prctl(option: int, argument: int) -> bool:
    import ctypes

    value = ctypes.c_ulong(argument)
    zero = ctypes.c_ulong(0)
    try:
        return ctypes.CDLL(None).prctl(option, value, zero, zero, zero) == 0
    except (OSError, AttributeError):
        return False


def adopt_orphans() -> bool:
    """Make every orphan below this process its child; return False if the system cannot."""
    return is_linux() and _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent(parent_pid: int) -> bool:
    """Make the kernel kill this process when its parent dies; return False if the system cannot.

    Call this in the child.  ``parent_pid`` serves to detect that the parent is already gone.
    """
    if not is_linux() or not _prctl(_PR_SET_PDEATHSIG, system.KILL):
        return False
    if os.getppid() != parent_pid:
        os._exit(1)
    return True


MPI_RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")


def mpi_rank() -> int | None:
    """Return this process's rank if an MPI launcher started it, without setting up MPI."""
    for name in MPI_RANK_VARIABLES:
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    return None


def end_with_mpi_launcher() -> bool:
    """Make the kernel kill this process with its parent if an MPI launcher started it.

    Not every launcher's ranks end when the launcher itself is killed.
    """
    if not any(name in os.environ for name in MPI_RANK_VARIABLES):
        return False
    return end_with_parent(os.getppid())


class ProcessEntry(NamedTuple):
    """An entry of the process table.

    :ivar state: a letter as ``ps`` shows it: ``Z`` a zombie, ``T`` stopped by a signal, ``t`` by a debugger.
    :ivar started: when it started, in a system-dependent unit; together with the pid it identifies a process uniquely.
    """

    pid: int
    parent: int
    session: int
    state: str
    started: float

    @property
    def is_stopped(self) -> bool:
        """Whether a signal or a debugger has stopped it."""
        return self.state in ("T", "t")

    def started_at(self, moment: float) -> bool:
        """Return whether this is the process that started then."""
        return abs(self.started - moment) < 0.05


def stat_fields(pid: int) -> list[bytes] | None:
    """Return what Linux tells of a process, from its state on (field 3 of ``proc(5)``); None if it is not there."""
    try:
        # A file object would take several system calls more.
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | system.O_CLOEXEC)
        try:
            data = os.read(descriptor, 4096)
        finally:
            os.close(descriptor)
    except OSError:
        return None
    # The command name is in parentheses and may itself contain spaces and parentheses.
    return data[data.rindex(b")") + 2 :].split()


def _read_stat(pid: int) -> ProcessEntry | None:
    fields = stat_fields(pid)
    if fields is None:
        return None
    return ProcessEntry(
        pid=pid,
        parent=int(fields[1]),
        session=int(fields[3]),
        state=fields[0].decode(),
        started=float(fields[19]),
    )


def _psutil_entry(pid: int) -> ProcessEntry | None:
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            state = _PSUTIL_STATES.get(process.status(), "S")
            entry = ProcessEntry(
                pid, process.ppid() or 0, _session_of(pid), state, process.create_time()
            )
    except psutil.Error:
        return None
    return entry


_PSUTIL_STATES = {"zombie": "Z", "dead": "X", "stopped": "T", "tracing-stop": "t"}


def _session_of(pid: int) -> int:
    if not hasattr(os, "getsid"):
        return 0
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def process_entry(pid: int) -> ProcessEntry | None:
    """Return the entry for one process, or None if there is no such process."""
    return _read_stat(pid) if is_linux() else _psutil_entry(pid)


def process_table() -> dict[int, ProcessEntry]:
    """Return all processes that this user can see, by pid."""
    if is_linux():
        pids: Iterable[int] = (int(name) for name in os.listdir("/proc") if name.isdigit())
    else:
        import psutil

        pids = psutil.pids()
    found = (process_entry(pid) for pid in pids)
    return {entry.pid: entry for entry in found if entry is not None}


def descendants(root: int, table: Mapping[int, ProcessEntry] | None = None) -> list[int]:
    """Return the pids of all descendants of ``root`` without zombies, parents first."""
    known = process_table() if table is None else table
    children: dict[int, list[int]] = {}
    for entry in known.values():
        children.setdefault(entry.parent, []).append(entry.pid)
    found: list[int] = []
    waiting = [root]
    while waiting:
        for pid in children.get(waiting.pop(), ()):
            waiting.append(pid)
            if known[pid].state != "Z":
                found.append(pid)
    return found


def kill_descendants() -> int:
    """Kill all descendants of this process, including those forked meanwhile; return how many were killed."""
    killed = 0
    for _ in range(20):
        left = descendants(os.getpid())
        if not left:
            break
        for pid in left:
            killed += send_signal(pid, system.KILL)
        time.sleep(0.005)
    return killed


def kill_below(pid: int) -> None:
    """Kill all descendants of a process, which is stopped first, so that it starts no others."""
    if hasattr(signal, "SIGSTOP"):
        send_signal(pid, signal.SIGSTOP)
    for each in descendants(pid):
        send_signal(each, getattr(signal, "SIGKILL", signal.SIGTERM))


def is_alive(pid: int, started: float | None = None) -> bool:
    """Return whether a process is alive and not a zombie; with ``started``, whether it is still the same one."""
    entry = process_entry(pid)
    if entry is None or entry.state == "Z":
        return False
    return started is None or entry.started_at(started)


def environment_of(pid: int) -> Mapping[str, str]:
    """Return the environment that a process was started with; empty if it cannot be read."""
    if is_linux():
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                items = file.read().split(b"\0")
        except OSError:
            return {}
        pairs = (item.decode(errors="replace").partition("=") for item in items if item)
        return {name: value for name, _, value in pairs}
    import psutil

    try:
        return dict(psutil.Process(pid).environ())
    except (psutil.Error, OSError):
        return {}


def send_signal(pid: int, number: int, *, group: bool = False) -> bool:
    """Send a signal to a process, or with ``group`` to its whole process group; return False if it is gone.

    Windows knows only the end of a process, at once, whether it is asked by ``SIGTERM`` or ``SIGKILL``.
    """
    if os.name == "nt" and number not in (signal.SIGTERM, system.KILL):
        return False
    with contextlib.suppress(OSError):
        if group and hasattr(os, "killpg"):
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
        return True
    return False


def signal_myself(number: int) -> None:
    """Do in this process, from any of its threads, what a signal would do."""
    if os.name != "nt":
        os.kill(os.getpid(), number)
    elif number in signal.valid_signals() and callable(signal.getsignal(number)):
        _thread.interrupt_main(number)  # type: ignore[arg-type]
    else:
        os._exit(128 + number)


def let_go_on(pid: int) -> None:
    """Continue a process if a signal has stopped it; as long as it is stopped it cannot handle ``SIGTERM``."""
    if system.CONTINUE is not None:
        send_signal(pid, system.CONTINUE)


def disk_is_full(path: str) -> bool:
    """Return whether the file system of ``path`` is known to be full."""
    if not hasattr(os, "statvfs"):
        return False
    try:
        return os.statvfs(path).f_bavail == 0
    except OSError:
        return False


def signal_name(number: int) -> str:
    """Return the name of a signal, such as ``SIGKILL`` for 9; ``signal N`` if it has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def signal_number(which: int | str) -> int:
    """Return the number of a signal given as ``15``, ``"15"``, ``"TERM"`` or ``"SIGTERM"``.

    :raises ValueError: if there is no such signal.
    """
    text = str(which).strip().upper()
    if text.isdigit():
        number = int(text)
    else:
        name = text if text.startswith("SIG") else f"SIG{text}"
        number = int(getattr(signal, name, -1)) if name.isalpha() or name.isalnum() else -1
    if number not in signal.valid_signals() and number != 0:
        raise ValueError(
            f"{which!r} is not a signal on this system; use a name such as TERM, or a number"
        )
    return number
