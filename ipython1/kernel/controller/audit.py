"""The audit log: who came with which capability, and what they had run.

Off unless the ini file says otherwise.  One JSON object a line, so nothing that a party says can look like anything
else::

    {"time": "2026-03-08T03:41:42+0000", "event": "came", "capability": "multiengine", "client": "1f0c93ab", ...}
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from twisted.logger import Logger

from ipython1.core.texts import clip
from ipython1.kernel.basics.error import KernelError, ProtocolError
from ipython1.kernel.controller.visits import SHORT
from ipython1.kernel.host.furl import redact
from ipython1.kernel.host.logs import RotatedFile
from ipython1.kernel.wire import frames, messages, taskwire
from ipython1.kernel.wire.frames import Buffer, FrameHandler
from ipython1.kernel.wire.payload import pack_sizes, unpack_sizes

log: Logger = Logger()

LONGEST_TEXT: Final = 1000
"""Characters of code that are logged."""

ACTING: Final = frozenset(
    ("abort", "abort_many", "clear", "clear_queue", "interrupt", "kill", "resubmit", "withdraw")
)
"""The questions that change something; the others only look."""


class AuditLog:
    """Writes the audit log.

    :param size: bytes at which it is rotated.
    :param now: gives the time in seconds since the epoch.
    :raises KernelError: if it cannot be opened, or others could have a hand in it.
    """

    def __init__(self, path: Path, size: int, now: Callable[[], float] = time.time) -> None:
        try:
            self._file = RotatedFile(path, size)
        except OSError as problem:
            raise KernelError(
                f"cannot write the audit log {path}: {problem.strerror}; mend it, or set audit_log = off in "
                "ipython1.kernel.ini"
            ) from None
        self._now = now
        self._failing = False

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def came(self, interface: str, hello: messages.Hello, address: str) -> None:
        """A party has registered."""
        self._write("came", interface, hello, address=address, pid=hello.pid)

    def refused(self, interface: str, hello: messages.Hello, reason: str) -> None:
        """A party was not let in."""
        self._write("refused", interface, hello, reason=clip(reason, LONGEST_TEXT))

    def left(self, interface: str, hello: messages.Hello, reason: str) -> None:
        """A connection is lost or ended."""
        self._write("left", interface, hello, reason=clip(reason, LONGEST_TEXT))

    def frames_of(
        self, interface: str, hello: messages.Hello, handler: FrameHandler
    ) -> FrameHandler:
        """Return a handler that logs what a party has run before it passes the frame on."""
        if interface == messages.ENGINE:
            return handler

        def frame_received(
            kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
        ) -> None:
            try:
                for row in _actions(kind, flags, meta, payload):
                    self._write("ran", interface, hello, **row)
            except (ProtocolError, LookupError, TypeError, AttributeError, ValueError):
                pass  # the handler will say so
            handler(kind, flags, ident, meta, payload)

        return frame_received

    def _write(self, event: str, interface: str, hello: messages.Hello, **more: Any) -> None:
        when = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self._now()))
        row = {"time": when, "event": event, "capability": interface}
        row |= {"client": hello.uuid[:SHORT], "label": hello.label, **more}
        try:
            self._file.write(redact(json.dumps(row)) + "\n")
        except OSError as problem:
            if not self._failing:
                log.error("the audit log cannot be written: {problem}", problem=problem)
            self._failing = True
        else:
            self._failing = False


def _actions(kind: int, flags: int, meta: Buffer, payload: Buffer) -> list[dict[str, Any]]:
    """What a frame has done, each as fields of a line."""
    large = bool(flags & frames.BULK)
    if kind == frames.SUBMIT:
        submission = messages.SubmitMeta.unpack(meta)
        targets = "all" if submission.targets is None else list(submission.targets)
        text = "(large)" if large else _text_of(payload)
        return [{"method": submission.method, "targets": targets, "text": text}]
    if kind == taskwire.SUBMIT:
        if large:
            return [{"method": "task", "count": 1, "text": "(large)"}]
        tasks = taskwire.unpack_submissions(payload, taskwire.OptionsSpec.unpack)
        counts = Counter(getattr(task.options, "what", "") for task in tasks)
        return [
            {"method": "task", "count": count, "text": clip(what, LONGEST_TEXT)}
            for what, count in counts.items()
        ]
    if kind == frames.ASK:
        question = messages.unpack_json(payload)
        if question["name"] in ACTING:
            text = clip(json.dumps(question["args"]), LONGEST_TEXT)
            return [{"method": question["name"], "text": text}]
    return []


def _text_of(payload: Buffer) -> str:
    """The code, the call or the names of a command; empty where only its engine can read that."""
    try:
        sizes = unpack_sizes(payload)
        first = len(pack_sizes(())) + 8 * len(sizes)
        head = messages.unpack_json(payload[first : first + sizes[0]])
    except (ProtocolError, IndexError):
        return ""
    if not isinstance(head, dict):
        return ""
    for key in ("source", "call"):
        if key in head:
            return clip(str(head[key]), LONGEST_TEXT)
    names = head.get("names", head.get("keys")) or ()
    return clip(", ".join(map(str, names)), LONGEST_TEXT)
