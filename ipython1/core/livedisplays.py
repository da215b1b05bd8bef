"""What code displays while it runs, for whoever watches it: objects, their updates, and the state of widgets.

Only the last state of what changes faster than it is fetched is kept, and what is kept is bounded; the result of a
command has all that it displayed anyway.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

MOST_PENDING: Final = 500
"""Steps that are kept until they are fetched; later displays are left out."""

MOST_BYTES: Final = 200_000
"""Bytes of one step, as JSON; an object that takes more is shown as text."""

Step = dict[str, Any]
"""One step: ``do`` says what (``show``, ``update``, ``clear``, ``open``, ``message``, ``close``)."""


class LiveDisplays:
    """Collects steps in the thread that runs user code; any thread takes them.

    :ivar wanted: whether somebody watches; without, nothing is collected.
    """

    def __init__(self) -> None:
        self.wanted: bool = False
        self._lock = threading.Lock()
        self._steps: list[Step] = []
        self._places: dict[tuple[str, str], Step] = {}

    def show(
        self, data: Mapping[str, Any], metadata: Mapping[str, Any], display_id: str | None
    ) -> None:
        """Display an object."""
        self._add({"do": "show", "data": data, "metadata": metadata, "id": display_id})

    def update(
        self, data: Mapping[str, Any], metadata: Mapping[str, Any], display_id: str | None
    ) -> None:
        """Replace what is displayed under an id."""
        self._add({"do": "update", "data": data, "metadata": metadata, "id": display_id})

    def clear(self, wait: bool) -> None:
        """Forget what was displayed; with ``wait``, once there is something new."""
        with self._lock:
            if not wait:
                self._steps = [each for each in self._steps if each["do"] not in _SHOWN]
                self._places = {
                    place: step for place, step in self._places.items() if place[0] == "comm"
                }
        self._add({"do": "clear", "wait": wait})

    def comm(
        self,
        do: str,
        comm_id: str,
        target: str,
        data: Any,
        metadata: Any,
        buffers: Sequence[Any],
    ) -> None:
        """Open a channel to the front end, send a message through it, or close it.

        :param do: ``open``, ``message`` or ``close``.
        """
        packed = [base64.b64encode(bytes(each)).decode() for each in buffers]
        self._add(
            {
                "do": do,
                "comm": comm_id,
                "target": target,
                "data": data,
                "metadata": metadata,
                "buffers": packed,
            }
        )

    def _add(self, step: Step) -> None:
        with self._lock:
            if self._joined(step):
                return
            if len(self._steps) >= MOST_PENDING and step["do"] in _SHOWN:
                return
            self._steps.append(step)
            place = _place(step)
            if place is not None:
                self._places[place] = step

    def _joined(self, step: Step) -> bool:
        """Make a step part of an earlier one, if that comes to the same."""
        place = _place(step)
        if place is None:
            return False
        earlier = self._places.get(place)
        if step["do"] == "update" and earlier is not None:
            earlier["data"], earlier["metadata"] = step["data"], step["metadata"]
            return True
        if step["do"] == "message":
            if earlier is not None and _is_state(earlier) and _is_state(step):
                state = {**earlier["data"]["state"], **step["data"]["state"]}
                earlier["data"] = {**step["data"], "state": state}
                return True
            if not _is_state(step):
                self._places.pop(place, None)
        return False

    def take(self) -> list[bytes]:
        """Return what came since the last call: lists of steps as JSON, each of bounded size."""
        if not self._steps:
            return []
        with self._lock:
            steps, self._steps, self._places = self._steps, [], {}
        batches: list[bytes] = []
        batch: list[bytes] = []
        size = 0
        for each in _packed(steps):
            if batch and size + len(each) > MOST_BYTES:
                batches.append(b"[" + b",".join(batch) + b"]")
                batch, size = [], 0
            batch.append(each)
            size += len(each)
        if batch:
            batches.append(b"[" + b",".join(batch) + b"]")
        return batches


_SHOWN: Final = ("show", "update")


def _place(step: Step) -> tuple[str, str] | None:
    """Return what identifies the thing that a step changes."""
    if step["do"] in _SHOWN:
        return None if step["id"] is None else ("display", step["id"])
    return ("comm", step["comm"]) if step["do"] == "message" else None


def _is_state(step: Step) -> bool:
    """Return whether a message only sets the state of a widget."""
    data = step["data"]
    return (
        step["do"] == "message"
        and not step["buffers"]
        and isinstance(data, dict)
        and data.get("method") == "update"
        and isinstance(data.get("state"), dict)
    )


def _packed(steps: Sequence[Step]) -> Iterator[bytes]:
    for step in steps:
        try:
            packed = json.dumps(step, default=_as_text).encode()
        except (TypeError, ValueError):
            continue  # the user's own data may be anything
        if len(packed) > MOST_BYTES and step["do"] in _SHOWN:
            text = str(step["data"].get("text/plain", ""))[:1000]
            packed = json.dumps({**step, "data": {"text/plain": text}, "metadata": {}}).encode()
        if len(packed) <= MOST_BYTES:
            yield packed


def _as_text(value: object) -> str:
    """Return what is no JSON as text: the bytes of pictures in base64, everything else as it prints."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(value)).decode()
    return str(value)
