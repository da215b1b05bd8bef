"""Directives that generate their text from the code, so that the two cannot differ.

``.. settings:: ipython1.kernel`` lists every setting of a subpackage's ini file, ``.. options:: ipcontroller``
every option of a command, ``.. zopeinterface:: package.module.IName`` the methods of an interface, and
``.. modules:: ipython1.kernel`` the modules of a package with their purposes.

Names in docstrings are looked up in the reference, also by their last part.  A name that exists only in the code is
shown as text.  A name that exists in neither is a mistake and causes a warning.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from zope.interface import Attribute
from zope.interface.interface import Method

import ipython1
from ipython1.kernel.scripts.clusterwords import WORDS

_DEFINITION = re.compile(r"^ *(?:async )?(?:class|def) (\w+)", re.MULTILINE)


class FromTheCode(Directive):
    """A directive that generates reStructuredText, which is parsed in place of the directive."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = False

    def lines(self, name: str) -> Iterator[str]:
        """The text for the directive's argument."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        container = nodes.container()
        text = StringList(list(self.lines(self.arguments[0])), source=self.name)
        self.state.nested_parse(text, self.content_offset, container)
        return container.children


class Settings(FromTheCode):
    """Every setting of a subpackage's configuration file."""

    def lines(self, name: str) -> Iterator[str]:
        manager = importlib.import_module(f"{name}.config").config_manager
        for section in manager.root.sections:
            yield from self._section(section, 1)

    def _section(self, section: Any, depth: int) -> Iterator[str]:
        heading = "[" * depth + section.name + "]" * depth
        yield from (f"**{heading}**", "", *_paragraph(section.help), "")
        options = [(option, False) for option in section.options]
        if section.any_option is not None:
            options.append((section.any_option, True))
        for option, is_example in options:
            yield from self._option(option, is_example)
        for subsection in section.sections:
            yield from self._section(subsection, depth + 1)
        if section.any_section is not None:
            example = section.any_section
            yield from (f"**{'[' * (depth + 1)}name of your choice{']' * (depth + 1)}**", "")
            yield from (*_paragraph(example.help), "", "The settings are the same as above.", "")

    def _option(self, option: Any, is_example: bool) -> Iterator[str]:
        from ipython1.config.kinds import format_value

        yield f"``{'name of your choice' if is_example else option.name}``"
        yield f"    {option.help} Allowed: {option.kind.allowed}."
        value = format_value(option.default, option.kind)
        if "\n" in value:
            yield from ("    Default:", "", "    .. code-block:: text", "")
            yield from (f"        {line}" for line in value.strip('"').strip().split("\n"))
        elif not is_example:
            shown = f"``{value}``" if value.strip('",') else "nothing"
            yield f"    Default: {shown}."
        yield ""


def _paragraph(text: str) -> list[str]:
    return text.split("\n")


PARSERS = {
    **{
        f"ipcluster {word}": (f"ipython1.kernel.scripts.{known.module}", "make_parser")
        for word, known in WORDS.items()
    },
    "ipcontroller": ("ipython1.kernel.scripts.controlleroptions", "parse_controller"),
    "ipcontroller furl": ("ipython1.kernel.scripts.furlactions", "make_parser"),
    "ipengine": ("ipython1.kernel.scripts.engineoptions", "parse_engine"),
    "ipcluster": ("ipython1.kernel.scripts.clusteroptions", "make_parser"),
}


class _Caught(Exception):
    """Carries a parser out of the function that creates and uses it."""


