"""What settings there are: their names, kinds, defaults and explanations.

A package describes its settings once, as a tuple of :class:`Section`. The defaults, the spec that a
file is validated against, and the commented file that users start from all come from it. Defaults
need no library and no file.
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

    :ivar default: the value that holds when nothing is said, as a value and not as text.
    :ivar help: what it does, for the commented file; units belong here.
    :ivar example: what the commented file shows in place of the default.
    """

    name: str
    kind: Kind
    default: Any
    help: str
    example: Any = None

    @property
    def shown(self) -> Any:
        """The value for the commented file."""
        return self.default if self.example is None else self.example


@dataclass(frozen=True, slots=True)
class Section:
    """Some settings under a heading.

    :ivar any_option: the kind of options that may be added under names of the user's own; its
        ``name`` is an example.
    :ivar any_section: the form of sections that may be added under names of the user's own; its
        ``name`` is an example.
    """

    name: str
    help: str
    options: tuple[Option, ...] = ()
    sections: tuple[Section, ...] = ()
    any_option: Option | None = None
    any_section: Section | None = None

    def option(self, name: str) -> Option | None:
        """The option of that name, if it may be given."""
        return next((option for option in self.options if option.name == name), self.any_option)

    def section(self, name: str) -> Section | None:
        """The subsection of that name, if it may be given."""
        return next(
            (section for section in self.sections if section.name == name), self.any_section
        )

    def defaults(self) -> dict[str, Any]:
        """The values that hold when nothing is said."""
        values: dict[str, Any] = {option.name: copy.copy(option.default) for option in self.options}
        for section in self.sections:
            values[section.name] = section.defaults()
        return values

    def kinds(self) -> Iterator[Kind]:
        """Every kind that is used, in subsections too."""
        for option in (*self.options, *([self.any_option] if self.any_option else [])):
            yield option.kind
        for section in (*self.sections, *([self.any_section] if self.any_section else [])):
            yield from section.kinds()

    def spec(self, depth: int = 1) -> Iterator[str]:
        """The lines of the spec for ``validate``; what is missing becomes None."""
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
    """The whole of a file as a section without a heading."""
    return Section("", "", sections=sections)
