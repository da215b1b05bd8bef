"""A real cluster for tests: ``ipcluster`` with its processes, in a temporary IPython directory.

Blocking clients run the reactor in a thread, but trial also runs it, so a test that uses blocking clients must run
as a separate program: see :meth:`RealCluster.run_program`.
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

from ipython1.kernel.host.sharedmemory import SHOWN

START_TIMEOUT = 60.0
"""Seconds that all engines may take to start; a loaded machine needs many."""

STOP_TIMEOUT = 20.0


def private_environ(directory: Path) -> dict[str, str]:
    """Return the environment for programs whose files are all to be in one directory.

    They import the packages that this process imports, and what a killed one leaves behind goes with the directory.

    :param directory: an existing directory, which becomes the IPython directory; ``tmp`` is made in it for temporary
        files.
    """
    temporary = directory / "tmp"
    temporary.mkdir(exist_ok=True)
    return {
        **os.environ,
        "IPYTHONDIR": str(directory),
        "TMPDIR": str(temporary),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }


def start_program(command: Sequence[str], environ: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start a program without a terminal, in a session of its own.

    :returns: its process; ``stdout`` gives what it prints on standard output and standard error.
    """
    return subprocess.Popen(
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


class RealCluster:
    """``ipcluster -n N`` in an IPython directory of its own; use it in a ``with`` statement, or call ``start`` and
    ``stop``.

    :param options: additional arguments of ``ipcluster``.
    :param directory: an existing IPython directory, which is kept, as when a cluster is started again; by default a
        temporary one.
    :ivar ipython_dir: the IPython directory.
    :ivar output: what ``ipcluster`` has printed so far, a list of lines.
    """

    def __init__(
        self,
        n: int = 4,
        options: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.n = n
        self._keep = directory is not None
        self.ipython_dir: Path = directory or Path(tempfile.mkdtemp(prefix="ipython1-test-"))
        self.output: list[str] = []
        self.environ: dict[str, str] = {**private_environ(self.ipython_dir), **(environ or {})}
        self.command: list[str] = [
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
        """Start the cluster and wait until all engines are ready.

        :returns: ``self``.
        :raises RuntimeError: if it does not start; the message holds its output and logs.
        """
        self.process = start_program(self.command, self.environ)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        deadline = time.monotonic() + START_TIMEOUT
        while not self._ready.wait(0.1):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self._reader.join(2.0)
                output = "".join(self.output)
                logs = self.logs()
                self.stop()
                raise RuntimeError(f"the cluster did not start:\n{output}\n{logs}")
        return self

    def _read(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            if "MultiEngineClient(" in line:
                self._ready.set()

    def logs(self) -> str:
        """Return the ends of all log files."""
        parts = []
        for path in sorted((self.ipython_dir / "log").glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-20:]
            parts.append(f"== {path.name}\n" + "\n".join(lines))
        return "\n".join(parts)

    def stop(self) -> None:
        """Stop the cluster as Ctrl-C would, or kill it if it does not stop, and remove its temporary directory."""
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
            if not self._keep:
                shutil.rmtree(self.ipython_dir, ignore_errors=True)

    def run_program(
        self, path: str | os.PathLike[str], *args: str, timeout: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a Python program whose default cluster is this one.

        :param timeout: seconds after which it is killed.
        :raises AssertionError: if it fails or does not exit in time; the message holds all its output.
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
                f"{Path(path).name} did not exit within {timeout:g} s:\n{printed[0]}\n{printed[1]}\n{self.logs()}"
            ) from None
        if result.returncode:
            raise AssertionError(
                f"{Path(path).name} exited with {result.returncode}:\n{result.stdout}\n{result.stderr}\n{self.logs()}"
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


def shared_here(pid: int) -> int:
    """Return how many bytes of shared memory a process has mapped; 0 if it cannot be told."""
    total = 0
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        if SHOWN in line:
            start, end = line.split(" ", 1)[0].split("-")
            total += int(end, 16) - int(start, 16)
    return total
