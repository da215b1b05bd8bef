"""Data in the three columns that hold them: inline, or the name and size of a payload file."""

from __future__ import annotations

from ipython1.kernel.controller.journal.packing import Value
from ipython1.kernel.controller.journal.rows import Data, Given, PayloadFile


def to_columns(data: Given | None) -> tuple[Value, Value, Value]:
    """The columns of data: inline, file, size of the file."""
    if isinstance(data, PayloadFile):
        return None, data.name, data.size
    return None if data is None else bytes(data), None, None


def from_columns(inline: bytes | None, file: str | None, size: int | None) -> Data | None:
    """The data of columns."""
    return inline if file is None else PayloadFile(file, size or 0)


def size_of(data: Given | None) -> int:
    """Bytes of data."""
    if data is None:
        return 0
    return data.size if isinstance(data, PayloadFile) else len(data)
