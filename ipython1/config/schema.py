"""Descriptions of settings: their names, kinds, defaults and explanations.

A package describes its settings once, as a tuple of :class:`Section`. The defaults, the spec that
files are validated against, and the commented file that users start from are all derived from it.
Getting the defaults takes neither a library nor a file.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ipython1.config.kinds import Kind


@dataclass(frozen=True, slots=True)
class Option:
    """One setting.

    :ivar default: the default, as a value and not as text.
    :ivar help: what it does, with units, for the commented file.
    :ivar example: the value that the commented file shows instead of the default.
    """

    name: str
    kind: Kind
    default: Any
    help: str
    example: Any = None

    @property
    def shown(self) -> Any:
        """The value that the commented file shows."""
        return self.default if self.example is None else self.example


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a file, with its settings and subsections.

    :ivar any_option: the form of the options that users may add under any name; its own ``name`` is
        an example. ``None`` if they may not.
    :ivar any_section: the form of the subsections that users may add under any name; its own
        ``name`` is an example. ``None`` if they may not.
    """

    name: str
    help: str
    options: tuple[Option, ...] = ()
    sections: tuple[Section, ...] = ()
    any_option: Option | None = None
    any_section: Section | None = None

    def option(self, name: str) -> Option | None:
        """Return the option with this name, or ``None`` if it is not allowed here."""
        return next((option for option in self.options if option.name == name), self.any_option)

    def section(self, name: str) -> Section | None:
        """Return the subsection with this name, or ``None`` if it is not allowed here."""
        return next(
            (section for section in self.sections if section.name == name), self.any_section
        )

    def defaults(self) -> dict[str, Any]:
        """Return the defaults, subsections as nested dicts."""
        values: dict[str, Any] = {option.name: copy.copy(option.default) for option in self.options}
        for section in self.sections:
            values[section.name] = section.defaults()
        return values

    def kinds(self) -> Iterator[Kind]:
        """Yield every kind in use, including those of subsections."""
        for option in (*self.options, *([self.any_option] if self.any_option else [])):
            yield option.kind
        for section in (*self.sections, *([self.any_section] if self.any_section else [])):
            yield from section.kinds()

    def spec(self, depth: int = 1) -> Iterator[str]:
        """Yield the lines of the spec for ``validate``; settings that are not given become None."""
        for option in self.options:
            yield f"{option.name} = {option.kind.check}default=None)"
        if self.any_option is not None:
            yield f"__many__ = {self.any_option.kind.check}default=None)"
        for section in self.sections:
            yield f"{'[' * depth}{section.name}{']' * depth}"
            yield from section.spec(depth + 1)
        if self.any_section is not None:
            yield f"{'[' * depth}__many__{']' * depth}"
            yield from self.any_section.spec(depth + 1)


def root_section(sections: tuple[Section, ...]) -> Section:
    """Return a whole file as one section without a heading."""
    return Section("", "", sections=sections)