class Options(FromTheCode):
    """Every option of a command."""

    def lines(self, name: str) -> Iterator[str]:
        for group in command_parser(name)._action_groups:
            for action in group._group_actions:
                if action.help == argparse.SUPPRESS:
                    continue
                yield f"``{self._shown(action)}``"
                yield f"    {self._help(action)}"
                yield ""

    @staticmethod
    def _shown(action: argparse.Action) -> str:
        if not action.option_strings:
            return str(action.metavar or action.dest)
        value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
        return ", ".join(action.option_strings) + value

    @staticmethod
    def _help(action: argparse.Action) -> str:
        text = (action.help or "").replace("%(prog)s", "the command").replace("%%", "%")
        return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def command_parser(name: str) -> argparse.ArgumentParser:
    """The argparse parser of one of the commands."""
    module, function = PARSERS[name]
    parse: Callable[[], Any] = getattr(importlib.import_module(module), function)
    used = argparse.ArgumentParser.parse_args

    def caught(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        raise _Caught(self)

    argparse.ArgumentParser.parse_args = caught  # type: ignore[assignment]
    try:
        found = parse()
    except _Caught as caught_parser:
        found = caught_parser.args[0]
    finally:
        argparse.ArgumentParser.parse_args = used  # type: ignore[method-assign]
    assert isinstance(found, argparse.ArgumentParser)
    return found


class ZopeInterface(FromTheCode):
    """The methods and attributes of a ``zope.interface`` interface, which autodoc cannot document."""

    def lines(self, name: str) -> Iterator[str]:
        module, _, last = name.rpartition(".")
        interface = getattr(importlib.import_module(module), last)
        yield f".. py:class:: {name}"
        yield ""
        bases = [base for base in interface.__bases__ if base.__name__ != "Interface"]
        if bases:
            listed = ", ".join(f"``{base.__name__}``" for base in bases)
            yield from (f"    Extends {listed}.", "")
        yield from (f"    {line}".rstrip() for line in _doc(interface))
        yield ""
        for name_of_part, description in interface.namesAndDescriptions(all=False):
            yield from self._part(name_of_part, description)

    @staticmethod
    def _part(name: str, description: Attribute) -> Iterator[str]:
        if isinstance(description, Method):
            yield f"    .. py:method:: {name}{description.getSignatureString()}"
        else:
            yield f"    .. py:attribute:: {name}"
        yield ""
        yield from (f"        {line}".rstrip() for line in _doc(description))
        yield ""


class Modules(FromTheCode):
    """The modules directly in a package, each with the first sentence of its docstring."""

    def lines(self, name: str) -> Iterator[str]:
        for module in modules(name):
            purpose = (ast.get_docstring(ast.parse(source_of(module))) or "").split("\n\n")[0]
            yield f"``{module}``"
            yield from (f"    {line.strip()}" for line in purpose.split("\n"))
            yield ""


def source_of(module: str) -> str:
    """The source code of a module, which is not imported, as it may need what is not installed."""
    package, _, name = module.rpartition(".")
    folder = Path(importlib.import_module(package).__path__[0])
    return (folder / f"{name}.py").read_text(encoding="utf-8")


def modules(package: str) -> list[str]:
    """The names of the modules directly in a package."""
    folder = Path(importlib.import_module(package).__path__[0])
    return sorted(f"{package}.{path.stem}" for path in folder.glob("*.py") if path.stem[0] != "_")


def _doc(described: Any) -> list[str]:
    return inspect.cleandoc(described.__doc__ or "").split("\n")


def resolve(app: Sphinx, env: Any, node: Any, text: nodes.TextElement) -> nodes.Node | None:
    """Resolve a reference that Sphinx itself cannot follow."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"].lstrip(".")
    domain = env.domains["py"]
    found = [name for name in domain.objects if name.endswith(f".{target}")]
    if len(found) == 1:
        node["reftarget"] = found[0]
        link: nodes.Node | None = domain.resolve_xref(
            env, node["refdoc"], app.builder, domain.objects[found[0]].objtype, found[0], node, text
        )
        return link
    return text if target.rpartition(".")[2] in names_in_the_code() else None


@cache
def names_in_the_code() -> frozenset[str]:
    """Every name of a module, class or function of the package."""
    folder = Path(ipython1.__file__).parent
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        names.add(path.parent.name if path.stem == "__init__" else path.stem)
        names.update(_DEFINITION.findall(path.read_text(encoding="utf-8")))
    return frozenset(names)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("missing-reference", resolve)
    app.add_directive("settings", Settings)
    app.add_directive("options", Options)
    app.add_directive("zopeinterface", ZopeInterface)
    app.add_directive("modules", Modules)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
