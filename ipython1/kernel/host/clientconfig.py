"""The settings of clients, in the section ``[client]`` of ``ipython1.kernel.ini``."""

from __future__ import annotations

from typing import Any, Final

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
        Option(
            "reconnect_timeout",
            kinds.number(0, unit="seconds"),
            300.0,
            "How long a client waits for a controller that is out of reach; 0 means that its calls fail at once.",
        ),
        Option(
            "ssh_command",
            kinds.WORDS,
            ("ssh",),
            "The command, with its options, by which clients log in to the host that ssh= names.",
        ),
    ),
)

_settings: dict[str, Any] | None = None


def _setting(name: str) -> Any:
    """A setting; the file is read once.

    :raises ConfigError: if it cannot be read, or its section ``[client]`` is wrong.
    """
    global _settings
    if _settings is None:
        manager = ConfigManager("ipython1.kernel", (CLIENT,), partly=True)
        _settings = dict(manager.get_config()["client"])
    return _settings[name]


def bring_size() -> int:
    """The largest size in bytes, pickled, of a variable that a function brings along.

    :raises ConfigError: if the ini file cannot be read.
    """
    return int(_setting("bring_size"))


def ssh_command() -> tuple[str, ...]:
    """The command that logs in to other hosts, with its options.

    :raises ConfigError: if the ini file cannot be read.
    """
    return tuple(_setting("ssh_command"))


def reconnect_timeout() -> float:
    """The seconds for which a client waits for a controller that is away.

    :raises ConfigError: if the ini file cannot be read.
    """
    return float(_setting("reconnect_timeout"))
