"""``with mec:`` and :func:`remote`: write code for the engines as code instead of strings.

    >>> with mec:
    ...     client.remote()
    ...     a = 10
    ...     b = a + 20

:func:`remote` finds the rest of the block's body in the source, passes it to the client, and leaves the block before
any of it runs here.  It uses the source that Python keeps for tracebacks, so it works wherever tracebacks show
source lines: at IPython's prompt, in notebooks and in files.
"""

from __future__ import annotations

import ast
import linecache
import sys
import threading
import warnings
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

from ipython1.kernel.basics.error import ClientError, StopLocalExecution

_HOW = "write client.remote() as the first statement of a `with mec:` block"


class BlockRunner(Protocol):
    """A client that can run the source of a block."""

    def execute(self, lines: str) -> Any: ...


class _LeaveBlock(StopLocalExecution):
    """Leaves ``block``; ``source`` is the code for the engines."""

    def __init__(self, block: RemoteBlock, source: str) -> None:
        super().__init__("leaving a `with` block whose body runs on the engines")
        self.block = block
        self.source = source


@dataclass(frozen=True, slots=True)
class Span:
    """A range of source: lines count from 1, columns in bytes; columns are None where Python does not know them."""

    line: int
    end_line: int
    column: int | None
    end_column: int | None

    def covers(self, node: ast.expr | ast.stmt) -> bool:
        """Return whether this is exactly the range of ``node``."""
        mine = (self.line, self.column, self.end_line, self.end_column)
        return mine == (node.lineno, node.col_offset, node.end_lineno, node.end_col_offset)

    def is_inside(self, node: ast.stmt) -> bool:
        """Return whether this is within ``node``."""
        end_line = node.end_lineno or node.lineno
        if self.column is None or self.end_column is None or node.end_col_offset is None:
            return node.lineno <= self.line <= end_line
        return (node.lineno, node.col_offset) <= (self.line, self.column) and (
            self.end_line,
            self.end_column,
        ) <= (end_line, node.end_col_offset)


def _span_of(frame: FrameType) -> Span:
    """Return the range of source that ``frame`` is running."""
    for index, (line, end_line, column, end_column) in enumerate(frame.f_code.co_positions()):
        if index == frame.f_lasti // 2 and line is not None:
            return Span(line, end_line or line, column, end_column)
    return Span(frame.f_lineno, frame.f_lineno, None, None)


class RemoteBlock:
    """A ``with`` block, bound by ``with mec as block:``.

    :ivar source: the code that was sent to the engines; None if the body ran here.
    :ivar result: the result of ``execute`` for it: a ``ResultList``, or a ``PendingResult`` if the client has
        ``block=False``.
    """

    def __init__(self, client: BlockRunner, frame: FrameType) -> None:
        self._client = client
        self._frame: FrameType | None = frame
        self._span = _span_of(frame)
        self._holds_another = False
        self.source: str | None = None
        self.result: Any = None

    def __repr__(self) -> str:
        if self.source is None:
            return "<RemoteBlock: nothing was sent to the engines>"
        return f"<RemoteBlock of {len(self.source.splitlines())} lines: result={self.result!r}>"

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"a block has no attribute {name!r}, only 'result' and 'source'; use the client for anything else"
        )

    def leave(self, signal: BaseException | None) -> bool:
        """Handle the end of the block: run its body on the engines if :func:`remote` was called.

        :returns: whether to suppress ``signal``.
        """
        self._frame = None
        if isinstance(signal, _LeaveBlock) and signal.block is self:
            self.source = signal.source
            try:
                self.result = self._client.execute(signal.source)
            except BaseException as problem:
                # The exception that left the block does not help to understand the error.
                problem.__suppress_context__ = True
                raise
            return True
        if signal is None and not self._holds_another:
            warnings.warn(
                f"the body of this `with` block ran here, not on the engines; {_HOW}", stacklevel=3
            )
        return False


class _Blocks(threading.local):
    """The blocks that this thread has entered."""

    def __init__(self) -> None:
        self.entered: list[RemoteBlock] = []


_blocks = _Blocks()


class RemoteContext:
    """Makes a client usable in ``with`` statements."""

    def __enter__(self: BlockRunner) -> RemoteBlock:
        block = RemoteBlock(self, sys._getframe(1))
        _blocks.entered.append(block)
        return block

    def __exit__(self, kind: Any, signal: BaseException | None, traceback: Any) -> bool:
        frame = sys._getframe(1)
        client: object = self
        mine = [block for block in _blocks.entered if block._client is client]
        # Interleaved coroutines may leave blocks in another order than they entered them.
        block = next((block for block in reversed(mine) if block._frame is frame), mine[-1])
        _blocks.entered.remove(block)
        return block.leave(signal)


