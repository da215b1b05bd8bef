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
            "The pickled size up to which a function brings a variable that it refers to along.",
        ),
    ),
)

_bring_size: int | None = None


def bring_size() -> int:
    """The most bytes that a variable may have, pickled, to be brought along by a function.

    The file is read once.

    :raises ConfigError: if it cannot be read, or its section ``[client]`` is wrong.
    """
    global _bring_size
    if _bring_size is None:
        manager = ConfigManager("ipython1.kernel", (CLIENT,), partly=True)
        _bring_size = int(manager.get_config()["client"]["bring_size"])
    return _bring_size
