"""Why nothing goes on, for a user who waits: asked of the controller now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ipython1.core.texts import compress_ids
from ipython1.kernel.calls.clientlink import ClientEnd

ASK_EVERY: Final = 2.0
"""Seconds between two questions to the controller."""


class WaitNotes:
    """Lines for a user who waits, from the last answer of the controller.

    :param end: the client's connection.
    :param reactor: calls functions in its thread.
    :param question: the name of the question.
    :param arguments: returns its arguments; None not to ask.
    :param read: makes lines of an answer.
    """

    def __init__(
        self,
        end: ClientEnd,
        reactor: Any,
        question: str,
        arguments: Callable[[], Mapping[str, Any] | None],
        read: Callable[[Any], list[str]],
    ) -> None:
        self._end = end
        self._reactor = reactor
        self._question = question
        self._arguments = arguments
        self._read = read
        self._asked = float("-inf")
        self._asking = False
        self._answer: Any = None

    def lines(self) -> Sequence[str]:
        """Return the lines, without waiting for the answer to a new question."""
        now = time.monotonic()
        if not self._asking and now - self._asked >= ASK_EVERY:
            self._asking, self._asked = True, now
            self._reactor.callFromThread(self._ask)
        return () if self._answer is None else self._read(self._answer)

    def _ask(self) -> None:
        arguments = self._arguments() if self._end.connected else None
        if arguments is None:
            self._told(None)
            return
        asked = self._end.ask(self._question, **arguments)
        asked.addCallbacks(self._told, lambda failure: self._told(None))

    def _told(self, answer: Any) -> None:
        self._asking, self._answer = False, answer


def away_engines(
    end: ClientEnd, reactor: Any, unfinished: Callable[[], Sequence[int]]
) -> WaitNotes:
    """Return notes about engines that a call waits for and that are out of reach.

    :param unfinished: returns the ids of the engines that are not done.
    """

    def arguments() -> Mapping[str, Any] | None:
        ids = list(unfinished())
        return {"targets": ids} if ids else None

    def read(answer: Any) -> list[str]:
        away = {engine_id: status["away"] for engine_id, status in answer if "away" in status}
        if not away:
            return []
        who = f"engine{'' if len(away) == 1 else 's'} {compress_ids(sorted(away))}"
        verb = "is" if len(away) == 1 else "are"
        return [f"{who} {verb} out of reach for {max(away.values()):.0f} s, and may come back"]

    return WaitNotes(end, reactor, "queue_status", arguments, read)
