"""Widgets as lines of text, from the state that they send to a front end."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any, Final

BAR: Final = 20
"""Characters of a progress bar."""

DEPTH: Final = 10
"""Widgets within widgets that are followed."""

_TAG: Final = re.compile(r"<[^>]*>")


class WidgetTexts:
    """The widgets of one engine."""

    def __init__(self) -> None:
        self._states: dict[str, dict[str, Any]] = {}

    def do(self, step: Mapping[str, Any]) -> None:
        """Take notice of a step: the opening of a channel, a message, or its end."""
        data = step.get("data")
        state = data.get("state") if isinstance(data, Mapping) else None
        name = str(step.get("comm"))
        if step["do"] == "open":
            self._states[name] = dict(state or {})
        elif step["do"] == "close":
            self._states.pop(name, None)
        elif name in self._states and isinstance(state, Mapping):
            self._states[name].update(state)

    def text(self, model: str) -> str:
        """Return one line for a widget; empty if nothing is known of it."""
        return self._text(model, DEPTH)

    def _text(self, model: str, depth: int) -> str:
        state = self._states.get(model)
        if state is None or not depth:
            return ""
        children = state.get("children")
        if isinstance(children, list):
            parts = [
                self._text(str(each).removeprefix("IPY_MODEL_"), depth - 1) for each in children
            ]
            return " ".join(part for part in parts if part)
        value, name = state.get("value"), str(state.get("_model_name", ""))
        description = _plain(state.get("description", ""))
        if "Progress" in name and isinstance(value, (int, float)):
            shown = _bar(value, state.get("min", 0), state.get("max", 100))
        elif value is None:
            shown = ""
        else:
            shown = _plain(value)
        return " ".join(part for part in (description, shown) if part)


def _bar(value: float, least: Any, most: Any) -> str:
    span = float(most) - float(least) if isinstance(most, (int, float)) else 0.0
    part = min(max((value - float(least or 0)) / span, 0.0), 1.0) if span > 0 else 0.0
    filled = int(part * BAR)
    return f"|{'█' * filled}{' ' * (BAR - filled)}| {value:g}/{most}"


def _plain(value: object) -> str:
    return " ".join(html.unescape(_TAG.sub("", str(value))).split())
