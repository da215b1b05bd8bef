"""Run pages of the documentation: run every example in order, and compare its output with the page.

Usage: ``run_doc_page.py PAGE ...``, with a running default cluster; each page gets engines that have run nothing.
"""

from __future__ import annotations

import contextlib
import io
import linecache
import os
import sys
import traceback
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# Python looks for modules in this program's own directory first.
from doc_examples import Example, find_examples

from ipython1.kernel.client import Cluster

USUAL_DIRECTORY = "~/.ipython"
MOST_MISTAKES = 5
"""Stop after so many problems, as most of them follow from the first."""


class Session:
    """A user's session.

    The examples run in a module that replaces ``__main__``, so that functions and classes that they define are sent
    as a user's are.
    """

    def __init__(self, page: str) -> None:
        self.page = page
        self.module = types.ModuleType("__main__")
        sys.modules["__main__"] = self.module
        self._shell: Any = None

    def run(self, example: Example) -> tuple[str, BaseException | None]:
        """The output of the example, and the exception that it raises."""
        printed = io.StringIO()
        problem: BaseException | None = None
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            if example.language == "ipython":
                result = self.shell.run_cell(self.from_home(example.source))
                problem = result.error_before_exec or result.error_in_exec
            else:
                try:
                    self._run_plain(example)
                except (Exception, KeyboardInterrupt) as raised:
                    problem = raised
        return self.at_home(printed.getvalue()), problem

    @staticmethod
    def at_home(text: str) -> str:
        """The text as for a user whose IPython directory is the default one."""
        return text.replace(os.environ["IPYTHONDIR"], USUAL_DIRECTORY)

    @staticmethod
    def from_home(text: str) -> str:
        """The reverse of :meth:`at_home`."""
        return text.replace(USUAL_DIRECTORY, os.environ["IPYTHONDIR"])

    def _run_plain(self, example: Example) -> None:
        name = f"<{self.page}, line {example.line}>"
        # Let tools find the source code, as they do at a prompt.
        linecache.cache[name] = (
            len(example.source),
            None,
            example.source.splitlines(keepends=True),
            name,
        )
        mode = "exec" if example.language == "python" else "single"
        exec(compile(self.from_home(example.source), name, mode), vars(self.module))

    @property
    def shell(self) -> Any:
        """An IPython shell with the same variables."""
        if self._shell is None:
            from IPython.core.interactiveshell import InteractiveShell
            from traitlets.config import Config

            config = Config()
            config.HistoryManager.enabled = False
            config.InteractiveShell.colors = "nocolor"
            InteractiveShell.clear_instance()
            self._shell = InteractiveShell.instance(config=config, user_module=self.module)
        return self._shell


def described(example: Example, printed: str, problem: BaseException | None) -> str | None:
    """A description of what is wrong with an example, or None."""
    got = printed.rstrip()
    if problem is not None:
        name, message = type(problem).__name__, Session.at_home(str(problem))
        if example.matches_error(name, message):
            return None
        got += "\n" + "".join(traceback.format_exception(problem)).rstrip()
    elif example.matches(printed):
        return None
    return (
        f"line {example.line}:\n{example.source.rstrip()}\n"
        f"--- the page says\n{example.want or '(nothing)'}\n--- it shows\n{got or '(nothing)'}\n"
    )


def run(page: Path) -> bool:
    """Run a page; returns whether everything is as it says."""
    examples = find_examples(page.read_text(encoding="utf-8"))
    session = Session(page.name)
    wrong: list[str] = []
    for example in examples:
        problem = described(example, *session.run(example))
        if problem is not None:
            wrong.append(problem)
        if len(wrong) == MOST_MISTAKES:
            break
    for text in wrong:
        print(text)
    print(f"{page.name}: {len(wrong)} of {len(examples)} examples are not as the page says")
    return bool(examples) and not wrong


def renew_engines() -> None:
    """Start the engines again, each under its id."""
    cluster = Cluster.attach()
    with ThreadPoolExecutor() as threads:
        list(threads.map(cluster.restart_engine, cluster.ids))
    cluster.close()


def main() -> int:
    """Run the named pages in order; the exit status says whether everything is as they say."""
    good = []
    for number, name in enumerate(sys.argv[1:]):
        if number:
            renew_engines()
        good.append(run(Path(name)))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
