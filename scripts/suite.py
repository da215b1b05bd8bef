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
TIME_LIMIT = 1800.0
"""Seconds after which a running test suite is considered to hang."""

STOP_TIME = 60.0
"""Seconds that the tests have to clean up after an interrupt."""

_SUMMARY = re.compile(r"^(?:PASSED|FAILED)(?: \((?P<counts>[^()\n]*)\))?\s*$", re.MULTILINE)
_TAIL = 4000


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


def run_tests(names: Sequence[str], directory: Path) -> Counts:
    """Run tests with trial, and show its output as it arrives."""
    command = [
        sys.executable,
        "-m",
        "twisted.trial",
        "--temp-directory",
        str(directory / "trial"),
        *names,
    ]
    environ = {**os.environ, "IPYTHONDIR": str(directory / "ipython"), "PYTHONUNBUFFERED": "1"}
    print("$", " ".join(["trial", *names]), flush=True)
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    watch = threading.Timer(TIME_LIMIT, _stop, [process])
    watch.start()
    tail = b""
    try:
        # Do not wait for whole lines, so that you can see which test hangs.
        while piece := os.read(process.stdout.fileno(), 65536):
            sys.stdout.buffer.write(piece)
            sys.stdout.flush()
            tail = (tail + piece)[-_TAIL:]
        status = process.wait()
    except KeyboardInterrupt:
        _stop(process)
        status = process.wait()
    finally:
        watch.cancel()
    if status < 0:
        print(f"\nthe tests were ended by signal {-status}")
    return read_summary(tail.decode("utf-8", "replace"), status)


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
        counts = run_tests(given.names or ["ipython1", "tests"], directory)
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
