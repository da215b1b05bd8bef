"""What a wrong setting gives."""

from __future__ import annotations

from collections.abc import Iterable


class ConfigError(ValueError):
    """A configuration file, or a value in it, cannot be used.

    :ivar problems: every problem that was found in the file, one line each; the first is the
        message.
    """

    def __init__(self, message: str, problems: Iterable[str] = ()) -> None:
        self.problems = tuple(problems) or (message,)
        more = len(self.problems) - 1
        if more:
            message = f"{message} (and {more} more problem{'s' if more > 1 else ''} in this file)"
        super().__init__(message)
