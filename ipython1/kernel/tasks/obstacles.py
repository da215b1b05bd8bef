"""Why tasks wait, for a user who waits for them: no engine, engines that are away, or none that may run them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ipython1.kernel.calls.clientlink import ClientEnd
from ipython1.kernel.calls.waitnotes import WaitNotes


def obstacles(end: ClientEnd, reactor: Any, left: Callable[[], int], unit: str) -> WaitNotes:
    """Return notes about what is in the way of tasks.

    :param end: the client's connection.
    :param reactor: calls functions in its thread.
    :param left: returns how many tasks or items are not done.
    :param unit: what these are called, in the singular.
    """

    def read(answer: Any) -> list[str]:
        if answer["nobody"]:
            return [f"{answer['nobody']}; {_wait(left(), unit)}"]
        return [f"{_wait(count, 'task')}: {why}" for why, count in answer["stuck"]]

    return WaitNotes(end, reactor, "obstacles", dict, read)


def _wait(count: int, unit: str) -> str:
    return f"1 {unit} waits" if count == 1 else f"{count} {unit}s wait"
