"""Whether a function is still what it was: for whoever keeps its pickle, or the function that was made of one."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable, Mapping
from operator import is_
from typing import Any, TypeAlias

from cloudpickle import cloudpickle as _cp

from ipython1.kernel.objects.brought import is_constant
from ipython1.kernel.objects.classes import name_of
from ipython1.kernel.objects.codenames import names_in, words_of

GlobalsOf: TypeAlias = Callable[[types.FunctionType], Mapping[str, Any]]

_NOTHING = object()

STEADY = "__ipython1_steady__"
"""A class that has this attribute, True, vouches for its objects: nobody changes what matters in them."""


class Watch:
    """Remembers all that a function depends on.

    :param value: the function, or what is used as one.
    :param globals_of: gives the global names that came, or come, along with a function.
    :param watch_names: whether these names may be given other values.
    :param references: what arrived with it by name: module, name, and object.
    :ivar steady: whether everything that can change is watched; if not, nobody may rely on ``value``.
    """

    __slots__ = (
        "_cells",
        "_functions",
        "_globals_of",
        "_modules_by_value",
        "_names",
        "_number_of_modules",
        "_references",
        "_seen",
        "_watch_names",
        "steady",
    )

    def __init__(
        self,
        value: Any,
        globals_of: GlobalsOf,
        watch_names: bool,
        references: Iterable[tuple[str, str, Any]] = (),
    ) -> None:
        self._globals_of = globals_of
        self._watch_names = watch_names
        self._seen: set[int] = set()
        self._cells: list[tuple[types.CellType, Any]] = []
        self._names: list[tuple[dict[str, Any], str, Any]] = []
        self._functions: list[_Function] = []
        self._references = list(references)
        self._modules_by_value = frozenset(_cp._PICKLE_BY_VALUE_MODULES)
        self._number_of_modules = -1
        self.steady: bool = self._add(value)
        self._seen.clear()

    def _add(self, value: Any) -> bool:
        if is_constant(value) or id(value) in self._seen:
            return True
        kind = type(value)
        if getattr(kind, STEADY, False) is True:
            return True
        if kind in (tuple, frozenset):
            return all(map(self._add, value))
        if kind is types.ModuleType:
            return self._add_module(value)
        # Functions of numpy are of many types.
        found = name_of(value) if callable(value) else None
        if found is not None:
            self._references.append((*found, value))
            return True
        return kind is types.FunctionType and self._add_function(value)

    def _add_module(self, module: types.ModuleType) -> bool:
        if not _cp._should_pickle_by_reference(module):
            return False
        if hasattr(module, "__path__"):
            # Its submodules come along if they are there.
            self._number_of_modules = len(sys.modules)
        self._references.append((module.__name__, "", module))
        return True

    def _add_function(self, function: types.FunctionType) -> bool:
        self._seen.add(id(function))
        names = names_in(function.__code__)
        if vars(function) or names.writes_cells:
            return False
        self._functions.append(_Function(function))
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:
                return False
            self._cells.append((cell, content))
            if not self._add(content):
                return False
        for default in function.__defaults__ or ():
            if not self._add(default):
                return False
        for default in (function.__kwdefaults__ or {}).values():
            if not self._add(default):
                return False
        found = self._globals_of(function)
        if self._watch_names:
            space = function.__globals__
            for name in (*names.used, *words_of(function)):
                self._names.append((space, name, space.get(name, _NOTHING)))
        elif names.writes_globals and function.__globals__.get("__name__") != "__main__":
            # It writes to globals that are its own.
            return False
        return all(map(self._add, found.values()))

    def unchanged(self) -> bool:
        """Return whether everything is as it was."""
        for each in self._functions:
            if each.changed():
                return False
        for cell, content in self._cells:
            try:
                if cell.cell_contents is not content:
                    return False
            except ValueError:
                return False
        for space, name, value in self._names:
            if space.get(name, _NOTHING) is not value:
                return False
        if self._modules_by_value != _cp._PICKLE_BY_VALUE_MODULES:
            return False
        if self._number_of_modules >= 0 and self._number_of_modules != len(sys.modules):
            return False
        return not self._references or self._same_references()

    def good_for_calls(self) -> bool:
        """Return whether a function that arrived can be called once more: whether nobody has changed it meanwhile."""
        if self.steady:
            for each in self._functions:
                if each.was_changed():
                    return False
        return not self._references or self._same_references()

    def _same_references(self) -> bool:
        modules = sys.modules
        for module, name, value in self._references:
            found: Any = modules.get(module)
            if name:
                for part in name.split("."):
                    found = getattr(found, part, None)
            if found is not value:
                return False
        return True


class _Function:
    """A function as it was."""

    __slots__ = (
        "_annotations",
        "_code",
        "_defaults",
        "_doc",
        "_function",
        "_kwdefaults",
        "_kwvalues",
        "_module",
        "_name",
        "_qualname",
    )

    def __init__(self, function: types.FunctionType) -> None:
        self._function = function
        self._code = function.__code__
        self._defaults = function.__defaults__
        self._kwdefaults = function.__kwdefaults__
        self._kwvalues = dict(self._kwdefaults or {})
        self._name = function.__name__
        self._qualname = function.__qualname__
        self._module = function.__module__
        self._doc = function.__doc__
        self._annotations = dict(function.__annotations__)

    def was_changed(self) -> bool:
        """Whether calls have left something in it."""
        now = self._function
        return (
            bool(now.__dict__)
            or now.__defaults__ is not self._defaults
            or now.__code__ is not self._code
            or now.__kwdefaults__ is not self._kwdefaults
        )

    def changed(self) -> bool:
        """Whether it is not what it was, with no attributes; this is on the hot path of each task."""
        now = self._function
        return (
            now.__code__ is not self._code
            or now.__defaults__ is not self._defaults
            or now.__kwdefaults__ is not self._kwdefaults
            or now.__name__ is not self._name
            or now.__qualname__ is not self._qualname
            or now.__module__ is not self._module
            or now.__doc__ is not self._doc
            or bool(now.__dict__)
            or bool(self._kwvalues and not _same_items(self._kwdefaults, self._kwvalues))
            or bool(self._annotations and not _same_items(now.__annotations__, self._annotations))
        )


def _same_items(one: Mapping[str, Any] | None, other: Mapping[str, Any]) -> bool:
    return (
        one is not None and list(one) == list(other) and all(map(is_, one.values(), other.values()))
    )
