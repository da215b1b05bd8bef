"""``%autopx``: cells that are sent to the engines as they were typed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from ipython1.notebook.frontend import FrontEnd, front_end

_OWN_MAGIC: Final = re.compile(
    r"\s*(%%?(px|autopx|result|pxconfig|pxresult)\b|autopx\s*$|px(config|result)\s*(--|$)"
    r"|px\s+(?!(?:in|is|if|and|or|not|for|else)\b)[\w'\"{])"
)
"""Cells with this beginning are not sent to the engines while ``%autopx`` is on."""


_HELP: Final = re.compile(r"\s*%%px\s(?P<line>[^\n]*--help\b[^\n]*)\s*")


def help_of_cell_magic(lines: list[str]) -> list[str]:
    """Convert ``%%px --help`` without a body, which IPython refuses, to ``%px --help``."""
    match = _HELP.fullmatch("".join(lines))
    return [f"%px {match['line']}\n"] if match else lines


def add_transformer(shell: Any, transformer: Any) -> None:
    """Let ``transformer`` convert cells before IPython looks for cell magics in them."""
    transformers = shell.input_transformer_manager.cleanup_transforms
    names = [getattr(each, "__name__", "") for each in transformers]
    place = names.index("cell_magic") if "cell_magic" in names else len(transformers)
    transformers.insert(place, transformer)


def remove_transformer(shell: Any, transformer: Any) -> None:
    """Let it no longer do that."""
    transformers = shell.input_transformer_manager.cleanup_transforms
    if transformer in transformers:
        transformers.remove(transformer)


class AutoParallel:
    """While enabled, converts cells to calls of ``%%autopx``, before IPython looks for magics in them."""

    has_side_effects = True
    """True, so that IPython does not use this transformer to check whether input is complete."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    @property
    def on(self) -> bool:
        """Whether it is enabled."""
        return self in self._shell.input_transformer_manager.cleanup_transforms

    def enable(self) -> None:
        """Convert cells from the next one on."""
        add_transformer(self._shell, self)

    def disable(self) -> None:
        """Stop converting cells."""
        remove_transformer(self._shell, self)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Disable the conversion in a ``with`` block."""
        was_on = self.on
        self.disable()
        try:
            yield
        finally:
            if was_on:
                self.enable()

    def __call__(self, lines: list[str]) -> list[str]:
        text = "".join(lines)
        if not text.strip() or _OWN_MAGIC.match(text) or self._is_of_front_end():
            return lines
        for index, line in enumerate(lines):
            if line.strip() == "%autopx":
                return [*self._turned("".join(lines[:index])), *lines[index:]]
        return self._turned(text)

    @staticmethod
    def _turned(text: str) -> list[str]:
        # A semicolon at the end hides the value in this session too.
        end = ";" if text.rstrip().endswith(";") else ""
        return [f"get_ipython().run_cell_magic('autopx', '', {text!r}){end}\n"]

    def _is_of_front_end(self) -> bool:
        """Return whether the input comes from the front end itself and not from the user."""
        if front_end() is not FrontEnd.NOTEBOOK:
            return False
        try:
            content = self._shell.get_parent()["content"]
        except (AttributeError, KeyError, TypeError, LookupError):
            return False
        return bool(content.get("silent")) or not content.get("store_history", True)
