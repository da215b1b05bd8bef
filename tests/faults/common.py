"""What the fault tests share: a test that runs apart, a cluster to harm, and the oracle.

After every fault: nothing that was acknowledged is missing, nothing appears twice or unasked, memory, open files and
rows are back where they were (:func:`baseline`), a second client was served throughout (:class:`Witness`), and the
controller's process is the same unless the test killed it.

The tests have the numbers of the list of faults in the documentation (``docs/source/reliability.txt``).  Each is
deterministic but for the timing of the processes, and bounded in time.  ``IPYTHON1_TEST_LONG=1`` adds the long forms.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from twisted.trial import unittest

from ipython1.daemon import osprocess
from ipython1.testing.processes import RealCluster
from tests.faults.apart import Outcome

INNER = "IPYTHON1_FAULTS_INNER"
LONG = os.environ.get("IPYTHON1_TEST_LONG", "") not in ("", "0")
SEED = int(os.environ.get("IPYTHON1_TEST_SEED", "20080308"))
LIMIT = 90.0
SOON = 30.0

_F = TypeVar("_F", bound=Callable[..., Any])


def limit(seconds: float) -> Callable[[_F], _F]:
    """Set a test's time limit, if it is not the usual one."""

    def mark(function: _F) -> _F:
        function.time_limit = seconds  # type: ignore[attr-defined]
        return function

    return mark


def until(condition: Callable[[], Any], what: str, within: float = SOON) -> Any:
    """Wait for something that other processes do; returns the condition's first true value."""
    end = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {within:g} s: {what}")
        time.sleep(0.02)
    return value


def say(*what: object) -> None:
    """Print figures; they are shown when the test fails, or with ``IPYTHON1_TEST_FIGURES=1``."""
    print(f"[{time.monotonic():.2f}]", *what, flush=True)


def timed(function: Callable[..., Any], *args: Any, **kw: Any) -> tuple[float, Any]:
    """Seconds that a call took, and what it returned or raised."""
    begin = time.monotonic()
    try:
        result = function(*args, **kw)
    except Exception as problem:
        result = problem
    return time.monotonic() - begin, result


