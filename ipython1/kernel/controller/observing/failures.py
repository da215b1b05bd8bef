"""The last tasks and commands that failed; pure state."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Final

from ipython1.kernel.host.logs import shown
from ipython1.kernel.wire.monitoring import FailureInfo

MOST: Final = 200
"""Failures that are kept."""

DIGITS: Final = 4

_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """A text of several lines without what could control a terminal."""
    return _CONTROLS.sub("?", text)


class FailureRecord:
    """A failure, as it is told to those who look."""

    __slots__ = ("told",)

    def __init__(self, told: FailureInfo) -> None:
        self.told: FailureInfo = told


class Failures:
    """The failures that are kept.

    :param changed: called with each new one.
    :param forget: called with each that is not kept any more.
    :param with_texts: whether error and traceback may be told.
    """

    def __init__(
        self,
        changed: Callable[[FailureRecord], None],
        forget: Callable[[FailureRecord], None],
        with_texts: bool = True,
    ) -> None:
        self._changed = changed
        self._forget = forget
        self._all: deque[FailureRecord] = deque()
        self.with_texts = with_texts

    def add(
        self,
        kind: str,
        ident: int,
        what: str,
        engine: int | None,
        error: str,
        traceback: str,
        when: float,
    ) -> None:
        """Something has failed; see :class:`FailureInfo`."""
        if not self.with_texts:
            error = traceback = ""
        info = FailureInfo(
            kind,
            ident,
            what,
            engine,
            shown(error),
            harmless(traceback),
            round(when, DIGITS),
        )
        record = FailureRecord(info)
        self._all.append(record)
        self._changed(record)
        if len(self._all) > MOST:
            self._forget(self._all.popleft())
