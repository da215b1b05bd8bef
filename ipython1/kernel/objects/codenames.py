"""What a function's code does with names, including the code of functions and classes in it."""

from __future__ import annotations

import dis
import functools
import re
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any, Final

_READS: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_WRITES: Final = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})
_CELL_WRITES: Final = frozenset({"STORE_DEREF", "DELETE_DEREF"})
_BY_TEXT: Final = frozenset({"eval", "exec", "compile", "globals"})
"""Functions that find names which are given as text."""

_WORD: Final = re.compile(r"[^\W\d]\w*")
_NOT_GLOBAL: Final = frozenset({"__builtins__", "__name__"})
"""The same wherever a function runs, or of the process where it does."""


class CodeNames:
    """The names in a code object.

    :ivar used: the names that it reads, writes or deletes, and that may be global.
    :ivar by_text: whether it may look up names by their text, as ``eval`` does.
    :ivar words: in that case, the words in its text constants.
    :ivar sets: the global names that it sets, and never deletes.
    :ivar writes_globals: whether it sets or deletes global names.
    :ivar writes_cells: the variables of enclosing functions that it sets or deletes.
    """

    __slots__ = ("by_text", "sets", "used", "words", "writes_cells", "writes_globals")

    def __init__(self, code: CodeType) -> None:
        used: dict[str, None] = {}
        texts: list[str] = []
        sets: set[str] = set()
        deletes: set[str] = set()
        cells: set[str] = set()
        for each in _nested(code):
            texts += [text for text in each.co_consts if isinstance(text, str)]
            for instruction in dis.get_instructions(each):
                name = instruction.opname
                if name in _READS:
                    used[instruction.argval] = None
                elif name in _WRITES:
                    used[instruction.argval] = None
                    (sets if name == "STORE_GLOBAL" else deletes).add(instruction.argval)
                elif name in _CELL_WRITES and instruction.argval in code.co_freevars:
                    cells.add(instruction.argval)
        self.used: tuple[str, ...] = tuple(name for name in used if name not in _NOT_GLOBAL)
        self.sets: frozenset[str] = frozenset(sets - deletes)
        self.writes_globals: bool = bool(sets or deletes)
        self.writes_cells: frozenset[str] = frozenset(cells)
        self.words: tuple[str, ...] = ()
        self.by_text: bool = not _BY_TEXT.isdisjoint(used)
        if self.by_text:
            self.words = tuple(
                dict.fromkeys(word for text in texts for word in _WORD.findall(text))
            )


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


@functools.lru_cache(maxsize=4096)
def names_in(code: CodeType) -> CodeNames:
    """The names in ``code``.  Equal code is examined only once, however often it arrives."""
    return CodeNames(code)


def words_of(function: FunctionType) -> tuple[str, ...]:
    """The words that may be global names: in text that its code may evaluate, and in annotations that are text."""
    words = names_in(function.__code__).words
    for annotation in function.__annotations__.values():
        if isinstance(annotation, str):
            words += tuple(_WORD.findall(annotation))
    return words


def globals_of(function: FunctionType) -> dict[str, Any]:
    """The global names that a function refers to and that are defined, with their values."""
    namespace = function.__globals__
    used = names_in(function.__code__).used
    found = {name: namespace[name] for name in used if name in namespace}
    for word in words_of(function):
        if word in namespace and not word.startswith("__"):
            found[word] = namespace[word]
    return found