def _apart(method: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(method)
    def run(case: FaultCase) -> None:
        if INNER in os.environ:
            method(case)
        else:
            case._run_apart(method.__name__)

    return run


class FaultCase(unittest.SynchronousTestCase):
    """Each test method runs apart: see :mod:`tests.faults.apart`.

    Do not define ``setUp``; use ``with`` statements and ``addCleanup``.
    """

    def __init_subclass__(cls, **kw: Any) -> None:
        super().__init_subclass__(**kw)
        for name, method in list(vars(cls).items()):
            if name.startswith("test_"):
                setattr(cls, name, _apart(method))

    @property
    def random(self) -> random.Random:
        """A new generator, the same in each run of this test; ``IPYTHON1_TEST_SEED`` chooses another."""
        return random.Random(f"{SEED} {self.id()}")

    def _run_apart(self, method: str) -> None:
        folder = Path(tempfile.mkdtemp(prefix="ipython1-fault-"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        for name in ("home", "tmp", "ipython"):
            (folder / name).mkdir(mode=0o700)
        cls = type(self)
        seconds = getattr(getattr(cls, method), "time_limit", LIMIT)
        with (folder / "output").open("w+") as output:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "tests.faults.apart", str(seconds)),
                    *(str(folder), f"{cls.__module__}.{cls.__qualname__}.{method}"),
                ],
                env=_environ(folder),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                process.wait(seconds + SOON)
            finally:
                # It ends all that it has started.
                assert process.stdin is not None
                process.stdin.close()
                process.wait()
            output.seek(0)
            printed = output.read()
        outcome = Outcome.read(folder)
        if outcome.kind == "skipped":
            raise unittest.SkipTest(outcome.text)
        if outcome.kind != "passed":
            self.fail(f"{outcome.text}\n{printed[-20_000:]}")
        if os.environ.get("IPYTHON1_TEST_FIGURES"):
            print(printed)


def _environ(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        INNER: "1",
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "IPYTHONDIR": str(folder / "ipython"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONUNBUFFERED": "1",
    }


class Cluster(RealCluster):
    """``ipcluster`` with its processes, whose ids can be told; the default cluster of this process.

    On an exception, the ends of its logs are printed.

    :param options: additional arguments of ``ipcluster``.
    :param ini: the text of its ``ipython1.kernel.ini``.
    """

    def __init__(
        self,
        n: int = 2,
        options: Sequence[str] = (),
        *,
        ini: str = "",
        environ: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        super().__init__(n, options, environ, directory)
        if ini:
            path = self.ipython_dir / "ipython1.kernel.ini"
            path.touch(0o600)
            path.write_text(ini)

    def __enter__(self) -> Cluster:
        os.environ["IPYTHONDIR"] = str(self.ipython_dir)
        self._stack = contextlib.ExitStack()
        super().__enter__()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        if exc_info[0] is not None:
            print("".join(self.output[-60:]), self.logs(), sep="\n", flush=True)
        with contextlib.ExitStack() as both:
            both.callback(super().__exit__, *exc_info)
            both.callback(self._stack.close)

    @property
    def ipcluster(self) -> int:
        """The process id of ``ipcluster``."""
        assert self.process is not None
        return self.process.pid

    @property
    def controller(self) -> int:
        """The process id of the controller, also while none runs."""
        return int((self.ipython_dir / "security" / "ipcontroller.lock").read_text() or 0)

    def engine_processes(self) -> list[int]:
        """The engines' processes: those whose command is ``ipengine``."""
        found = []
        for pid in osprocess.descendants(self.ipcluster):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().startswith("ipengine"):
                    found.append(pid)
        return found

    def mec(self) -> Any:
        """A new blocking client of the engines, closed at the end."""
        from ipython1.kernel import client

        made = client.MultiEngineClient(timeout=SOON)
        self._stack.callback(_close, made)
        return made

    def tc(self) -> Any:
        """A new blocking client for tasks, closed at the end."""
        from ipython1.kernel import client

        made = client.TaskClient(timeout=SOON)
        self._stack.callback(_close, made)
        return made

    def log(self, name: str = "ipcontroller.log") -> str:
        return (self.ipython_dir / "log" / name).read_text(errors="replace")

    def printed(self) -> str:
        """What ``ipcluster`` has printed so far."""
        return "".join(self.output)

    def run_command(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of the commands for this cluster to its end."""
        return subprocess.run(
            [sys.executable, "-P", "-m", f"ipython1.kernel.scripts.{program}", *arguments],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SOON,
            check=False,
        )


def _close(made: Any) -> None:
    with contextlib.suppress(Exception):
        made.close()


def engine_pids(mec: Any) -> dict[int, int]:
    """The process ids of the engines, by engine id."""
    ids = mec.get_ids()
    told = mec.execute("import os; print(os.getpid())", targets=ids)
    return {engine: int(each["stdout"]) for engine, each in zip(ids, told, strict=True)}


def kill(pid: int) -> None:
    """``kill -9``, and wait for the end."""
    os.kill(pid, signal.SIGKILL)
    until(lambda: not osprocess.is_alive(pid), f"the end of process {pid}")


@contextlib.contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """SIGSTOP some processes, and let them go on in the end."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            osprocess.send_signal(pid, signal.SIGCONT)


class Gate:
    """Holds code on engines until it is let go, or this test ends.

    :ivar waits: code that waits at the gate, as a read of a file does.
    :ivar holds: the same in a C call that keeps the interpreter.
    """

    def __init__(self) -> None:
        path = os.path.join(tempfile.mkdtemp(prefix="gate-"), "gate")
        os.mkfifo(path)
        # Open for reading too, so that nobody waits for the other side when he opens it.
        self._gate = os.open(path, os.O_RDWR)
        opened = f"os.open({path!r}, os.O_RDONLY)"
        self.waits = f"import os; os.read({opened}, 1)"
        self.holds = (
            "import ctypes, os; "
            f"ctypes.PyDLL(None).read({opened}, ctypes.create_string_buffer(1), 1)"
        )

    def let_go(self) -> None:
        """Have all of it go on."""
        if self._gate >= 0:
            os.close(self._gate)
            self._gate = -1

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.let_go()


def rss(pid: int) -> float:
    """Resident memory in MB; -1 for a process that is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
    return -1.0


def more_memory(most: int) -> str:
    """Code after which its process can have so many MB more than it has, and no others."""
    return f"""
import resource
with open("/proc/self/statm") as file:
    most = int(file.read().split()[0]) * resource.getpagesize() + ({most} << 20)
resource.setrlimit(resource.RLIMIT_AS, (most, most))
"""


def open_files(pid: int) -> int:
    """How many files and sockets a process has open; -1 for one that is gone."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return -1


def files_of(pid: int) -> dict[str, str]:
    """The open files of a process, by number."""
    found = {}
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found[path.name] = os.readlink(path)
    return found


@contextlib.contextmanager
def user(code: str, **popen: Any) -> Iterator[subprocess.Popen[str]]:
    """Another client's program: one that can be killed.  ``client`` is imported for it; it is killed in the end."""
    head = "from ipython1.kernel import client\n"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", head + code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        **popen,
    )
    try:
        yield process
    finally:
        osprocess.send_signal(process.pid, signal.SIGKILL)
        process.communicate()


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that a program prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the program ended before it printed what was expected"
    return line.rstrip("\n")


@dataclass
class Peak:
    """The greatest memory that a process used while this was entered, in MB."""

    pid: int
    value: float = 0.0
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Peak:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while True:
            self.value = max(self.value, rss(self.pid))
            if self._over.wait(0.05):
                return

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()


CACHE = 130.0
"""MB that a controller may keep after results of tasks: 64 MiB of them, for others, and what an allocator holds."""


@contextlib.contextmanager
def baseline(pid: int, memory: float = 40.0, files: int = 0) -> Iterator[None]:
    """See that a process gives back what it took, soon after.

    :param memory: MB that it may keep: what an allocator holds, and tables that have grown.
    :param files: how many more files may stay open.
    """
    before, open_before = rss(pid), files_of(pid)
    yield
    try:
        until(lambda: open_files(pid) <= len(open_before) + files, "files are closed")
    except AssertionError as problem:
        new = {number: name for number, name in files_of(pid).items() if number not in open_before}
        raise AssertionError(f"{problem}: {len(open_before)} before, and now also {new}") from None
    try:
        until(lambda: rss(pid) <= before + memory, "memory is given back")
    except AssertionError as problem:
        raise AssertionError(
            f"{problem}: {before:.0f} MB before, {rss(pid):.0f} MB after"
        ) from None
    say(f"process {pid}: {before:.0f} MB before, {rss(pid):.0f} MB after, {open_files(pid)} files")


class Witness:
    """A second client that is served throughout: it calls an engine all the time, in a thread.

    :param engine: one that is not harmed; None if it is to ask the controller only.
    :param patience: seconds that one of its calls may take.
    :ivar longest: the seconds of the longest call so far.
    """

    def __init__(self, cluster: Cluster, engine: int | None = 1, patience: float = 10.0) -> None:
        self._mec = cluster.mec()
        self._engine = engine
        self.patience = patience
        self.longest = 0.0
        self.calls = 0
        self._begun: float | None = None
        self._problem: Exception | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._call, daemon=True)

    def _call(self) -> None:
        try:
            while not self._over.is_set():
                self._begun = time.monotonic()
                number = self.calls
                self._mec.get_ids()
                if self._engine is not None:
                    self._mec.push({"witness": number}, targets=self._engine)
                    assert self._mec.pull("witness", targets=self._engine) == [number]
                self.longest = max(self.longest, time.monotonic() - self._begun)
                self.calls += 1
                self._over.wait(0.05)
        except Exception as problem:
            self._problem = problem

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._over.set()
        self._thread.join(self.patience)
        if not self._thread.is_alive():
            _close(self._mec)
        if kind is not None:
            return
        assert self._problem is None, f"the second client was not served: {self._problem!r}"
        waits = self._thread.is_alive()
        assert not waits, f"the second client still waits after {self.patience:g} s"
        assert self.longest < self.patience, f"the second client waited {self.longest:.1f} s"
        assert self.calls, "the second client did nothing"
        say(f"the second client was served {self.calls} times, in at most {self.longest:.2f} s")


class Ledger:
    """A file in which every run of a task leaves a line, so that runs can be counted.

    Its :meth:`task` is what the engines run.
    """

    def __init__(self) -> None:
        handle, name = tempfile.mkstemp(prefix="ledger-")
        os.close(handle)
        self.path = Path(name)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.path.unlink()

    def task(self, number: int, seconds: float = 0.0, **options: Any) -> Any:
        """A task that notes its beginning and its end and returns ``number`` and the engine's process id."""
        from ipython1.kernel import client

        return client.MapTask(run_noted, (str(self.path), number, seconds), **options)

    def lines(self) -> list[tuple[str, int, int, str]]:
        """All lines: ``begun`` or ``ended``, the task's number, the process, and a mark that is unique per run."""
        found = []
        for line in self.path.read_text().splitlines():
            what, number, pid, mark = line.split()
            found.append((what, int(number), int(pid), mark))
        return found

    def runs(self) -> collections.Counter[int]:
        """How often each task has begun."""
        return collections.Counter(number for what, number, *_ in self.lines() if what == "begun")


def only_where(name: str) -> Callable[[dict[str, Any]], bool]:
    """What to give as ``depend`` for a task that is only for engines which have the property ``name``."""
    return lambda properties: bool(properties.get(name))


def run_noted(path: str, number: int, seconds: float) -> tuple[int, int]:
    """What :meth:`Ledger.task` runs: each line is one write, which a kill cannot split."""
    import os
    import time
    import uuid

    mark = uuid.uuid4().hex
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, f"begun {number} {os.getpid()} {mark}\n".encode())
        time.sleep(seconds)
        os.write(descriptor, f"ended {number} {os.getpid()} {mark}\n".encode())
    finally:
        os.close(descriptor)
    return number, os.getpid()


@dataclass(frozen=True)
class Tally:
    """The oracle of a queue, after Jepsen's "total queue".

    :ivar attempted: everything that anyone tried to submit.
    :ivar acknowledged: what the system has promised to do.
    :ivar completed: what has an outcome, as often as it had one.
    """

    attempted: frozenset[int]
    acknowledged: frozenset[int]
    completed: collections.Counter[int]

    @classmethod
    def of(
        cls, attempted: Iterable[int], acknowledged: Iterable[int], completed: Iterable[int]
    ) -> Tally:
        return cls(frozenset(attempted), frozenset(acknowledged), collections.Counter(completed))

    @property
    def lost(self) -> list[int]:
        """What was acknowledged and has no outcome."""
        return sorted(self.acknowledged - self.completed.keys())

    @property
    def duplicated(self) -> list[int]:
        """What has more than one outcome."""
        return sorted(number for number, times in self.completed.items() if times > 1)

    @property
    def unasked(self) -> list[int]:
        """What nobody has submitted and yet has an outcome."""
        return sorted(self.completed.keys() - self.attempted)

    def check(self) -> None:
        """Print the counts.

        :raises AssertionError: unless nothing is lost, duplicated or unasked for.
        """
        say(self)
        assert not self.lost, f"lost: {self.lost[:20]}"
        assert not self.duplicated, f"duplicated: {self.duplicated[:20]}"
        assert not self.unasked, f"never asked for: {self.unasked[:20]}"

    def __str__(self) -> str:
        return (
            f"{len(self.acknowledged)} acknowledged, {len(self.completed)} completed, "
            f"{len(self.lost)} lost, {len(self.duplicated)} duplicated"
        )


def results_of(tc: Any, ids: Sequence[int]) -> list[Any]:
    """The results of tasks that have ended; a failure is its exception."""
    found = []
    for task_id in ids:
        try:
            found.append(tc.get_task_result(task_id).result)
        except Exception as problem:
            found.append(problem)
    return found


@contextlib.contextmanager
def engine_behind(cluster: Cluster, proxy: Any) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """An engine that reaches the controller through a proxy: its process and its id."""
    mec = cluster.mec()
    before = set(mec.get_ids())
    process = subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "ipython1.kernel.scripts.ipengine"),
            *("--controller-ip=127.0.0.1", f"--controller-port={proxy.port}"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        came = until(lambda: set(mec.get_ids()) - before, "the engine behind the proxy")
        yield process, came.pop()
    finally:
        osprocess.send_signal(process.pid, signal.SIGCONT)
        osprocess.send_signal(process.pid, signal.SIGKILL)
        process.wait()
