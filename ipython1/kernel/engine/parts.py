"""Which names on an engine are parts of sequences that clients have scattered, or are computed from parts.

That is remembered beside the namespace, so that whoever fetches them can be told when the part of another engine is
gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

from ipython1.core.origins import Origins
from ipython1.kernel.objects.commands import Part, PartsTold

MOST_NAMES: Final = 100
"""Names that were scattered or pushed; of more, the latest are remembered."""

MOST_PUSHES: Final = 1000
"""Pushes after which the commands between them are looked at."""


class History(Protocol):
    """The part of a session that this needs."""

    @property
    def user_ns(self) -> dict[str, Any]:
        """The namespace."""

    @property
    def number(self) -> int:
        """The number of the next command."""

    def sources_since(self, number: int) -> Sequence[tuple[int, str]]:
        """Return the numbers and sources of the commands after one, as far as they are kept."""


class Parts:
    """What is known of the names of one namespace.

    Commands are looked at when it is asked for.
    """

    def __init__(self, session: History) -> None:
        self._session = session
        self._origins: Origins[str] = Origins(session.user_ns)
        self._parts: dict[str, Part] = {}
        self._names: dict[str, None] = {}
        self._remembers_all = True
        self._pushes: list[tuple[int, list[str]]] = []
        self._seen = 0

    def came(self, part: Part) -> None:
        """A name is a part of a sequence."""
        self._look()
        self._origins.set(part.name, part.scatter)
        self._note([part.name])
        used = self._origins.all
        self._parts[part.scatter] = part
        self._parts = {key: each for key, each in self._parts.items() if key in used}

    def replaced(self, names: Iterable[str]) -> None:
        """Something else was pushed under these names."""
        names = list(names)
        self._note(names)
        if self._parts:
            self._pushes.append((self._session.number, names))
            if len(self._pushes) >= MOST_PUSHES:
                self._look()

    def reset(self) -> None:
        """All names are deleted."""
        self._origins.clear()
        self._parts.clear()
        self._pushes.clear()

    def known(self, names: Iterable[str]) -> PartsTold | None:
        """What these names are, or are computed from; None if nothing is known of any name."""
        if not self._names:
            return None
        self._look()
        scatters = set().union(*map(self._origins.of, names))
        parts = sorted(self._parts[scatter] for scatter in scatters)
        return PartsTold(parts, list(self._names) if self._remembers_all else None)

    def _note(self, names: Iterable[str]) -> None:
        for name in names:
            self._names.pop(name, None)
            self._names[name] = None
        while len(self._names) > MOST_NAMES:
            del self._names[next(iter(self._names))]
            self._remembers_all = False

    def _look(self) -> None:
        """Go through what happened since the last time; where an interrupt ends that, the next time goes on."""
        number = self._session.number
        if self._parts:
            for each, source in self._session.sources_since(self._seen):
                self._take_pushes(each)
                self._origins.ran(source)
                self._seen = each
            self._take_pushes(number)
        self._pushes.clear()
        self._seen = number - 1

    def _take_pushes(self, number: int) -> None:
        """Take what was pushed before a command."""
        while self._pushes and self._pushes[0][0] <= number:
            for name in self._pushes[0][1]:
                self._origins.set(name)
            del self._pushes[0]
