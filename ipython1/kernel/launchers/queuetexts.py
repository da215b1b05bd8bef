"""What is said of engines that wait in a queue."""

from __future__ import annotations

from collections.abc import Iterable


def reasons_text(waiting: Iterable[tuple[str, int]]) -> str:
    """Return how many wait and why, such as ``3 (Resources), 1``; empty if none does.

    :param waiting: reasons, each with a number of engines.
    """
    counts: dict[str, int] = {}
    for reason, count in waiting:
        counts[reason] = counts.get(reason, 0) + count
    return ", ".join(
        f"{count} ({reason})" if reason else str(count) for reason, count in counts.items()
    )
