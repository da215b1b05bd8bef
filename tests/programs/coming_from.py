"""Run each row of the page for people who come from other tools: type what it says, and compare what that gives.

Usage: ``coming_from.py PAGE``, with a running default cluster of four engines.
"""

from __future__ import annotations

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
    r"     - ``(?P<here>.+?)``\n"
    r"     -(?: ``(?P<gives>.*?)``)?$",
    re.MULTILINE,
)
_BEGINNING = re.compile(r"^   \* - ", re.MULTILINE)
_PRELUDE = re.compile(r"^\.\. code-block:: python\n\n((?:    .*\n|\n)+)", re.MULTILINE)


class Row(NamedTuple):
    """What is typed with the other tool, what is typed here, and what that gives; empty for nothing."""

    theirs: str
    here: str
    gives: str


def read_page(text: str) -> tuple[str, list[Row]]:
    """Return what is typed before the rows, and these.

    :raises ValueError: if a row is not understood.
    """
    prelude = "\n".join(match[1] for match in _PRELUDE.finditer(text))
    rows = [
        Row(match["theirs"], match["here"], match["gives"] or "") for match in _ROW.finditer(text)
    ]
    headings = text.count("   * - ipyparallel\n")
    if len(_BEGINNING.findall(text)) != len(rows) + headings:
        raise ValueError("a row of a table has another form than the others")
    return "\n".join(line[4:] for line in prelude.splitlines()), rows


def run(source: str, namespace: dict[str, Any]) -> str:
    """Run statements, and return the ``repr`` of the last one if that is an expression that is not None."""
    *before, last = source.split("; ")
    name = f"<{source}>"
    lines = f"{source}\n"
    linecache.cache[name] = (len(lines), None, [lines], name)
    for statement in before:
        exec(compile(statement, name, "exec"), namespace)
    try:
        code = compile(last, name, "eval")
    except SyntaxError:
        exec(compile(last, name, "exec"), namespace)
        return ""
    value = eval(code, namespace)
    return "" if value is None else repr(value)


def main(page: str) -> None:
    """Run the rows, and say which of them are wrong."""
    prelude, rows = read_page(Path(page).read_text())
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
        Path("program.py").write_text("done = True\n")
        wrong = wrong_rows(prelude, rows, vars(module))
    print(*wrong, sep="\n")
    print(f"{len(rows)} rows, {len(wrong)} of them wrong")


def wrong_rows(prelude: str, rows: list[Row], namespace: dict[str, Any]) -> list[str]:
    """Run the rows, and return what is wrong with some of them."""
    wrong = []
    exec(prelude, namespace)
    for row in rows:
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                given = run(row.here, namespace)
            except Exception as problem:
                given = f"{type(problem).__name__}: {problem}"
        if given != ("" if row.gives == "None" else row.gives):
            wrong.append(f"{row.here}\n    gives {given}\n    not   {row.gives}")
    return wrong


if __name__ == "__main__":
    main(sys.argv[1])
