"""Decides how source text is run: compiled here if it is plain Python, else by IPython.

Plain Python is code that parses and compiles, has no top-level ``await``, and cannot be meant as a magic.  The
decision costs nothing beyond the compilation, which is needed anyway.
"""

from __future__ import annotations
import __future__ as future

import ast
import builtins
import inspect
import keyword
import re
from collections import OrderedDict
from functools import reduce
from operator import or_
from types import CodeType
from typing import Final, NamedTuple

from IPython.core.autocall import IPyAutocall
from IPython.core.macro import Macro

from ipython1.core.shell import EngineShell
from ipython1.core.sources import SourceRegister
from ipython1.core.tracebacks import TASK_PREFIX
from ipython1.core.traits import trait_values

_KEPT_TASKS: Final = 1024
_LARGEST_KEPT_TASK: Final = 64 << 10
_ASYNC_FLAGS: Final = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_FUTURES: Final = reduce(
    or_, (getattr(future, name).compiler_flag for name in future.all_feature_names)
)
_TOP_LEVEL_AWAIT: Final = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_FOR_IPYTHON: Final = (
    SyntaxError,
    ValueError,
    OverflowError,
    MemoryError,
    RecursionError,
    TypeError,
)
"""Exceptions of parsing and compiling that make IPython handle the source."""

_IPYTHON_STARTS: Final = ("%", "!", "?", "In [")
_FIRST_WORD: Final = re.compile(r"""\s*([^\W\d]\w*+)\s*+(?![=(.\[,:;+*/%^&|<>!)\w"'])""")
"""The first word of a possible magic, like ``ls`` or ``ls -l``: not followed by anything that only Python has."""

_ASSIGNMENT: Final = re.compile(r"[^\W\d]\w*+[ \t]*+=(?!=)[^\r\n;]*+\Z")
"""A single assignment to a name: no expression whose value is shown, so it need not be taken apart to be compiled."""


_SETTINGS: Final = (
    *("ast_transformers", "input_transformers_post", "input_transformer_manager"),
    *("autocall", "ast_node_interactivity"),
)


class Plan(NamedTuple):
    """A plain Python command: its statements, and its last expression, whose value is shown."""

    statements: CodeType | None
    expression: CodeType | None


class Planner:
    """Compiles commands and tasks for a shell.

    :ivar logging: whether IPython logs commands (``%logstart``), so that all commands must go through it.
    """

    def __init__(self, shell: EngineShell) -> None:
        self._shell = shell
        self._traits = trait_values(shell, _SETTINGS)
        self._compiler = shell.compile
        self._sources: SourceRegister = shell.compile.register
        self.task_sources: SourceRegister = SourceRegister(TASK_PREFIX, _KEPT_TASKS)
        self._tasks: OrderedDict[str, CodeType] = OrderedDict()
        self._usual_transforms = self._count_transforms()
        self.logging: bool = False

    def command(self, source: str, number: int) -> Plan | None:
        """Compile a command; return None if IPython should run it.

        :raises SyntaxError: if the source is not valid Unicode.
        """
        if not self._is_usual() or self._may_be_magic(source):
            return None
        flags = self._compiler.flags & _FUTURES | _TOP_LEVEL_AWAIT
        name = self._sources.add(source, number)
        statements = expression = None
        try:
            if _ASSIGNMENT.match(source):
                statements = compile(source, name, "exec", flags, True)
            else:
                statements, expression = _compile_in_two(source, name, flags)
        except UnicodeEncodeError:
            raise _not_unicode(name) from None
        except _FOR_IPYTHON:
            self._sources.drop(name)
            return None
        for code in (statements, expression):
            if code is not None and code.co_flags & _ASYNC_FLAGS:
                self._sources.drop(name)
                return None
        if statements is not None:
            futures = statements.co_flags & _FUTURES
            if futures & ~self._compiler.flags:
                self._compiler.flags |= futures  # for later commands, too, as at IPython's prompt
                self._tasks.clear()
        return Plan(statements, expression)

    def task(self, source: str) -> CodeType | None:
        """Compile a task, once per text; return None if IPython should run it.

        :raises SyntaxError: if the source is not valid Unicode.
        """
        code = self._tasks.get(source)
        if code is not None:
            return code
        if self._may_be_magic(source):
            return None
        name = self.task_sources.add(source, 0)
        try:
            flags = self._compiler.flags & _FUTURES | _TOP_LEVEL_AWAIT
            code = compile(source, name, "exec", flags, True)
        except UnicodeEncodeError:
            raise _not_unicode(name) from None
        except _FOR_IPYTHON:
            code = None
        if code is None or code.co_flags & _ASYNC_FLAGS:
            self.task_sources.drop(name)
            return None
        if len(source) <= _LARGEST_KEPT_TASK:
            self._tasks[source] = code
            if len(self._tasks) > _KEPT_TASKS:
                self._tasks.popitem(last=False)
        return code

    def forget_tasks(self) -> None:
        """Drop the compiled code of tasks."""
        self._tasks.clear()

    def close(self) -> None:
        """Drop all source text."""
        self._tasks.clear()
        self._sources.clear()
        self.task_sources.clear()

    def _count_transforms(self) -> int:
        manager = self._traits["input_transformer_manager"]
        return (
            len(manager.cleanup_transforms)
            + len(manager.line_transforms)
            + len(manager.token_transformers)
        )

    def _is_usual(self) -> bool:
        """Return whether the user has not changed how cells run, so that compiling them is equivalent to IPython."""
        shell, traits = self._shell, self._traits
        callbacks = shell.events.callbacks
        return not (
            traits["ast_transformers"]
            or traits["input_transformers_post"]
            or shell.custom_exceptions
            or callbacks["pre_run_cell"]
            or callbacks["post_run_cell"]
            or self.logging
            or self._count_transforms() != self._usual_transforms
            or traits["autocall"]
            or traits["ast_node_interactivity"] != "last_expr"
        )

    def _may_be_magic(self, source: str) -> bool:
        """Return whether text that may be valid Python is meant for IPython.

        This is the case if it starts like IPython's own syntax, or is a single line whose first word is not a defined
        name, or is the name of an autocall object.
        """
        if source.lstrip().startswith(_IPYTHON_STARTS):
            return True
        match = _FIRST_WORD.match(source)
        if match is None or "\n" in source.strip():
            return False
        word = match[1]
        namespace = self._shell.user_ns
        if word in namespace:
            return isinstance(namespace[word], (IPyAutocall, Macro))
        return not (word in builtins.__dict__ or keyword.iskeyword(word))


def _compile_in_two(source: str, name: str, flags: int) -> Plan:
    """Compile the statements, and the expression at the end if there is one."""
    statements = expression = None
    tree = compile(source, name, "exec", flags | ast.PyCF_ONLY_AST, True)
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr):
        tree.body.pop()
        expression = compile(ast.Expression(last.value), name, "eval", flags, True)
    if tree.body:
        statements = compile(tree, name, "exec", flags, True)
    return Plan(statements, expression)


def _not_unicode(name: str) -> SyntaxError:
    return SyntaxError(
        "the source contains characters that UTF-8 cannot encode", (name, 1, None, None)
    )
