"""Reads a configuration file and reports every problem in it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configobj import ConfigObj, ConfigObjError, get_extra_values
from configobj.validate import Validator, VdtValueError

from ipython1.config.error import ConfigError
from ipython1.config.kinds import CODE, TEXT, Convert
from ipython1.config.schema import Section


def read_ini(text: str, path: Path, root: Section, partly: bool = False) -> dict[str, Any]:
    """Parse the text of a file to a dict of sections that holds only the settings given there.

    :param path: the file that the text is from, for messages.
    :param partly: whether the file may have more than ``root`` describes, which is ignored.
    :raises ConfigError: with every problem in the file, each with section, setting, value and
        what is allowed.
    """
    spec = ConfigObj(list(root.spec()), interpolation=False, list_values=False, _inspec=True)
    try:
        # No interpolation: "%" and "$" are ordinary characters in templates and code.
        parsed = ConfigObj(
            text.splitlines(), configspec=spec, interpolation=False, raise_errors=True
        )
    except ConfigObjError as exception:
        raise ConfigError(f"{path}: {str(exception).rstrip('.')}") from exception
    if partly:
        for name in list(parsed):
            if name not in parsed.sections or root.section(name) is None:
                del parsed[name]
    # The library cannot validate a file that has a section in place of a setting, or vice versa.
    _stop_at(_misplaced(parsed, root, ()), path)
    functions = {
        kind.function: _validating(kind.convert)
        for kind in root.kinds()
        if kind.convert is not None
    }
    results = parsed.validate(Validator(functions), preserve_errors=True)
    _stop_at(_problems(parsed, results, root), path)
    return _values(parsed)


def _stop_at(problems: Iterator[str], path: Path) -> None:
    found = [f"{path}: {problem}" for problem in problems]
    if found:
        raise ConfigError(found[0], found)


def _validating(convert: Convert) -> Convert:
    def check(value: object, *args: Any, **kwargs: Any) -> Any:
        try:
            return convert(value, *args, **kwargs)
        except Exception as exception:
            # Replace the arguments: the library's own message holds only the wrong value.
            problem = VdtValueError(value)
            problem.args = (str(exception),)
            raise problem from exception

    return check


def _misplaced(parsed: Any, section: Section, where: tuple[str, ...]) -> Iterator[str]:
    for name in parsed.scalars:
        if any(subsection.name == name for subsection in section.sections):
            brackets = len(where) + 1
            yield (
                f"{_place(where)}{name} = {_shown(parsed[name])}: {name} is a section; "
                f"write {'[' * brackets}{name}{']' * brackets} with its settings below"
            )
    for name in parsed.sections:
        subsection = section.section(name)
        if any(option.name == name for option in section.options) or (
            section.any_option is not None and subsection is None
        ):
            yield f"{_place((*where, name))}is not a section but a setting; write {name} = value"
        elif subsection is not None:
            yield from _misplaced(parsed[name], subsection, (*where, name))


def _values(section: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in section.scalars:
        if section[name] is not None:
            values[name] = section[name]
    for name in section.sections:
        values[name] = _values(section[name])
    return values


def _problems(parsed: Any, results: Any, root: Section) -> Iterator[str]:
    for where, name in get_extra_values(parsed):
        yield _unknown(parsed, where, name, root)
    if isinstance(results, dict):
        yield from _wrong_values(parsed, results, root, ())


def _wrong_values(
    parsed: Any, results: dict[str, Any], section: Section, where: tuple[str, ...]
) -> Iterator[str]:
    for name, result in results.items():
        if result is True:
            continue
        subsection = section.section(name)
        option = section.option(name)
        if isinstance(result, dict) and subsection is not None:
            yield from _wrong_values(parsed[name], result, subsection, (*where, name))
        elif option is not None:
            value = parsed[name]
            hint = ""
            if isinstance(value, list) and option.kind is not TEXT:
                hint = "; quote values that contain a comma"
            elif option.kind is CODE:
                hint = f" ({result})"
            yield f"{_place(where)}{name} = {_shown(value)}: must be {option.kind.allowed}{hint}"


def _unknown(parsed: Any, where: tuple[str, ...], name: str, root: Section) -> str:
    section, found = root, parsed
    for part in where:
        section = section.section(part) or section
        found = found[part]
    is_section = name in found.sections
    known = [item.name for item in (section.sections if is_section else section.options)]
    what = "section" if is_section else "setting"
    close = difflib.get_close_matches(name, known, 1, 0.5)
    elsewhere = [] if is_section else list(_sections_with(root, name, ()))
    if elsewhere:
        advice = f"it belongs in section {_place(elsewhere[0]).rstrip()}"
    elif close:
        advice = f"did you mean {close[0]}?"
    elif known:
        advice = f"the {what}s here are {', '.join(known)}"
    else:
        advice = f"no {what}s are allowed here"
    return f"{_place(where)}unknown {what} {name}; {advice}"


def _sections_with(
    section: Section, name: str, where: tuple[str, ...]
) -> Iterator[tuple[str, ...]]:
    if any(option.name == name for option in section.options):
        yield where
    for subsection in section.sections:
        yield from _sections_with(subsection, name, (*where, subsection.name))


def _place(where: tuple[str, ...]) -> str:
    if not where:
        return ""
    return " ".join("[" * n + name + "]" * n for n, name in enumerate(where, 1)) + " "


def _shown(value: Any) -> str:
    text = ", ".join(value) if isinstance(value, list) else str(value)
    text = text if text else '""'
    text = text.replace("\n", " \\n ")
    return text if len(text) <= 60 else text[:57] + "..."