def remote() -> None:
    """Run the rest of the enclosing ``with mec:`` block on the engines instead of here.

    :raises ClientError: outside such a block, in a statement nested in its body, or if Python has no source for it.
    """
    frame = sys._getframe(1)
    here = [block for block in _blocks.entered if block._frame is frame]
    if not here:
        raise ClientError(f"client.remote() was called outside of a client's block; {_HOW}")
    *outer, block = here
    for each in outer:
        each._holds_another = True
    raise _LeaveBlock(block, rest_of_block(frame, block._span, [each._span for each in outer]))


def rest_of_block(frame: FrameType, with_span: Span, outer: list[Span]) -> str:
    """Return the rest of a ``with`` block, dedented, after the statement that ``frame`` is running.

    :param with_span: where the block was entered.
    :param outer: where the enclosing blocks were entered.
    :raises ClientError: if it cannot be found, or the statement is not directly in the block.
    """
    lines, tree = _source(frame)
    node = _find_with(tree, with_span)
    if node is None:
        raise _no_source(frame, "the file was changed after it was loaded")
    if any(_find_with(tree, span) is node for span in outer):
        raise ClientError(
            "a `with` statement can have only one client; nest two statements, or use targets"
        )
    call = _span_of(frame)
    index = next((i for i, each in enumerate(node.body) if call.is_inside(each)), None)
    if index is None or not isinstance(node.body[index], ast.Expr):
        raise ClientError(
            f"client.remote() must be a statement directly in the body of the block; {_HOW}"
        )
    if index + 1 == len(node.body):
        raise ClientError("client.remote() is not followed by statements to run on the engines")
    return _cut_out(lines, node, index)


def _source(frame: FrameType) -> tuple[list[str], ast.Module]:
    """Return the source of the whole file or cell, as Python's tracebacks would show it, and its syntax tree."""
    lines = linecache.getlines(frame.f_code.co_filename, frame.f_globals)
    if not lines:
        raise _no_source(frame, "Python keeps no source for code from -c, exec() or its own prompt")
    try:
        return lines, ast.parse("".join(lines))
    except (SyntaxError, ValueError) as problem:
        raise _no_source(frame, f"it cannot be parsed: {problem}") from None


def _no_source(frame: FrameType, why: str) -> ClientError:
    return ClientError(
        f"the source of this `with` block ({frame.f_code.co_filename}, line {frame.f_lineno}) cannot be found: {why}. "
        "Use mec.execute('...') with the code as a string here"
    )


def _find_with(tree: ast.Module, span: Span) -> ast.With | None:
    """Return the ``with`` statement that was entered at ``span``."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.With)]
    for node in nodes:
        # Python 3.11 and 3.12 report the whole statement, later versions the expression of the client.
        if span.covers(node) or any(span.covers(item.context_expr) for item in node.items):
            return node
    if span.column is not None:
        return None
    heads = [node for node in nodes if node.lineno <= span.line <= node.body[0].lineno]
    return max(heads, key=lambda node: node.lineno, default=None)


def _cut_out(lines: list[str], node: ast.With, index: int) -> str:
    """Return the statements of ``node`` after the one at ``index``, with their comments, dedented."""
    done, rest = node.body[index], node.body[index + 1 :]
    start, end = done.end_lineno or 0, rest[-1].end_lineno or 0
    indent = node.body[0].col_offset if node.body[0].lineno > node.lineno else 0
    inside = _lines_inside_strings(rest)
    cut = [
        lines[number - 1] if number in inside else _dedent(lines[number - 1], indent)
        for number in range(start + 1, end + 1)
    ]
    if rest[0].lineno == start:
        # It follows a semicolon on the same line.  Columns count bytes.
        cut.insert(0, lines[start - 1].encode()[rest[0].col_offset :].decode())
    return "".join(cut).strip("\n").rstrip()


def _lines_inside_strings(statements: list[ast.stmt]) -> set[int]:
    """Return the numbers of lines that begin inside a string, where every space counts."""
    inside: set[int] = set()
    for statement in statements:
        for node in ast.walk(statement):
            if isinstance(node, (ast.Constant, ast.JoinedStr)) and node.end_lineno is not None:
                inside.update(range(node.lineno + 1, node.end_lineno + 1))
    return inside


def _dedent(line: str, indent: int) -> str:
    blank = len(line) - len(line.lstrip(" \t\f"))
    return line[min(indent, blank) :]
