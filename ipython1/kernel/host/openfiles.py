"""How many files and sockets this process may open, and how many of them engines may take."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from ipython1.system import resource

CLIENT_PLACES: Final = 64
"""Connections that are kept for clients."""

OTHER_FILES: Final = 48
"""Files that a controller needs besides: its logs, its journal, and connections that are about to be refused."""

MOST_USEFUL: Final = 2**20
"""The limit is not raised beyond this; some systems give a billion, and programs that go through all suffer."""


def raise_limit() -> None:
    """Let this process open as many files as the system allows it, instead of the few that suit old programs.

    It must not start programs that use ``select``, as these inherit the limit.
    """
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_USEFUL if hard == resource.RLIM_INFINITY else min(hard, MOST_USEFUL)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS names a hard limit that it does not allow
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def file_limit(default: int = 256) -> int:
    """Return how many files and sockets this process may open; ``default`` if unknown or unlimited."""
    if resource is None:
        return default
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return default if limit == resource.RLIM_INFINITY else int(limit)


@dataclass(frozen=True, slots=True)
class Places:
    """The connections that a controller can have.

    :ivar limit: files that it may open.
    """

    limit: int

    @classmethod
    def of_this_process(cls) -> Places:
        """As many as this process may open now."""
        return cls(file_limit(MOST_USEFUL))

    def refusal(self, engines: int, clients: int) -> str:
        """Return why there is no place for another engine; an empty text if there is one.

        :param engines: those that there are, also those that may come back.
        :param clients: those that are connected.
        """
        if engines + max(clients, CLIENT_PLACES) + OTHER_FILES < self.limit:
            return ""
        return (
            f"the controller has no place for more than these {engines:,} engines: it may open {self.limit:,} files,"
            f" and keeps {CLIENT_PLACES} of them for clients; raise the hard limit of its open files ('ulimit -Hn'"
            " where it is started, or LimitNOFILE of its service), or start another controller"
        )
