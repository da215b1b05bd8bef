"""Why tasks wait, for a user who waits for them: no engine, engines that are away, or none that may run them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from ipython1.kernel.calls.clientlink import ClientEnd

ASK_EVERY: Final = 2.0
"""Seconds between two questions to the controller."""


class Obstacles:
    """Asks the controller now and then.

    :param end: the client's connection.
    :param reactor: calls functions in its thread.
    :param left: returns how many tasks or items are not done.
    :param unit: what these are called, in the singular.
    """

    def __init__(self, end: ClientEnd, reactor: Any, left: Callable[[], int], unit: str) -> None:
        self._end = end
        self._reactor = reactor
        self._left = left
        self._unit = unit
        self._asked = float("-inf")
        self._asking = False
        self._answer: dict[str, Any] = {}

    def lines(self) -> list[str]:
        """Return what is in the way, as far as it is known; does not wait for the answer to a new question."""
        now = time.monotonic()
        if not self._asking and now - self._asked >= ASK_EVERY:
            self._asking, self._asked = True, now
            self._reactor.callFromThread(self._ask)
        answer = self._answer
        if answer.get("nobody"):
            return [f"{answer['nobody']}; {self._wait(self._left())}"]
        return [f"{self._wait(count, 'task')}: {why}" for why, count in answer.get("stuck", ())]

    def _wait(self, count: int, unit: str = "") -> str:
        unit = unit or self._unit
        return f"1 {unit} waits" if count == 1 else f"{count} {unit}s wait"

    def _ask(self) -> None:
        if not self._end.connected:
            self._asking = False
            return
        self._end.ask("obstacles").addCallbacks(self._told, self._failed)

    def _told(self, answer: Any) -> None:
        self._asking = False
        self._answer = answer if isinstance(answer, dict) else {}

    def _failed(self, failure: Any) -> None:
        self._asking = False
        self._answer = {}
