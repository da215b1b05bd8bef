"""Run the test suite, and with ``--checks`` the other checks; the last line counts passes and failures.

See ``run-tests`` and ``.ci/run``.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LANES = 2
"""Parts of the suite that run side by side; they mostly wait."""

PART_SECONDS = 50.0
"""A part has modules that take about so long together, or one that takes longer."""

USUAL_SECONDS = 1.0
"""What a module takes that is not listed."""

SECONDS = {
    "ipython1.daemon.tests.test_nanny": 20,
    "ipython1.kernel.calls.tests.test_pendingresult": 6,
    "ipython1.kernel.clients.tests.test_commands_again": 20,
    "ipython1.kernel.clients.tests.test_multiengine_faults": 14,
    "ipython1.kernel.clients.tests.test_task_client": 9,
    "ipython1.kernel.controller.journal.tests.test_damage": 20,
    "ipython1.kernel.controller.journal.tests.test_journal": 9,
    "ipython1.kernel.controller.journal.tests.test_kill": 9,
    "ipython1.kernel.controller.journal.tests.test_trouble": 14,
    "ipython1.kernel.host.tests.test_turns": 9,
    "ipython1.kernel.scripts.tests.test_check": 8,
    "ipython1.kernel.tests.test_imports": 25,
    "ipython1.kernel.tests.test_layers": 8,
    "ipython1.kernel.tub.tests.test_fastbroker": 12,
    "ipython1.kernel.tub.tests.test_tlsstream": 12,
    "ipython1.kernel.wire.tests.test_bulkflow": 15,
    "ipython1.testing.tests.test_inprocess": 3,
    "ipython1.testing.tests.test_lending": 15,
    "tests.benchmarks.test_benchmarks": 70,
    "tests.faults.test_controller": 20,
    "tests.faults.test_flow": 95,
    "tests.faults.test_network": 20,
    "tests.faults.test_processes": 45,
    "tests.faults.test_serialization": 10,
    "tests.faults.test_shared_memory": 40,
    "tests.faults.test_strangers": 35,
    "tests.faults.test_supervision": 105,
    "tests.faults.test_tasks": 40,
    "tests.simulator.test_simulator": 25,
    "tests.soak.test_soak": 30,
    "tests.test_cluster": 40,
    "tests.test_cluster_adapt": 22,
    "tests.test_cluster_htcondor": 55,
    "tests.test_cluster_kubernetes": 45,
    "tests.test_cluster_mixed": 30,
    "tests.test_cluster_mpi": 40,
    "tests.test_cluster_netns": 50,
    "tests.test_cluster_sge": 50,
    "tests.test_cluster_slurm": 115,
    "tests.test_cluster_ssh": 40,
    "tests.test_cluster_standins": 30,
    "tests.test_cluster_tunnel": 48,
    "tests.test_coming_from": 110,
    "tests.test_containerfile": 75,
    "tests.test_containers": 10,
    "tests.test_docs": 95,
    "tests.test_docs_pages": 3,
    "tests.test_ends": 12,
    "tests.test_executors_processes": 60,
    "tests.test_faults": 25,
    "tests.test_gallery": 85,
    "tests.test_gateways": 30,
    "tests.test_half_open": 15,
    "tests.test_house": 8,
    "tests.test_interactive_pexpect": 65,
    "tests.test_interactive_tmux": 25,
    "tests.test_ipcluster": 90,
    "tests.test_kubernetes_launcher": 12,
    "tests.test_light_engines": 10,
    "tests.test_monitor_news": 10,
    "tests.test_monitor_page": 40,
    "tests.test_natural_calls": 15,
    "tests.test_netns_only_ssh": 45,
    "tests.test_notebook": 20,
    "tests.test_other_systems": 35,
    "tests.test_pytest_plugin": 90,
    "tests.test_release": 4,
    "tests.test_right_answers": 45,
    "tests.test_sessions": 20,
    "tests.test_ssh_clients": 35,
    "tests.test_standard_tests": 20,
    "tests.test_task_calls": 15,
    "tests.test_task_session": 15,
    "tests.test_testbeds": 25,
    "tests.test_typed_surface": 25,
    "tests.test_tryouts": 10,
}
"""What slow modules take, about; a wrong number makes a run longer, and nothing else."""

PORTABLE = [
    "ipython1.daemon.tests.test_settings",
    "ipython1.kernel.clusters.tests.test_clustercontrol",
    "tests.test_cluster.LifeTests.test_clients_and_tasks",
    "tests.test_cluster.LifeTests.test_detached_and_attached",
    "tests.test_cluster.LifeTests.test_nothing_is_left_when_the_program_is_killed",
    "tests.test_ipcluster.EndTests.test_ctrl_c",
    "tests.test_ipcluster.EndTests.test_kill_9",
    "tests.test_task_session.TaskSessionTests.test_a_users_scheduler",
    "tests.test_task_session.TaskSessionTests.test_asynchronous_client",
]
"""The part of the suite that is run once more with the fallbacks for other systems forced."""

PORTABLE_VARIABLE = "IPYTHON1_PORTABLE"

TIME_LIMIT = 1800.0
"""Seconds after which a part of the suite is considered to hang."""

CHECK_LIMIT = 900.0
"""Seconds after which another check is considered to hang."""

SKIPPED = 77
"""The exit status of a check that can do nothing here."""

STOP_TIME = 60.0
"""Seconds that the tests have to clean up after an interrupt."""

_SUMMARY = re.compile(r"^(?:PASSED|FAILED)(?: \((?P<counts>[^()\n]*)\))?\s*$", re.MULTILINE)
_REPORT = re.compile(r"^={79}\n\[(?:FAIL|ERROR|SUCCESS!\?!)\]\n.*?(?=^={79}$|^-{79}$)", re.M | re.S)
_REPORT_LINES = 30
_TAIL = 4000


@dataclass(frozen=True, slots=True)
class Counts:
    """How many passed, failed and were skipped.

    :ivar reports: what trial told of those that failed.
    """

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    reports: tuple[str, ...] = ()

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.reports + other.reports,
        )

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


def read_summary(output: str, status: int) -> Counts:
    """Read the counts from trial's output, and check them against its exit status.

    If a run broke off, its summary is missing or contradicts the status; that counts as one failure.
    """
    counts: dict[str, int] = {}
    for match in _SUMMARY.finditer(output[-_TAIL:]):
        pairs = (pair.split("=") for pair in (match["counts"] or "").split(", ") if "=" in pair)
        counts = {name: int(number) for name, number in pairs}
    failed = sum(counts.get(name, 0) for name in ("failures", "errors", "unexpectedSuccesses"))
    passed = counts.get("successes", 0) + counts.get("expectedFailures", 0)
    skipped = counts.get("skips", 0)
    reports = [match[0] for match in _REPORT.finditer(output)]
    if (status != 0 or not (passed or skipped)) and not failed:
        failed = 1
        reports = reports or [output]
    return Counts(passed, failed, skipped, tuple(map(_end_of, reports)))


def _end_of(report: str) -> str:
    return "\n".join(report.rstrip().splitlines()[-_REPORT_LINES:])


def parts() -> list[list[str]]:
    """All test modules, in parts that are run by processes of their own, those that take longest first."""
    found: list[tuple[float, list[str]]] = []
    taken, names = 0.0, list[str]()
    for name in modules():
        seconds = SECONDS.get(name, USUAL_SECONDS)
        if seconds >= PART_SECONDS:
            found.append((seconds, [name]))
            continue
        # Neighbours share testbeds.
        taken, names = taken + seconds, [*names, name]
        if taken >= PART_SECONDS:
            found.append((taken, names))
            taken, names = 0.0, []
    if names:
        found.append((taken, names))
    return [names for _, names in sorted(found, key=lambda part: -part[0])]


def modules() -> list[str]:
    """The names of all test modules."""
    paths = (path for top in ("ipython1", "tests") for path in (ROOT / top).rglob("test_*.py"))
    return sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)


class Screen:
    """Shows what several runs print: that of one as it arrives, and that of each other one as a whole."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: object = None
        self._kept: dict[object, bytearray] = {}
        self._ended: list[bytearray] = []

    def begin(self, run: object, output: bytes) -> None:
        """Show or keep the first output of a run."""
        with self._lock:
            if self._live is None:
                self._live = run
            else:
                self._kept[run] = bytearray()
        self.show(run, output)

    def show(self, run: object, output: bytes) -> None:
        """Show or keep more of its output."""
        with self._lock:
            if run is self._live:
                self._write(output)
            else:
                self._kept[run] += output

    def end(self, run: object) -> None:
        """Show what was kept of a run that has ended, now or when no other one is shown as it arrives."""
        with self._lock:
            if run is self._live:
                self._live = None
            else:
                self._ended.append(self._kept.pop(run))
            while self._live is None and self._ended:
                self._write(self._ended.pop(0))

    @staticmethod
    def _write(output: bytes) -> None:
        sys.stdout.buffer.write(output)
        sys.stdout.flush()


