"""Times, sizes and engines in a few characters, for tables."""

from __future__ import annotations

from collections.abc import Sequence

from ipython1.core.texts import compress_ids


def duration_text(seconds: float) -> str:
    """Return a time in one unit: ``20 ms``, ``4.5 s``, ``48 s``, ``12 min``, ``3 h``, ``5 d``."""
    if seconds <= 0:
        return "0 s"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    if seconds < 0.00995:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        text = f"{seconds:.1f}"
        return f"{text.removesuffix('.0')} s"
    return f"{int(seconds)} s"


def bytes_text(count: float) -> str:
    """Return a size in one unit: ``512 B``, ``1.4 MB``, ``12 GB``; powers of 1000."""
    value, units = float(count), ["TB", "GB", "MB", "kB", "B"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop()
    unit = units[-1]
    digits = 1 if unit != "B" and value < 9.95 else 0
    return f"{value:.{digits}f} {unit}"


def rate_text(per_second: float) -> str:
    """Return how often something happens: ``0.3/s``, ``120/s``, ``1,250/s``."""
    if per_second < 9.95:
        text = f"{per_second:.1f}".removesuffix(".0")
        return f"{text}/s"
    return f"{per_second:,.0f}/s"


def count_text(count: int, one: str, many: str = "") -> str:
    """Return a number of things, as ``1 engine`` or ``1,000 engines``.

    :param many: the plural, if it is not ``one`` with an s.
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def named_engines(ids: Sequence[int]) -> str:
    """Return engines by their ids, as ``engine 3`` or ``engines 0-2``."""
    return f"{'engine' if len(ids) == 1 else 'engines'} {compress_ids(ids)}"
