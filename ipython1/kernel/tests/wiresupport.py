"""Helpers for tests: recording receivers, functions of ``__main__``, programs, settings of property tests."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

from hypothesis import settings

from ipython1.kernel.wire.frames import Buffer

quick = settings(max_examples=100, deadline=None, database=None, derandomize=True)
"""Settings for property tests that take about a second and are deterministic."""


class Recorder:
    """A receiver that records frames.

    :ivar frames: tuples of kind, flags, ident, meta and payload, as bytes.
    :ivar lost: the reasons why the link was lost; there should be at most one.
    """

    def __init__(self) -> None:
        self.frames: list[tuple[int, int, int, bytes, bytes]] = []
        self.lost: list[str] = []

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        self.frames.append((kind, flags, ident, bytes(meta), bytes(payload)))

    def link_lost(self, reason: str) -> None:
        self.lost.append(reason)


class Batches:
    """A transport that records what is sent."""

    has_room = True

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.aborted = 0
        self.closed = 0
        self.broken = False

    def send_batch(self, parts: list[Buffer]) -> None:
        if self.broken:
            raise OSError("the transport is broken")
        self.sent.append(b"".join(parts))

    def abort(self) -> None:
        self.aborted += 1

    def close(self) -> None:
        self.closed += 1


def main_function(source: str, name: str = "f", **names: Any) -> Callable[..., Any]:
    """Return a function as if the user had defined it at the prompt, in a ``__main__`` that also has ``names``."""
    namespace: dict[str, Any] = {"__name__": "__main__", **names}
    exec(source, namespace)
    function: Callable[..., Any] = namespace[name]
    return function


def run_program(source: str, timeout: float = 180.0) -> str:
    """Run a separate Python program, in which no test runner uses the reactor; return its output.

    :raises AssertionError: if it fails; the message holds all its output.
    """
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ended = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", textwrap.dedent(source)],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if ended.returncode:
        raise AssertionError(f"status {ended.returncode}\n{ended.stdout}\n{ended.stderr}")
    return ended.stdout
