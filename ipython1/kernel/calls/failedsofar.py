"""Errors of engines while the others of the same call still run.

One rank of an MPI program has raised, for instance, and the others wait for it in a collective operation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from ipython1.core.texts import clip, compress_ids
from ipython1.kernel.basics.error import describe_exception

MOST: Final = 4
"""Different errors that are shown; more are counted."""

WIDTH: Final = 200
"""Characters of each."""


class Failing(Protocol):
    """A call, as this module uses it."""

    name: str

    @property
    def progress(self) -> tuple[int, int]: ...

    @property
    def unfinished(self) -> list[int]: ...

    def failures(self) -> dict[int, BaseException]: ...


def engines(ids: Iterable[int]) -> str:
    """Return a text such as ``engine 1`` or ``engines 0,2-3``."""
    listed = list(ids)
    return f"engine{'' if len(listed) == 1 else 's'} {compress_ids(listed)}"


def described(failures: Mapping[int, BaseException]) -> list[str]:
    """Return a text such as ``engine 1 raised ValueError: no`` for each error; equal ones share one."""
    groups: dict[str, list[int]] = {}
    for engine_id, problem in sorted(failures.items()):
        first = describe_exception(problem).split("\n", 1)[0]
        groups.setdefault(clip(first, WIDTH), []).append(engine_id)
    texts = [f"{engines(ids)} raised {text}" for text, ids in groups.items()]
    if len(texts) > MOST:
        texts = [*texts[:MOST], f"{len(texts) - MOST} other errors"]
    return texts


class Announcer:
    """Tells a waiting person at once when an engine has failed while others still run."""

    def __init__(self, pending: Failing) -> None:
        self._pending = pending
        self._done = 0
        self._told: set[int] = set()

    def news(self) -> list[str]:
        """Return a line for the errors that are new, if there are any."""
        done = self._pending.progress[0]
        if done == self._done:
            return []
        self._done = done
        left = self._pending.unfinished
        failures = self._pending.failures()
        new = {each: failures[each] for each in failures.keys() - self._told}
        self._told.update(new)
        if not new or not left:
            return []
        return [f"{'; '.join(described(new))}. {self._pending.name} still runs on {engines(left)}"]


def note_failures(rows: Iterable[tuple[int, dict[str, Any]]], calls: Iterable[Failing]) -> None:
    """Add to rows about engines, by their ids, what calls that still run elsewhere raised on them.

    Each gets ``failed``: a text such as ``execute raised ValueError: no here, and still runs on engines 0,2-3``.
    """
    found: dict[int, str] = {}
    for call in calls:
        left = call.unfinished
        for engine_id, problem in call.failures().items() if left else ():
            text = clip(describe_exception(problem).split("\n", 1)[0], WIDTH)
            found[engine_id] = f"{call.name} raised {text} here, and still runs on {engines(left)}"
    for engine_id, row in rows:
        if engine_id in found:
            row["failed"] = found[engine_id]
