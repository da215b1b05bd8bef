"""The house is in order: each module says what it is for, and each dependency has its reason."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from twisted.trial import unittest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("ipython1", "tests", "scripts", "docs/examples", "docs/source")

HEADING = "Dependencies, and what they are for"

BROUGHT = {"dask", "scipy", "service-identity"}
"""Packages in the tables that are no dependencies: others bring them, or they are used if users have them."""

_ROW = re.compile(r"^([A-Za-z][\w.-]*(?:, [A-Za-z][\w.-]*)*) {2,}\S", re.MULTILINE)
_REFERENCE = re.compile(r":(?:mod|class|func|meth|data|exc|attr):`(?:[^`<]*<)?[~!.]*([\w.]+)>?`")
_RULE = re.compile(r"^={3,} +={3,}$", re.MULTILINE)


@cache
def modules() -> tuple[tuple[str, str, ast.Module], ...]:
    """The path, text and syntax of every module; packages may be empty."""
    found: list[tuple[str, str, ast.Module]] = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            if text.strip() or path.name != "__init__.py":
                found.append((path.relative_to(ROOT).as_posix(), text, ast.parse(text)))
    return tuple(found)


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def dependencies() -> set[str]:
    """Return the names of all that ``pyproject.toml`` requires, with every extra."""
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = settings["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    lists.append(settings["build-system"]["requires"])
    names = (re.match(r"[\w.-]+", each) for found in lists for each in found)
    return {normal(name[0]) for name in names if name and name[0] != "ipython1"}


def explained() -> set[str]:
    """Return the names in the tables of dependencies of the page that says how to install the package."""
    (path,) = (ROOT / "docs" / "source").rglob("install.txt")
    text = path.read_text(encoding="utf-8")
    section = text[text.index(f"\n{HEADING}\n===") :].split("\n\n\n", 1)[0]
    rows = (row for table in _RULE.split(section)[1::2] for row in _ROW.findall(table))
    return {normal(name) for row in rows for name in row.split(", ")}


class ModuleTests(unittest.SynchronousTestCase):
    def test_the_first_line_of_each_module_says_what_it_is_for(self) -> None:
        """In one sentence, which is not the module's name in other words."""
        wrong: list[str] = []
        for name, _, tree in modules():
            docstring = ast.get_docstring(tree) or ""
            first, *rest = docstring.splitlines() or [""]
            words = re.sub(r"\W+", "", first.lower())
            if (
                not first.endswith((".", ".)", ":"))
                or (first.endswith(":") and not any(rest))
                or (rest and rest[0].strip())
                or re.search(r"[.!?]\s+[A-Z]", first)
                or re.match(r"This (module|file|script|program)\b|See\b", first)
                or words == re.sub(r"\W+", "", Path(name).stem.lower())
                or len(first.split()) < 3
            ):
                wrong.append(f"{name}: {first}")
        self.assertEqual(wrong, [])


class DocstringTests(unittest.SynchronousTestCase):
    def test_they_describe_parameters_that_there_are(self) -> None:
        wrong: list[str] = []
        for name, _, tree in modules():
            for node in ast.walk(tree):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    unknown = _described(node) - _parameters(node)
                elif isinstance(node, ast.ClassDef):
                    makers = (each for each in node.body if isinstance(each, ast.FunctionDef))
                    found = [_parameters(each) for each in makers if each.name == "__init__"]
                    unknown = _described(node) - found[0] if found else set[str]()
                else:
                    continue
                wrong += [f"{name}: {node.name} has no {each}" for each in unknown]
        self.assertEqual(wrong, [])

    def test_they_refer_to_names_that_there_are(self) -> None:
        """Each part of a reference is the name of something, somewhere."""
        known: set[str] = set()
        references: list[tuple[str, str]] = []
        for path, text, tree in modules():
            known.update(Path(path).with_suffix("").parts)
            references += [(path, found) for found in _REFERENCE.findall(text)]
            for node in ast.walk(tree):
                for field in ("name", "id", "attr", "arg"):
                    known.add(str(getattr(node, field, "")))
        missing = [
            f"{path}: {reference}"
            for path, reference in references
            if not set(reference.split(".")) <= known
        ]
        self.assertEqual(missing, [])
        self.assertGreater(len(references), 300)


def _described(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> set[str]:
    """The parameters in a docstring."""
    lists = re.findall(r":param ([\w, *]+):", ast.get_docstring(node) or "")
    return {each.strip("*") for found in lists for each in re.split(r"[, ]+", found) if each}


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    found = (each for each in ast.walk(node.args) if isinstance(each, ast.arg))
    return {each.arg for each in found}


class DependencyTests(unittest.SynchronousTestCase):
    def test_each_has_its_reason_and_nothing_else_has_one(self) -> None:
        self.assertEqual(explained() - BROUGHT, dependencies())
