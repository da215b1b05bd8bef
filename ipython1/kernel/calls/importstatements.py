"""The import statements of a ``with`` block, read from its compiled code.

Compiled code is available wherever the block runs (in a file, a notebook, a plain prompt or ``exec``), and reading it
needs no changes to the import system.
"""

from __future__ import annotations

import dis
import importlib.util
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

from ipython1.kernel.basics.error import ClientError

_NOTHING: Final = frozenset({"NOP", "CACHE", "RESUME", "EXTENDED_ARG", "PRECALL", "NOT_TAKEN"})
_CONSTANTS: Final = frozenset({"LOAD_CONST", "LOAD_SMALL_INT"})


@dataclass(frozen=True, slots=True)
class ImportStatement:
    """An import of one module.

    :ivar module: its full name.
    :ivar names: pairs of a name in the module and the name it is bound to; None for ``import module``.
    :ivar alias: the name that the module is bound to; None for its own name.
    """

    module: str
    names: tuple[tuple[str, str], ...] | None = None
    alias: str | None = None

    def __str__(self) -> str:
        if self.names is None:
            return f"import {_renamed(self.module, self.alias)}"
        names = ", ".join(_renamed(name, alias) for name, alias in self.names)
        return f"from {self.module} import {names}"


def _renamed(name: str, alias: str | None) -> str:
    return name if alias is None or alias == name else f"{name} as {alias}"


class _NotAnImport(Exception):
    """The block contains something other than imports."""


class _Reader:
    """Reads instructions one by one."""

    def __init__(self, instructions: list[dis.Instruction], code: dis.Bytecode) -> None:
        self._rest = iter(instructions)
        self._handlers: Any = getattr(code, "exception_entries", ())
        self.now: dis.Instruction | None = next(self._rest, None)
        self._handler = self._handler_now()

    def _handler_now(self) -> int | None:
        """Return the offset of the handler for exceptions in the next instruction."""
        for entry in self._handlers:
            if self.now is not None and entry.start <= self.now.offset < entry.end:
                return int(entry.target)
        return None

    def _is(self, start: str) -> bool:
        return self.now is not None and self.now.opname.startswith(start)

    def take(self, start: str) -> Any:
        """Return the argument of the next instruction, and move on.

        :raises _NotAnImport: if its name does not begin with ``start``.
        """
        now = self.now
        if now is None or not now.opname.startswith(start):
            raise _NotAnImport
        self.now = next(self._rest, None)
        return now.argval

    def constant(self) -> Any:
        """Return the constant that the next instruction loads, and move on."""
        if self.now is None or self.now.opname not in _CONSTANTS:
            raise _NotAnImport
        return self.take("LOAD_")

    def statement(self) -> tuple[int, ImportStatement] | None:
        """Return the next import and its level; None at the end of the block."""
        level = self.constant()
        names = self.constant()
        if level is None and names is None:
            if self.constant() is not None:
                raise _NotAnImport
            return None
        if self._handler_now() != self._handler:
            # It is in a "try" of its own, whose handlers follow the block.
            raise _NotAnImport
        module = self.take("IMPORT_NAME")
        if names is None:
            return level, self._module(module)
        if names == ("*",):
            self.take("IMPORT_STAR" if self._is("IMPORT_STAR") else "CALL_INTRINSIC_1")
            if self._is("POP_TOP"):
                self.take("POP_TOP")
            return level, ImportStatement(module, (("*", "*"),))
        pairs = []
        while self._is("IMPORT_FROM"):
            pairs.append((self.take("IMPORT_FROM"), self.take("STORE_")))
        self.take("POP_TOP")
        return level, ImportStatement(module, tuple(pairs))

    def _module(self, module: str) -> ImportStatement:
        if self._is("STORE_"):
            alias = self.take("STORE_")
            return ImportStatement(module, None, None if alias == module.split(".")[0] else alias)
        # import a.b.c as d: imports b from a, and c from b.
        while self._is("IMPORT_FROM"):
            self.take("IMPORT_FROM")
            if self._is("SWAP"):
                self.take("SWAP")
                self.take("POP_TOP")
        alias = self.take("STORE_")
        self.take("POP_TOP")
        return ImportStatement(module, None, alias)


def imports_of_block(frame: FrameType) -> list[ImportStatement]:
    """Return the imports in the ``with`` block that ``frame`` is entering; relative ones with absolute names.

    :raises ClientError: if the block contains anything else.
    """
    code = dis.Bytecode(frame.f_code)
    instructions = [
        each for each in code if each.offset > frame.f_lasti and each.opname not in _NOTHING
    ]
    reader = _Reader(instructions, code)
    found: list[ImportStatement] = []
    try:
        # The name that "as" binds the block to.
        reader.take("POP_TOP" if reader._is("POP_TOP") else "STORE_")
        while (read := reader.statement()) is not None:
            level, statement = read
            found.append(_absolute(statement, level, frame) if level else statement)
    except _NotAnImport:
        raise ClientError(
            "a `with mec.sync_imports():` block may contain only import statements, and its `with` statement no other "
            "context manager; use mec.execute('...') for other code"
        ) from None
    if not found:
        raise ClientError("a `with mec.sync_imports():` block needs at least one import statement")
    return found


def _absolute(statement: ImportStatement, level: int, frame: FrameType) -> ImportStatement:
    package = frame.f_globals.get("__package__") or ""
    try:
        module = importlib.util.resolve_name("." * level + statement.module, package)
    except ImportError as problem:
        raise ClientError(f"{problem}: {statement}") from None
    return ImportStatement(module, statement.names, statement.alias)
