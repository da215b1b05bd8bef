"""The present values of IPython's settings, read quickly.

Reading an attribute that is a trait takes a dozen steps, and a short command reads eight of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class _Read(Mapping[str, Any]):
    """Reads the attributes themselves."""

    def __init__(self, owner: Any, names: Iterable[str]) -> None:
        self._owner = owner
        self._names = tuple(names)

    def __getitem__(self, name: str) -> Any:
        return getattr(self._owner, name)

    def __iter__(self) -> Any:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def trait_values(owner: Any, names: Iterable[str]) -> Mapping[str, Any]:
    """Return the values of traits of ``owner``, which always are those of this moment.

    They are read where traitlets keeps them, if this version keeps them there, else from the attributes.
    """
    names = tuple(names)
    # Reading them makes those that have no value yet.
    present = {name: getattr(owner, name) for name in names}
    kept = getattr(owner, "_trait_values", None)
    if isinstance(kept, dict) and all(kept.get(name) is present[name] for name in names):
        return kept
    return _Read(owner, names)
