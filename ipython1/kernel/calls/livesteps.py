"""What engines display while code runs: shown and updated in a notebook, as lines of text in a terminal."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

from ipython1.kernel.calls.liveoutput import Displayed
from ipython1.notebook.frontend import FrontEnd, front_end
from ipython1.notebook.widgettexts import WidgetTexts

WIDGET: Final = "application/vnd.jupyter.widget-view+json"

MOST_COMMS: Final = 10_000
"""Channels to the front end that are kept open for widgets of engines."""


class Steps(Protocol):
    """Carries out the steps that :class:`~ipython1.core.livedisplays.LiveDisplays` collects."""

    shown: dict[int, Displayed]
    """Which displayed objects of each engine are on display."""

    def do(self, engine_id: int, step: Mapping[str, Any]) -> None:
        """Carry out one step of an engine."""

    def lines(self) -> list[tuple[int, str]]:
        """Return what is to be seen now as lines of text, with the engines' ids."""


def steps_for() -> Steps:
    """Return what carries out steps in this front end."""
    return NotebookSteps() if front_end() is FrontEnd.NOTEBOOK else TextSteps()


def read_steps(data: str) -> Iterator[Mapping[str, Any]]:
    """Yield the steps in what an engine has sent; what is malformed is left out."""
    try:
        steps = json.loads(data)
    except ValueError:
        return
    for step in steps if isinstance(steps, list) else []:
        if isinstance(step, dict) and isinstance(step.get("do"), str):
            yield step


def read_items(data: str) -> tuple[int, int]:
    """Return how many items of a map an engine has done, and how many of those failed; 0 if that is malformed."""
    try:
        done, failed = map(int, data.split())
    except ValueError:
        return 0, 0
    return done, failed


class TextSteps:
    """Displays as text: the last state of what is updated, and of widgets.

    What is displayed without an id comes with the result.
    """

    def __init__(self) -> None:
        self.shown: dict[int, Displayed] = {}
        self._texts: dict[tuple[int, str], str] = {}
        self._widgets: dict[int, WidgetTexts] = {}
        self._clear_next: set[int] = set()

    def do(self, engine_id: int, step: Mapping[str, Any]) -> None:
        does = step["do"]
        if does in ("show", "update"):
            if engine_id in self._clear_next:
                self._clear(engine_id)
            data = step.get("data", {})
            model = (data.get(WIDGET) or {}).get("model_id")
            place = (engine_id, f"widget {model}" if model else str(step.get("id")))
            if model is not None or step.get("id") is not None:
                self._texts[place] = str(data.get("text/plain", ""))
        elif does == "clear":
            if step.get("wait"):
                self._clear_next.add(engine_id)
            else:
                self._clear(engine_id)
        else:
            self._widgets.setdefault(engine_id, WidgetTexts()).do(step)

    def _clear(self, engine_id: int) -> None:
        self._clear_next.discard(engine_id)
        self._texts = {key: text for key, text in self._texts.items() if key[0] != engine_id}

    def lines(self) -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        for (engine_id, name), text in self._texts.items():
            widgets = self._widgets.get(engine_id)
            if name.startswith("widget ") and widgets is not None:
                text = widgets.text(name.removeprefix("widget ")) or text
            found += [(engine_id, line) for line in text.split("\n") if line.strip()]
        return found


class NotebookSteps:
    """Displays in the output of a notebook's cell: widgets, and what is updated, or displayed after clearing.

    Each object of an engine is displayed under the engine's id, and updated in its place.  The front end gets the
    widgets of engines through channels of this process, with the same ids.
    """

    def __init__(self) -> None:
        self.shown: dict[int, Displayed] = {}
        self._handles: dict[int, dict[str, Any]] = {}
        self._cleared: dict[int, list[Any]] = {}
        self._clear_next: set[int] = set()

    def lines(self) -> list[tuple[int, str]]:
        return []

    def do(self, engine_id: int, step: Mapping[str, Any]) -> None:
        does = step["do"]
        if does in ("show", "update"):
            self._show(engine_id, step)
        elif does == "clear":
            if step.get("wait"):
                self._clear_next.add(engine_id)
            else:
                self._clear(engine_id)
        else:
            _relay(step)

    def _show(self, engine_id: int, step: Mapping[str, Any]) -> None:
        if engine_id in self._clear_next:
            self._clear(engine_id)
        name = step.get("id")
        handles = self._handles.setdefault(engine_id, {})
        displayed = self.shown.setdefault(engine_id, Displayed())
        moves = name is not None or WIDGET in step.get("data", {})
        if not moves and engine_id not in self._cleared:
            displayed.count += 1
            return  # it comes with the result
        data, metadata = step.get("data", {}), step.get("metadata", {})
        handle = handles.get(name) if name is not None else None
        if step["do"] == "update" and handle is not None:
            handle.update(data, raw=True, metadata=metadata)
            return
        cleared = self._cleared.get(engine_id)
        if cleared:
            handle = cleared.pop(0)
            handle.update(data, raw=True, metadata=metadata)
        else:
            handle = self._display(engine_id, data, metadata)
        handles[uuid.uuid4().hex if name is None else name] = handle
        displayed.places.add(displayed.count)
        displayed.count += 1

    @staticmethod
    def _display(engine_id: int, data: Any, metadata: Any) -> Any:
        from IPython.display import display

        from ipython1.notebook.html import engine_label_html

        label = {"text/plain": f"[{engine_id}]", "text/html": engine_label_html(engine_id)}
        display(label, raw=True)
        return display(data, raw=True, metadata=metadata, display_id=uuid.uuid4().hex)

    def _clear(self, engine_id: int) -> None:
        self._clear_next.discard(engine_id)
        self.shown.pop(engine_id, None)
        handles = self._handles.pop(engine_id, {})
        for handle in handles.values():
            handle.update({"text/plain": "", "text/html": ""}, raw=True)
        self._cleared.setdefault(engine_id, []).extend(handles.values())


_comms: dict[str, Any] = {}
"""The channels that are open, by id; garbage collection would close them, and with them the widgets."""


def _relay(step: Mapping[str, Any]) -> None:
    """Open a channel to the front end, send a message through it, or close it."""
    try:
        import comm
    except ImportError:
        return
    comm_id = str(step.get("comm"))
    data, metadata = step.get("data"), step.get("metadata")
    buffers = [base64.b64decode(each) for each in step.get("buffers", ())]
    channel = _comms.get(comm_id)
    if step["do"] == "open":
        if channel is None and len(_comms) < MOST_COMMS:
            _comms[comm_id] = comm.create_comm(
                target_name=step.get("target") or "comm",
                data=data,
                metadata=metadata,
                buffers=buffers,
                comm_id=comm_id,
            )
    elif channel is not None and step["do"] == "close":
        del _comms[comm_id]
        channel.close(data=data, metadata=metadata, buffers=buffers)
    elif channel is not None:
        channel.send(data=data, metadata=metadata, buffers=buffers)
