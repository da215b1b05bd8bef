"""Helpers for tests of sessions."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from twisted.trial.unittest import SynchronousTestCase

from ipython1.core.capture import OutputCapture
from ipython1.core.interpreter import Interpreter
from ipython1.core.interrupt import InterruptGate
from ipython1.core.results import CallOutcome, CommandResult

PATIENCE = 20.0
"""Seconds that a test waits for another thread before it fails."""


class CaptureCase(SynchronousTestCase):
    """Captures this process's output during each test."""

    def new_path(self) -> str:
        """Return an absolute path that does not exist, in a folder that is removed after the test."""
        folder = tempfile.mkdtemp(prefix="ipython1-test-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        return os.path.join(os.path.realpath(folder), "it")

    def open_capture(self, **options: object) -> OutputCapture:
        capture = OutputCapture(**options)  # type: ignore[arg-type]
        self.addCleanup(capture.close)
        return capture


class SessionCase(CaptureCase):
    """Opens a session for each test, and restores the process for trial."""

    history_size = 1000

    def setUp(self) -> None:
        self.gate = InterruptGate()
        self.gate.install()
        self.addCleanup(self.gate.uninstall)
        self.capture = self.open_capture()
        self.session = Interpreter(self.capture, history_size=self.history_size, gate=self.gate)
        self.addCleanup(self.session.close)

    def run_ok(self, source: str) -> CommandResult:
        """Run a command that must not fail."""
        result = self.session.execute(source)
        if result.failure is not None:
            self.fail(f"{source!r} failed:\n{result.failure.traceback}")
        return result

    def run_source(self, source: str) -> CallOutcome:
        """Run source text as a task."""
        return self.session.call(self.session.run_source, (source,))

    def shown(self, source: str) -> object:
        """Run a command and return the text of its result."""
        result = self.run_ok(source).result
        return None if result is None else result["text/plain"]

    def run_bad(self, source: str, ename: str) -> CommandResult:
        """Run a command that must fail with an exception of this name."""
        result = self.session.execute(source)
        self.assertIsNotNone(result.failure, f"{source!r} did not fail")
        self.assertEqual(result.failure.ename, ename, result.failure.traceback)
        return result


@contextmanager
def beside(work: Callable[[], None]) -> Iterator[list[BaseException]]:
    """Run ``work`` in another thread during the block; its exception is raised at the end."""
    problems: list[BaseException] = []

    def body() -> None:
        try:
            work()
        except BaseException as problem:
            problems.append(problem)

    thread = threading.Thread(target=body)
    thread.start()
    try:
        yield problems
    finally:
        thread.join(PATIENCE)
    if problems:
        raise problems[0]
    if thread.is_alive():
        raise AssertionError("the other thread did not end")