class Run:
    """A process of trial that runs a part of the suite.

    :param names: of the tests.
    :param directory: for its files; it is made.
    :param portable: whether the fallbacks for other systems are forced.
    """

    def __init__(
        self, names: Sequence[str], directory: Path, screen: Screen, portable: bool = False
    ) -> None:
        self._names = names
        self._environ = {PORTABLE_VARIABLE: "1"} if portable else {}
        self._directory = directory
        self._screen = screen
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def run(self) -> Counts:
        """Run the tests, and show what they print.

        :returns: what they told; a part that was stopped before it began counts as a failure.
        """
        with self._lock:
            if self._stopped:
                return Counts(failed=1)
            process = self._process = self._start()
        watch = threading.Timer(TIME_LIMIT, self.stop)
        watch.start()
        output = self._read(process)
        watch.cancel()
        return read_summary(output.decode("utf-8", "replace"), process.returncode)

    def stop(self) -> None:
        """End the tests, after giving them some time to end what they started, or do not begin them."""
        with self._lock:
            self._stopped = True
        if self._process is not None and self._process.poll() is None:
            _stop(self._process)

    def _start(self) -> subprocess.Popen[bytes]:
        self._directory.mkdir()
        command = [sys.executable, "-m", "twisted.trial"]
        command += ["--temp-directory", str(self._directory / "trial"), *self._names]
        ipython_dir = str(self._directory / "ipython")
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={
                **os.environ,
                **self._environ,
                "IPYTHONDIR": ipython_dir,
                "PYTHONUNBUFFERED": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _read(self, process: subprocess.Popen[bytes]) -> bytes:
        """Return all that it prints, when it has ended."""
        assert process.stdout is not None
        words = [*(f"{name}={value}" for name, value in self._environ.items()), "trial"]
        output = bytearray(f"{' '.join(['$', *words, *self._names])}\n".encode())
        self._screen.begin(self, bytes(output))
        with process.stdout as pipe:
            # Do not wait for whole lines, so that you can see which test hangs.
            while piece := os.read(pipe.fileno(), 65536):
                output += piece
                self._screen.show(self, piece)
        status = process.wait()
        if status < 0:
            self._screen.show(self, f"\nthe tests were ended by signal {-status}\n".encode())
        self._screen.end(self)
        return bytes(output)


def compile_modules() -> None:
    """Compile all modules, or each of the many processes does so where ``PYTHONDONTWRITEBYTECODE`` is set."""
    for folder in ("ipython1", "tests"):
        compileall.compile_dir(ROOT / folder, quiet=2)


def run_tests(parts: Sequence[Sequence[str]], directory: Path) -> Counts:
    """Run tests with trial; a part begins when one of the lanes is free."""
    screen = Screen()
    runs = [
        Run(names, directory / str(number), screen, portable=names is PORTABLE)
        for number, names in enumerate(parts)
    ]
    with ThreadPoolExecutor(LANES) as lanes:
        waiting = [lanes.submit(run.run) for run in runs]
        try:
            wait(waiting)
        except KeyboardInterrupt:
            # The last first, so that none begins meanwhile.
            for run in reversed(runs):
                run.stop()
    return sum((each.result() for each in waiting), Counts())


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the tests, after giving them some time to end what they started."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIME)
            return
        os.killpg(process.pid, signal.SIGKILL)


def checks() -> Mapping[str, list[str]]:
    """The commands of the other checks, by name."""
    python = sys.executable
    found = {
        "lint": [python, "-m", "ruff", "check", "."],
        "format": [python, "-m", "ruff", "format", "--check", "."],
        "types": [python, "-m", "mypy"],
    }
    if (ROOT / "docs" / "source" / "conf.py").exists():
        found["docs"] = [
            python,
            "-m",
            "sphinx",
            "-q",
            "-W",
            "-n",
            "--keep-going",
            "docs/source",
            "{out}",
        ]
    # They say in their last line what they cannot try here.
    found["floors"] = [python, "-u", "scripts/try_floors.py"]
    found["wheel"] = [python, "-u", "scripts/try_wheel.py"]
    return found


def run_check(name: str, command: Sequence[str], directory: Path) -> Counts:
    """Run one of the other checks, which counts as one test."""
    command = [part.format(out=directory / "docs") for part in command]
    print("$", " ".join(command[2:]), flush=True)
    status = _status_of(command)
    if status == SKIPPED:
        print(f"{name}: skipped", flush=True)
        return Counts(skipped=1)
    print(f"{name}: {'ok' if status == 0 else f'FAILED with status {status}'}", flush=True)
    return Counts(passed=1) if status == 0 else Counts(failed=1)


def _status_of(command: Sequence[str]) -> int:
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
    try:
        return process.wait(CHECK_LIMIT)
    except BaseException as problem:
        # It ends what it started.
        process.terminate()
        process.wait()
        if isinstance(problem, subprocess.TimeoutExpired):
            print(f"it takes more than {CHECK_LIMIT:g} s", flush=True)
            return -signal.SIGTERM
        raise


def main() -> int:
    """Run what the command line asks for.

    :returns: 0 when nothing failed.
    """
    parser = argparse.ArgumentParser(description="Run the test suite.", allow_abbrev=False)
    parser.add_argument("--checks", action="store_true", help="lint, format, types and docs too")
    parser.add_argument("names", nargs="*", help="tests as trial names them; all by default")
    given = parser.parse_args()
    # Make the interrupt also work when the tests were started in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    compile_modules()
    directory = Path(tempfile.mkdtemp(prefix="ipython1-suite-"))
    try:
        counts = run_tests([given.names] if given.names else [PORTABLE, *parts()], directory)
        if given.checks:
            print(f"tests: {counts}", flush=True)
            for name, command in checks().items():
                counts += run_check(name, command, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    for report in counts.reports:
        print(f"{'=' * 79}\nonce more, what failed:\n{report}\n")
    print(counts)
    return 1 if counts.failed else 0


if __name__ == "__main__":
    sys.exit(main())
