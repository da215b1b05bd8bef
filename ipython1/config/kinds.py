"""The kinds of values that settings have: how text is converted, and what is allowed.

Simple kinds use the checks built into the ``validate`` library; the others supply a function that
is registered under the name of the check. A package can define its own kinds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from ipython1.checks import is_int

Convert: TypeAlias = Callable[..., Any]

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kmgt]?i?)b?", re.ASCII | re.IGNORECASE)
_UNITS = {
    unit + suffix: base**power
    for power, unit in enumerate(("", "k", "m", "g", "t"))
    for suffix, base in (("", 1000), ("i", 1024))
}
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value.

    :ivar check: the check in the syntax of ``validate``, up to where the default goes.
    :ivar allowed: what is allowed, worded to follow "must be".
    :ivar convert: converts text to a value, or raises; ``None`` for a check that is built into
        ``validate``.
    """

    check: str
    allowed: str
    convert: Convert | None = None

    @property
    def function(self) -> str:
        """The name of the check."""
        return self.check.partition("(")[0]


def parse_size(value: object) -> int:
    """Convert a size such as ``5000000``, ``"64 MiB"`` or ``"4GB"`` to bytes.

    Units without an ``i`` are powers of 1000.

    :raises ValueError: if ``value`` is not a size.
    """
    if is_int(value) and value >= 0:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a size in bytes")
    amount, factor = match["number"], _UNITS[match["unit"].lower()]
    return int(amount) * factor if amount.isdecimal() else int(float(amount) * factor)


def _parse_number(value: object, min: str | None = None, max: str | None = None) -> float:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a number")
    number = float(value)
    # NaN compares false with everything, so both comparisons are written to reject it.
    if (min is not None and not number >= float(min)) or not number <= float(max or "1e12"):
        raise ValueError(f"{number} is out of range")
    return number


def parse_dotted_name(value: object) -> str:
    """Return ``value`` if it is two or more names joined by dots.

    :raises ValueError: if it is not.
    """
    if isinstance(value, str) and _DOTTED.fullmatch(value):
        return value
    raise ValueError(f"{value!r} is not a dotted name")


def parse_code(value: object) -> str:
    """Return the source code unchanged, after checking that it compiles.

    :raises ValueError: if it does not compile.
    """
    if not isinstance(value, str):
        raise ValueError("it contains a comma outside quotes")
    try:
        compile(value, "<configuration>", "exec")
    except (SyntaxError, ValueError) as exception:
        raise ValueError(f"not Python code: {exception}") from exception
    return value


def integer(minimum: int, maximum: int | None = None) -> Kind:
    """Return the kind of whole numbers in a range, both ends included."""
    if maximum is None:
        return Kind(f"integer(min={minimum}, ", f"a whole number, {minimum} or more")
    return Kind(
        f"integer(min={minimum}, max={maximum}, ", f"a whole number from {minimum} to {maximum}"
    )


def number(minimum: float, maximum: float | None = None, unit: str = "") -> Kind:
    """Return the kind of numbers in a range, with or without a decimal point.

    :param unit: the plural of the unit, such as ``"seconds"``, for messages.
    """
    of_unit = f" of {unit}" if unit else ""
    if maximum is None:
        return Kind(
            f"number(min={minimum!r}, ", f"a number{of_unit}, {minimum:g} or more", _parse_number
        )
    return Kind(
        f"number(min={minimum!r}, max={maximum!r}, ",
        f"a number{of_unit} from {minimum:g} to {maximum:g}",
        _parse_number,
    )


def choice(*words: str) -> Kind:
    """Return the kind that allows only the given words."""
    quoted = ", ".join(f'"{word}"' for word in words)
    return Kind(f"option({quoted}, ", f"one of {', '.join(words)}")


def size(minimum: int) -> Kind:
    """Return the kind of sizes of at least ``minimum`` bytes."""

    def convert(value: object) -> int:
        if (bytes_ := parse_size(value)) < minimum:
            raise ValueError(f"{bytes_} is less than {minimum}")
        return bytes_

    return Kind(
        f"size_from_{minimum}(",
        f"a size in bytes, {format_size(minimum)} or more, such as 5000000 or 64 MiB",
        convert,
    )


BOOLEAN = Kind("boolean(", "True or False")
TEXT = Kind("string(", "text; quote it if it contains a comma or #")
WORDS = Kind(
    "words(",
    "a comma-separated list",
    lambda value: tuple(value) if isinstance(value, list) else (value,) if value else (),
)
SIZE = Kind("size(", "a size in bytes, such as 5000000, 64 MiB or 4 GiB", parse_size)
DOTTED_NAME = Kind(
    "dotted_name(", "a dotted name such as package.module.ClassName", parse_dotted_name
)
OPTIONAL_DOTTED_NAME = Kind(
    "optional_dotted_name(",
    "empty, or a dotted name such as package.module.ClassName",
    lambda value: "" if value == "" else parse_dotted_name(value),
)
CODE = Kind("code(", "Python code, in triple quotes if it has several lines", parse_code)


def format_size(size: int) -> str:
    """Format a size in bytes, such as ``4294967296`` as ``4 GiB``.

    A size that is not a whole multiple of a unit stays in bytes.
    """
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size and size % 1024**power == 0:
            return f"{size // 1024**power} {unit}"
    return str(size)


def format_value(value: Any, kind: Kind) -> str:
    """Format a value as it is written in a file."""
    if kind.function.startswith("size"):
        return format_size(value)
    if isinstance(value, str):
        if "\n" in value:
            return f'"""{value}"""'
        return f'"{value}"' if '"' not in value else f"'{value}'"
    if isinstance(value, Iterable):
        words = [format_value(word, TEXT) for word in value]
        return ", ".join(words) + ("," if len(words) < 2 else "")
    return str(value)
