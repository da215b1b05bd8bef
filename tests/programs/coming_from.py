"""Run the rows of pages for people who come from other tools: type what they say, and compare what that gives.

Usage: ``coming_from.py PAGE ...``, with a running default cluster of four engines.

A row has two cells: what is typed with the other tool, and what is typed here; below the latter, in a line block, what
that gives, if it gives anything. Commands for a shell are rows, too; they are not run here.
"""

from __future__ import annotations

import ast
import contextlib
import io
import linecache
import re
import sys
import tempfile
import types
from pathlib import Path
from typing import Any, NamedTuple

_ROW = re.compile(
    r"^   \* - (?P<theirs>\S.*(?:\n       .*)*)\n"
    r"     - (?:``(?P<plain>[^`].*?)``|\| ``(?P<here>[^`].*?)``\n       \| → ``(?P<gives>.*?)``)$",
    re.MULTILINE,
)
_BEGINNING = re.compile(r"^   \* - ", re.MULTILINE)
_HEADING = re.compile(r"^   :header-rows: 1$", re.MULTILINE)
_PRELUDE = re.compile(r"^\.\. code-block:: python\n\n((?:    .*\n|\n)+)", re.MULTILINE)

COMMANDS = ("ipcluster", "ipcontroller", "ipengine", "mpirun", "mpiexec", "python")


class Row(NamedTuple):
    """What is typed with the other tool, what is typed here, and what that gives; empty for nothing."""

    theirs: str
    here: str
    gives: str

    @property
    def is_command(self) -> bool:
        """Whether it is typed in a shell."""
        return self.here.split()[0] in COMMANDS


def read_page(text: str) -> tuple[str, list[Row]]:
    """Return what is typed before the rows, and these.

    :raises ValueError: if a row is not understood.
    """
    prelude = "\n".join(match[1] for match in _PRELUDE.finditer(text))
    rows = [
        Row(match["theirs"], match["plain"] or match["here"], match["gives"] or "")
        for match in _ROW.finditer(text)
    ]
    if len(_BEGINNING.findall(text)) != len(rows) + len(_HEADING.findall(text)):
        raise ValueError("a row of a table has another form than the others")
    return "\n".join(line[4:] for line in prelude.splitlines()), rows


class Session:
    """A user's session, in a module that replaces ``__main__``."""

    def __init__(self) -> None:
        self.module = types.ModuleType("__main__")
        sys.modules["__main__"] = self.module
        self._shell: Any = None

    @property
    def namespace(self) -> dict[str, Any]:
        return vars(self.module)

    def run(self, source: str) -> str:
        """Run statements, and return the ``repr`` of the last one if that is an expression that is not None."""
        if source.startswith("%") or "activate()" in source:
            self._run_in_ipython(source)
            return ""
        name, line = f"<{source}>", f"{source}\n"
        linecache.cache[name] = (len(line), None, [line], name)
        statements = ast.parse(source).body
        last = statements.pop() if isinstance(statements[-1], ast.Expr) else None
        exec(compile(ast.Module(statements, []), name, "exec"), self.namespace)
        if last is None:
            return ""
        value = eval(compile(ast.Expression(last.value), name, "eval"), self.namespace)
        return "" if value is None else repr(value)

    def _run_in_ipython(self, source: str) -> None:
        if self._shell is None:
            from IPython.core.interactiveshell import InteractiveShell
            from traitlets.config import Config

            config = Config()
            config.HistoryManager.enabled = False
            InteractiveShell.clear_instance()
            self._shell = InteractiveShell.instance(config=config, user_module=self.module)
        self._shell.run_cell(source).raise_error()


def wrong_rows(page: Path) -> tuple[int, list[str]]:
    """Run the rows of a page; return their number, and what is wrong with some of them."""
    prelude, rows = read_page(page.read_text(encoding="utf-8"))
    session = Session()
    session.run("from ipython1.kernel import client; client.MultiEngineClient().reset()")
    session.namespace.clear()
    session.namespace["__name__"] = "__main__"
    exec(prelude, session.namespace)
    wrong = []
    for row in rows:
        if row.is_command:
            continue
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                given = session.run(row.here)
            except Exception as problem:
                given = f"{type(problem).__name__}: {problem}"
        if given != row.gives:
            wrong.append(f"{page.name}: {row.here}\n    gives {given}\n    not   {row.gives}")
    return len(rows), wrong


def main(*pages: str) -> None:
    """Run the rows of the pages, and say which of them are wrong."""
    paths = [Path(page).resolve() for page in pages]
    with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
        Path("program.py").write_text("done = True\n")
        for path in paths:
            rows, wrong = wrong_rows(path)
            print(*wrong, sep="\n")
            print(f"{path.name}: {rows} rows, {len(wrong)} of them wrong", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
