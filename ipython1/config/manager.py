"""One subpackage's configuration file: its defaults, the user's changes, and a file to start from.

``<ipython dir>/<package>.ini`` is read by ConfigObj and validated. If there is no such file, nothing
is parsed and ConfigObj is not imported.
"""

from __future__ import annotations

import os
import shlex
import stat
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ipython1.config.error import ConfigError
from ipython1.config.kinds import TEXT, format_value
from ipython1.config.paths import find_ipython_dir
from ipython1.config.schema import Option, Section, root_section
from ipython1.ownfiles import directory_problem
from ipython1.regularfiles import read_regular_text
from ipython1.system import HAS_OWNERS, O_NONBLOCK, user_id

_WIDTH = 92


class ConfigManager:
    """The configuration of one subpackage.

    :param package: its dotted name; the file's name is this plus ``.ini``.
    :param sections: the sections that the file may have.
    :param partly: whether the file may have others, too, which are ignored.
    """

    def __init__(self, package: str, sections: tuple[Section, ...], partly: bool = False) -> None:
        self.package = package
        self.root: Section = root_section(sections)
        self._partly = partly

    def path(self, ipython_dir: str | os.PathLike[str] | None = None) -> Path:
        """Return the path of the file, whether or not it exists.

        :param ipython_dir: the IPython directory; default ``$IPYTHONDIR`` or ``~/.ipython``.
        :raises ConfigError: if there is no home directory to start from.
        """
        return find_ipython_dir(ipython_dir) / f"{self.package}.ini"

    def get_config(self, ipython_dir: str | os.PathLike[str] | None = None) -> dict[str, Any]:
        """Return the settings: a dict of sections by name, each a dict of values and subsections.

        The dict holds every setting; those that the file does not set have their defaults.

        :param ipython_dir: the IPython directory; default ``$IPYTHONDIR`` or ``~/.ipython``.
        :raises ConfigError: if the file cannot be read, others can write to it, or it holds an
            invalid value or an unknown name.
        """
        values = self.root.defaults()
        path = self.path(ipython_dir)
        try:
            _check_not_writable_by_others(path)
            text = read_regular_text(path, "utf-8-sig")
        except (FileNotFoundError, NotADirectoryError):
            return values
        except UnicodeDecodeError as exception:
            raise ConfigError(f"{path} is not a UTF-8 text file: {exception}") from exception
        except OSError as exception:
            raise ConfigError(f"cannot read {path}: {exception.strerror}") from exception
        from ipython1.config.reading import read_ini

        _merge(values, read_ini(text, path, self.root, self._partly), self.root)
        return values

    def write_default_config_file(
        self, ipython_dir: str | os.PathLike[str] | None = None, overwrite: bool = False
    ) -> Path:
        """Write a file that explains every setting, with the defaults as comments, and print its
        path.

        :param ipython_dir: the IPython directory; default ``$IPYTHONDIR`` or ``~/.ipython``.
        :param overwrite: replace an existing file.
        :returns: the path.
        :raises ConfigError: if the file exists and ``overwrite`` is false, or it cannot be written.
        """
        path = self.path(ipython_dir)
        data = self.default_text().encode("utf-8")
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if overwrite else os.O_EXCL)
        flags |= O_NONBLOCK  # do not wait for the reader of a named pipe
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(path, flags, 0o600), "wb") as file:
                file.write(data)
        except FileExistsError as exception:
            raise ConfigError(
                f"{path} already exists; edit it, or pass overwrite=True to restore the defaults "
                "(your changes will be lost)"
            ) from exception
        except OSError as exception:
            raise ConfigError(f"cannot write {path}: {exception.strerror}") from exception
        print(f"Wrote the default configuration to {path}; edit it as needed.")
        return path

    def default_text(self) -> str:
        """Return the text of the file that explains every setting."""
        head = (
            f"Configuration of {self.package}\n\n"
            "Every setting is listed as a comment with its default. To change one, remove the '# ' in "
            "front of it and edit the value. Command-line options override this file. "
            "Quote text that contains a comma or #."
        )
        return "\n".join([*_comment(head), "", *_render(self.root)]).rstrip("\n") + "\n"


def _merge(values: dict[str, Any], given: dict[str, Any], section: Section) -> None:
    for name, value in given.items():
        if not isinstance(value, dict):
            values[name] = value
            continue
        subsection = section.section(name)
        if subsection is not None:
            _merge(values.setdefault(name, subsection.defaults()), value, subsection)


def _check_not_writable_by_others(path: Path) -> None:
    """Refuse a file that others can write: settings name code that runs as the user."""
    found = path.stat()
    if not HAS_OWNERS:
        return
    if found.st_uid not in (user_id(), 0):
        raise ConfigError(
            f"{path} belongs to another user (uid {found.st_uid}, you are {user_id()}); use your own file, "
            f"or if you trust this one, run: sudo chown {user_id()} {shlex.quote(str(path))}"
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            f"{path} is writable by other users; run: chmod go-w {shlex.quote(str(path))}"
        )
    problem = directory_problem(path.parent)
    if problem:
        raise ConfigError(f"{path} cannot be trusted, as its directory {problem}")


def _render(section: Section, depth: int = 1) -> Iterator[str]:
    for option in section.options:
        allowed = "" if option.kind is TEXT else f" Allowed: {option.kind.allowed}."
        yield from _comment(f"{option.help}{allowed}", mark="## ")
        yield from _setting(option)
        yield ""
    if section.any_option is not None:
        yield from _comment(section.any_option.help, mark="## ")
        yield from _setting(section.any_option)
        yield ""
    for subsection in section.sections:
        yield from _heading(subsection.name, subsection.help, depth)
        yield from _render(subsection, depth + 1)
    if section.any_section is not None:
        yield from _comment(section.any_section.help, mark="## ")
        yield f"# {'[' * depth}{section.any_section.name}{']' * depth}"
        for option in section.any_section.options:
            yield from _setting(option)
        yield ""


def _heading(name: str, help: str, depth: int) -> Iterator[str]:
    yield f"{'[' * depth}{name}{']' * depth}"
    yield from _comment(help, mark="## ")
    yield ""


def _setting(option: Option) -> Iterator[str]:
    for line in f"{option.name} = {format_value(option.shown, option.kind)}".split("\n"):
        yield f"# {line}"


def _comment(text: str, mark: str = "# ") -> Iterator[str]:
    for paragraph in text.split("\n"):
        for line in textwrap.wrap(paragraph, _WIDTH, break_on_hyphens=False) or [""]:
            yield f"{mark}{line}".rstrip()
