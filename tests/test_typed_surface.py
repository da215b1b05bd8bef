"""What type checkers and editors know of the package: every attribute is declared, and users' programs are inferred."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.trial import unittest

import ipython1
from ipython1.testing.folders import temporary_path

ROOT = Path(ipython1.__file__).resolve().parents[1]
PACKAGE = ROOT / "ipython1"
PROGRAM = ROOT / "tests" / "programs" / "typed_session.py"

LAZY = ("client", "engineservice", "task")
"""Modules of the shelf whose names are loaded on first use."""

FOREIGN = {
    "IPython's session": "core/shell.py",
    "joblib's backend": "clients/joblibbackend.py",
    "Foolscap's slicers, Tubs and protocols": "tub/",
}
"""Attributes that other packages declare, without types: what has them, and where."""


def modules() -> Iterator[tuple[Path, ast.Module]]:
    """Yield every module of the package but the tests', parsed."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if "tests" not in path.parts:
            yield path, ast.parse(path.read_text(encoding="utf-8"))


class Classes:
    """What the classes of the package declare, by their names."""

    def __init__(self) -> None:
        self.bases: dict[str, set[str]] = {}
        self.declared: dict[str, set[str]] = {}
        for _, module in modules():
            for node in ast.walk(module):
                if isinstance(node, ast.ClassDef):
                    self._add(node)

    def _add(self, node: ast.ClassDef) -> None:
        names = {base.id for base in node.bases if isinstance(base, ast.Name)}
        names |= {
            base.value.id
            for base in node.bases
            if isinstance(base, ast.Subscript) and isinstance(base.value, ast.Name)
        }
        self.bases.setdefault(node.name, set()).update(names)
        declared = self.declared.setdefault(node.name, set())
        for each in ast.walk(node):
            if isinstance(each, ast.AnnAssign):
                target = each.target
                declared.add(target.attr if isinstance(target, ast.Attribute) else _name(target))
            elif isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                declared.add(each.name)

    def knows(self, kind: str, attribute: str) -> bool:
        """Whether a class or one of its bases declares the attribute."""
        seen: set[str] = set()
        waiting = [kind]
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                if attribute in self.declared.get(name, ()):
                    return True
                waiting += self.bases.get(name, ())
        return False


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def assigned(kind: ast.ClassDef) -> Iterator[tuple[str, ast.expr, ast.AST]]:
    """Yield the public attributes that methods assign to ``self``: name, value, and the method."""
    for method in kind.body:
        if isinstance(method, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for node in ast.walk(method):
                if isinstance(node, ast.Assign):
                    for target in node.targets:
                        yield from ((name, node.value, method) for name in _attributes(target))


def _attributes(target: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Tuple):
        for each in target.elts:
            yield from _attributes(each)
    elif isinstance(target, ast.Attribute) and _name(target.value) == "self":
        yield from () if target.attr.startswith("_") else (target.attr,)


def is_parameter(value: ast.expr, method: ast.AST) -> bool:
    """Whether a value is a parameter of the method, whose type is declared there."""
    assert isinstance(method, (ast.FunctionDef, ast.AsyncFunctionDef))
    arguments = method.args
    names = [each.arg for each in (*arguments.args, *arguments.kwonlyargs, *arguments.posonlyargs)]
    return isinstance(value, ast.Name) and value.id in names


class SurfaceTests(unittest.SynchronousTestCase):
    def test_every_public_attribute_is_declared(self) -> None:
        """Type checkers differ in what they infer of others.  mypy sees to functions (``disallow_untyped_defs``)."""
        classes, missing, count = Classes(), set(), 0
        for path, module in modules():
            place = path.relative_to(PACKAGE).as_posix()
            if any(part in place for part in FOREIGN.values()):
                continue
            for kind in ast.walk(module):
                if isinstance(kind, ast.ClassDef) and not kind.name.startswith("_"):
                    found = list(assigned(kind))
                    given = {name for name, *by in found if is_parameter(*by)}
                    count += len(found)
                    for name in {name for name, *_ in found} - given:
                        if not classes.knows(kind.name, name):
                            missing.add(f"{place}: {kind.name}.{name}")
        self.assertGreater(count, 300)
        self.assertEqual(sorted(missing), [])

    def test_names_that_are_loaded_on_first_use_are_known_before(self) -> None:
        for name in LAZY:
            tree = ast.parse((PACKAGE / "kernel" / f"{name}.py").read_text(encoding="utf-8"))
            shelf = importlib.import_module(f"ipython1.kernel.{name}")
            known = set()
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.module != "typing":
                    for each in node.names:
                        place = importlib.import_module(str(node.module))
                        if (each.asname or each.name) in shelf.__all__:
                            known.add(each.name)
                            self.assertIs(getattr(shelf, each.name), getattr(place, each.name))
            self.assertEqual(known, set(shelf.__all__), name)

    def test_the_types_of_a_users_program_are_inferred(self) -> None:
        """With the strictest settings, and without the plugins that this package itself is checked with."""
        try:
            import mypy  # noqa: F401
        except ImportError:
            raise unittest.SkipTest("mypy is not installed") from None
        self.assertTrue((PACKAGE / "py.typed").exists())
        command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary"]
        directory = Path(temporary_path(self))
        directory.mkdir()
        checked = subprocess.run(
            [*command, "--follow-imports=silent", f"--cache-dir={directory}", str(PROGRAM)],
            cwd=directory,
            env={**os.environ, "MYPYPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        self.assertEqual((checked.stdout, checked.stderr, checked.returncode), ("", "", 0))
