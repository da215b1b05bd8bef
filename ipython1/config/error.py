"""The error for an invalid configuration."""

from __future__ import annotations

from collections.abc import Iterable


class ConfigError(ValueError):
    """A configuration file, or a value in it, is invalid.

    :param message: the first problem, one line.
    :param problems: every problem found in the file; empty if there is only ``message``.
    :ivar problems: every problem found in the file, a tuple of one line each.
    """

    def __init__(self, message: str, problems: Iterable[str] = ()) -> None:
        self.problems: tuple[str, ...] | tuple[str] = tuple(problems) or (message,)
        more = len(self.problems) - 1
        if more:
            message = f"{message} (and {more} more problem{'s' if more > 1 else ''} in this file)"
        super().__init__(message)
