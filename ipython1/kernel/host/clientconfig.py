"""The settings of clients, in the section ``[client]`` of ``ipython1.kernel.ini``."""

from __future__ import annotations

from typing import Final

from ipython1.config import kinds
from ipython1.config.manager import ConfigManager
from ipython1.config.schema import Option, Section

CLIENT: Final = Section(
    "client",
    "Clients.",
    (
        Option(
            "bring_size",
            kinds.SIZE,
            1024**2,
            "The largest size, pickled, of a variable that a function brings along.",
        ),
    ),
)

_bring_size: int | None = None


def bring_size() -> int:
    """The largest size in bytes, pickled, of a variable that a function brings along.

    The file is read once.

    :raises ConfigError: if it cannot be read, or its section ``[client]`` is wrong.
    """
    global _bring_size
    if _bring_size is None:
        manager = ConfigManager("ipython1.kernel", (CLIENT,), partly=True)
        _bring_size = int(manager.get_config()["client"]["bring_size"])
    return _bring_size
