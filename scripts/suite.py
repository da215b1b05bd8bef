"""Run the test suite, and with ``--checks`` the other checks; the last line counts passes and failures.

See ``run-tests`` and ``.ci/run``.
"""

from __future__ import annotations

import argparse
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
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIME_LIMIT = 2400.0
"""Seconds after which a running test suite is considered to hang."""

STOP_TIME = 60.0
"""Seconds that the tests have to clean up after an interrupt."""

_SUMMARY = re.compile(r"^(?:PASSED|FAILED)(?: \((?P<counts>[^()\n]*)\))?\s*$", re.MULTILINE)
_TAIL = 4000
_SHOWING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Counts:
    """How many passed, failed and were skipped."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped
        )

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


def read_summary(output: str, status: int) -> Counts:
    """Read the counts from trial's output, and check them against its exit status.

    If a run broke off, its summary is missing or contradicts the status; that counts as one failure.
    """
    counts: dict[str, int] = {}
    for match in _SUMMARY.finditer(output):
        pairs = (pair.split("=") for pair in (match["counts"] or "").split(", ") if "=" in pair)
        counts = {name: int(number) for name, number in pairs}
    failed = sum(counts.get(name, 0) for name in ("failures", "errors", "unexpectedSuccesses"))
    passed = counts.get("successes", 0) + counts.get("expectedFailures", 0)
    if (status != 0 or not passed) and not failed:
        failed = 1
    return Counts(passed, failed, counts.get("skips", 0))


def lanes() -> list[list[str]]:
    """All tests, in parts that run side by side and take about the same time; they mostly wait."""
    others = [
        f"tests.{path.stem}"
        for path in sorted((ROOT / "tests").iterdir())
        if path.match("test_*.py") or ((path / "__init__.py").exists() and any(path.glob("test_*")))
    ]
    others.remove("tests.faults")
    return [["ipython1", "tests.faults"], others]


class Run:
    """A process of trial, and the thread that reads what it prints.

    :ivar counts: what it told, when it has ended.
    :param shown: whether its output is to be seen as it arrives, and not at the end.
    """

    def __init__(self, names: Sequence[str], directory: Path, shown: bool) -> None:
        directory.mkdir()
        command = [sys.executable, "-m", "twisted.trial"]
        command += ["--temp-directory", str(directory / "trial"), *names]
        environ = {**os.environ, "IPYTHONDIR": str(directory / "ipython"), "PYTHONUNBUFFERED": "1"}
        self._title = " ".join(["$ trial", *names])
        self._shown = shown
        self._output = (directory / "output").open("w+b")
        self.counts = Counts()
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def wait(self) -> None:
        """Wait until it has ended and its output was shown."""
        self._thread.join()

    def stop(self) -> None:
        """End the tests, after giving them some time to end what they started."""
        _stop(self._process)

    def _read(self) -> None:
        assert self._process.stdout is not None
        watch = threading.Timer(TIME_LIMIT, self.stop)
        watch.start()
        if self._shown:
            self._show(f"{self._title}\n".encode())
        # Do not wait for whole lines, so that you can see which test hangs.
        while piece := os.read(self._process.stdout.fileno(), 65536):
            self._output.write(piece)
            if self._shown:
                self._show(piece)
        status = self._process.wait()
        watch.cancel()
        with self._output:
            self._output.seek(0)
            output = self._output.read()
        if not self._shown:
            self._show(f"{self._title}\n".encode() + output)
        if status < 0:
            print(f"\nthe tests were ended by signal {-status}", flush=True)
        self.counts = read_summary(output[-_TAIL:].decode("utf-8", "replace"), status)

    @staticmethod
    def _show(output: bytes) -> None:
        with _SHOWING:
            sys.stdout.buffer.write(output)
            sys.stdout.flush()


def run_tests(parts: Sequence[Sequence[str]], directory: Path) -> Counts:
    """Run tests with trial, the parts side by side; the output of the last part is shown as it arrives."""
    runs: list[Run] = []
    try:
        for number, names in enumerate(parts):
            runs.append(Run(names, directory / str(number), number == len(parts) - 1))
        for run in reversed(runs):
            run.wait()
    except KeyboardInterrupt:
        for run in runs:
            run.stop()
        for run in runs:
            run.wait()
    counts = Counts()
    for run in runs:
        counts += run.counts
    return counts


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
    if (ROOT / "docs" / "conf.py").exists():
        found["docs"] = [python, "-m", "sphinx", "-q", "-W", "--keep-going", "docs", "{out}"]
    return found


def run_check(name: str, command: Sequence[str], directory: Path) -> Counts:
    """Run one of the other checks, which counts as one test."""
    command = [part.format(out=directory / "docs") for part in command]
    print("$", " ".join(command[2:]), flush=True)
    status = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=False).returncode
    print(f"{name}: {'ok' if status == 0 else f'FAILED with status {status}'}", flush=True)
    return Counts(passed=1) if status == 0 else Counts(failed=1)


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
    directory = Path(tempfile.mkdtemp(prefix="ipython1-suite-"))
    try:
        counts = run_tests([given.names] if given.names else lanes(), directory)
        if given.checks:
            print(f"tests: {counts}", flush=True)
            for name, command in checks().items():
                counts += run_check(name, command, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(counts)
    return 1 if counts.failed else 0


if __name__ == "__main__":
    sys.exit(main())
