"""The kinds of values that a setting can have: how a text becomes a value, and what is allowed.

The plain ones are checks that the ``validate`` library has itself; the others bring a function that
it is given under the name of the check. A package can make kinds of its own.
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

    :ivar check: the check as ``validate`` writes it, up to where the default goes.
    :ivar allowed: what is allowed, as it reads after "allowed is".
    :ivar convert: makes a value of a text, or raises; ``None`` for a check that ``validate`` has
        itself.
    """

    check: str
    allowed: str
    convert: Convert | None = None

    @property
    def function(self) -> str:
        """The name of the check."""
        return self.check.partition("(")[0]


def parse_size(value: object) -> int:
    """Bytes from ``5000000``, ``"64 MiB"`` or ``"4GB"``; units without an ``i`` are powers of 1000.

    :raises ValueError: when it is none of these.
    """
    if is_int(value) and value >= 0:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a number of bytes")
    amount, factor = match["number"], _UNITS[match["unit"].lower()]
    return int(amount) * factor if amount.isdecimal() else int(float(amount) * factor)


def _parse_number(value: object, min: str | None = None, max: str | None = None) -> float:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a number")
    number = float(value)
    # NaN compares false with everything, so it must not get past either end.
    if (min is not None and not number >= float(min)) or not number <= float(max or "1e12"):
        raise ValueError(f"{number} is out of range")
    return number


def parse_dotted_name(value: object) -> str:
    """Two names or more with dots between them.

    :raises ValueError: when it is not.
    """
    if isinstance(value, str) and _DOTTED.fullmatch(value):
        return value
    raise ValueError(f"{value!r} is not a dotted name")


def parse_code(value: object) -> str:
    """The text of a program, unchanged.

    :raises ValueError: when it cannot be compiled.
    """
    if not isinstance(value, str):
        raise ValueError("a comma outside quotes")
    try:
        compile(value, "<configuration>", "exec")
    except (SyntaxError, ValueError) as exception:
        raise ValueError(f"not Python code: {exception}") from exception
    return value


def integer(minimum: int, maximum: int | None = None) -> Kind:
    """A whole number."""
    if maximum is None:
        return Kind(f"integer(min={minimum}, ", f"a whole number from {minimum} up")
    return Kind(
        f"integer(min={minimum}, max={maximum}, ", f"a whole number from {minimum} to {maximum}"
    )


def number(minimum: float, maximum: float | None = None, unit: str = "") -> Kind:
    """A number with or without a decimal point."""
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
    """One of some words."""
    quoted = ", ".join(f'"{word}"' for word in words)
    return Kind(f"option({quoted}, ", f"one of {', '.join(words)}")


def size(minimum: int) -> Kind:
    """A number of bytes, no less than ``minimum``."""

    def convert(value: object) -> int:
        if (bytes_ := parse_size(value)) < minimum:
            raise ValueError(f"{bytes_} is less than {minimum}")
        return bytes_

    return Kind(
        f"size_from_{minimum}(",
        f"a number of bytes, {format_size(minimum)} or more, such as 5000000 or 64 MiB",
        convert,
    )


BOOLEAN = Kind("boolean(", "True or False")
TEXT = Kind("string(", "a text; put it in quotes when there is a comma or a # in it")
WORDS = Kind(
    "words(",
    "texts with commas between them",
    lambda value: tuple(value) if isinstance(value, list) else (value,) if value else (),
)
SIZE = Kind("size(", "a number of bytes such as 5000000, 64 MiB or 4 GiB", parse_size)
DOTTED_NAME = Kind(
    "dotted_name(", "a dotted name such as package.module.ClassName", parse_dotted_name
)
OPTIONAL_DOTTED_NAME = Kind(
    "optional_dotted_name(",
    "nothing, or a dotted name such as package.module.ClassName",
    lambda value: "" if value == "" else parse_dotted_name(value),
)
CODE = Kind("code(", "Python code, in triple quotes when it has several lines", parse_code)


def format_size(size: int) -> str:
    """``4294967296`` as ``4 GiB``; what is no whole number of a unit stays in bytes."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size and size % 1024**power == 0:
            return f"{size // 1024**power} {unit}"
    return str(size)


def format_value(value: Any, kind: Kind) -> str:
    """The value as it is written in a file."""
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
