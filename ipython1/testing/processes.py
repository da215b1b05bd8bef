"""A real cluster for tests: ``ipcluster`` with its processes, in an IPython directory of its own, gone afterwards.

Blocking clients run their reactor in a thread and trial runs the same reactor itself, so a test that uses them
runs as a program of its own: see :meth:`RealCluster.run_program`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

START_TIMEOUT = 60.0
"""Seconds for all engines to come; a loaded machine needs many."""

STOP_TIMEOUT = 20.0


class RealCluster:
    """``ipcluster -n N`` in a temporary IPython directory; use it in a ``with`` statement, or ``start`` and
    ``stop`` it.

    :param options: further arguments of ``ipcluster``.
    :ivar ipython_dir: the IPython directory.
    :ivar output: what ``ipcluster`` has printed so far, a list of lines.
    """

    def __init__(
        self, n: int = 4, options: Sequence[str] = (), environ: Mapping[str, str] | None = None
    ) -> None:
        self.n = n
        self.ipython_dir = Path(tempfile.mkdtemp(prefix="ipython1-test-"))
        self.output: list[str] = []
        # What a killed process leaves behind goes with the directory.
        temporary = self.ipython_dir / "tmp"
        temporary.mkdir()
        self.environ = {
            **os.environ,
            "IPYTHONDIR": str(self.ipython_dir),
            "TMPDIR": str(temporary),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            **(environ or {}),
        }
        self.command = [
            sys.executable,
            "-m",
            "ipython1.kernel.scripts.ipcluster",
            *([] if any(option in ("-n", "--n") for option in options) else ["-n", str(n)]),
            *options,
        ]
        self.process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._ready = threading.Event()

    def start(self) -> RealCluster:
        """Start it; returns when all engines are usable.

        :raises RuntimeError: with what it printed, when it does not come up.
        """
        self.process = subprocess.Popen(
            self.command,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        deadline = time.monotonic() + START_TIMEOUT
        while not self._ready.wait(0.1):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self._reader.join(2.0)
                output = "".join(self.output)
                logs = self.logs()
                self.stop()
                raise RuntimeError(f"the cluster did not come up:\n{output}\n{logs}")
        return self

    def _read(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            if "MultiEngineClient(" in line:
                self._ready.set()

    def logs(self) -> str:
        """The ends of all log files."""
        parts = []
        for path in sorted((self.ipython_dir / "log").glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-20:]
            parts.append(f"== {path.name}\n" + "\n".join(lines))
        return "\n".join(parts)

    def stop(self) -> None:
        """End it as Ctrl-C would, by force if it does not obey; removes its directory."""
        process = self.process
        try:
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(STOP_TIMEOUT)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            if self._reader is not None:
                self._reader.join(5.0)
            reading = self._reader is not None and self._reader.is_alive()
            if process is not None and process.stdout is not None and not reading:
                process.stdout.close()
        finally:
            shutil.rmtree(self.ipython_dir, ignore_errors=True)

    def run_program(
        self, path: str | os.PathLike[str], *args: str, timeout: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a Python program that finds this cluster as its default one.

        :param timeout: seconds after which it is killed.
        :raises AssertionError: with all that it printed, when it fails or does not end.
        """
        try:
            result = subprocess.run(
                [sys.executable, os.fspath(path), *args],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            printed = [
                text.decode(errors="replace") if isinstance(text, bytes) else text or ""
                for text in (late.stdout, late.stderr)
            ]
            raise AssertionError(
                f"{Path(path).name} did not end within {timeout:g} s:\n{printed[0]}\n{printed[1]}\n{self.logs()}"
            ) from None
        if result.returncode:
            raise AssertionError(
                f"{Path(path).name} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}\n{self.logs()}"
            )
        return result

    def __enter__(self) -> RealCluster:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
