"""Where the values of names come from, as far as the source of commands shows it.

Names are given *marks*.  A name that a command sets gets the marks of the names that it is computed from.  What
functions of modules do with names, and code that is made at run time, is not seen.
"""

from __future__ import annotations

import ast
import types
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Generic, TypeVar

Mark = TypeVar("Mark")

_MAGICS: Final = ("run_line_magic", "run_cell_magic")
"""Methods of IPython whose last argument may be code, such as that of ``%%time``."""


class Origins(Generic[Mark]):
    """The marks of the names of one namespace.

    :param namespace: where the code runs.
    """

    def __init__(self, namespace: Mapping[str, object]) -> None:
        self._namespace = namespace
        self._marks: dict[str, frozenset[Mark]] = {}

    def of(self, name: str) -> frozenset[Mark]:
        """The marks of what a name stands for now."""
        return self._marks.get(name, frozenset())

    @property
    def all(self) -> set[Mark]:
        """All marks that some name has."""
        return {mark for marks in self._marks.values() for mark in marks}

    def set(self, name: str, *marks: Mark) -> None:
        """Something that comes from elsewhere is put under a name."""
        if marks:
            self._marks[name] = frozenset(marks)
        else:
            self._marks.pop(name, None)

    def clear(self) -> None:
        """All names are deleted."""
        self._marks.clear()

    def ran(self, source: str) -> None:
        """Code ran; what is not Python is passed over."""
        if not self._marks or (
            source.isascii() and not any(name in source for name in self._marks)
        ):
            return  # nothing comes from marked names, and they stay as they are
        for statement in _statements(source):
            self._statement(statement)

    def _statement(self, statement: ast.stmt) -> None:
        magic = _code_of_magic(statement)
        if magic is not None:
            self.ran(magic)
            return
        targets, value = _assignment(statement)
        if value is not None:
            marks = self._union(_loaded(value))
            for name in targets:
                self.set(name, *marks)
        elif isinstance(statement, ast.Delete):
            for name in _stored(statement):
                self.set(name)
        else:
            # It may or may not run, once or several times.
            marks = self._union(_loaded(statement))
            for name in {*_stored(statement), *self._changed(statement)} if marks else ():
                self._marks[name] = self.of(name) | marks

    def _union(self, names: Iterable[str]) -> frozenset[Mark]:
        return frozenset().union(*map(self.of, names))

    def _changed(self, node: ast.AST) -> Iterator[str]:
        """Objects whose methods are called."""
        for each in ast.walk(node):
            if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute):
                name = _root(each.func)
                if not isinstance(self._namespace.get(name), types.ModuleType):
                    yield name


def _statements(source: str) -> list[ast.stmt]:
    # Only escapes in texts are warned of, which was done when the code ran; other warnings would be given again if the
    # filters were touched.
    silence: AbstractContextManager[object] = nullcontext()
    if "\\" in source:
        silence = warnings.catch_warnings(action="ignore")
    try:
        with silence:
            return ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _assignment(statement: ast.stmt) -> tuple[list[str], ast.expr | None]:
    """The names that a plain assignment sets, and their value; None for any other statement."""
    if isinstance(statement, ast.Assign):
        targets, value = statement.targets, statement.value
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets, value = [statement.target], statement.value
    else:
        return [], None
    names: list[str] = []
    for target in targets:
        items = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
        for item in items:
            if not isinstance(item, ast.Name):
                return [], None
            names.append(item.id)
    return names, value


def _loaded(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load):
            yield each.id


def _stored(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Name):
            if not isinstance(each.ctx, ast.Load):
                yield each.id
        elif isinstance(each, (ast.Attribute, ast.Subscript)):
            if not isinstance(each.ctx, ast.Load):
                yield _root(each)
        elif isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield each.name
        elif isinstance(each, ast.Global):
            yield from each.names


def _root(node: ast.expr) -> str:
    """The name at the left of a chain such as ``a.b[0].c``; empty if there is none."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _code_of_magic(statement: ast.stmt) -> str | None:
    call = getattr(statement, "value", None)
    if (
        isinstance(statement, ast.Expr)
        and isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in _MAGICS
        and call.args
        and isinstance(code := call.args[-1], ast.Constant)
        and isinstance(code.value, str)
    ):
        return code.value
    return None
