"""A way to distribute sequences: stripes of a fixed width, dealt out in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ipython1.kernel.map import register_distribution


class Stripes:
    """Stripes of ``width`` elements: the first to engine 0, the second to engine 1, and so on, in rounds."""

    def __init__(self, width: int) -> None:
        self.width = width

    def partition(self, sequence: Any, n: int) -> list[Any]:
        parts: list[Any] = [[] for _ in range(n)]
        for number, start in enumerate(range(0, len(sequence), self.width)):
            parts[number % n].extend(sequence[start : start + self.width])
        return parts

    def join(self, parts: Sequence[Any]) -> Any:
        whole: list[Any] = []
        begin = 0
        while any(len(part) > begin for part in parts):
            for part in parts:
                whole.extend(part[begin : begin + self.width])
            begin += self.width
        return whole


register_distribution("stripes", Stripes(2))
