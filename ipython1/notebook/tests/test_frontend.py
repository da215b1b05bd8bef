"""The detected front end, and its progress bar."""

from __future__ import annotations

import io
import sys
import threading
import types
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.notebook import frontend, progress
from ipython1.notebook.frontend import FrontEnd


class Terminal:
    __module__ = "IPython.terminal.interactiveshell"
    execution_count = 7
    user_ns: dict[str, Any]


class Notebook(Terminal):
    __module__ = "ipykernel.zmqshell"
    kernel = object()


class OfAnEngine(Terminal):
    __module__ = "ipython1.core.shell"


class FrontEndTests(SynchronousTestCase):
    def sit_at(self, shell: Any, ps1: bool = False) -> None:
        """Make this process look as if it had this IPython shell, or none."""
        name = "IPython.core.interactiveshell"
        modules = dict(sys.modules)
        modules.pop(name, None)
        if shell is not None:
            cls = types.SimpleNamespace(initialized=lambda: shell is not False, _instance=shell)
            modules[name] = types.SimpleNamespace(InteractiveShell=cls)  # type: ignore[assignment]
        stand_in = types.SimpleNamespace(modules=modules, stderr=sys.stderr)
        if ps1:
            stand_in.ps1 = ">>> "
        self.patch(frontend, "sys", stand_in)

    def test_which(self) -> None:
        for shell, ps1, expected in (
            (Terminal(), True, FrontEnd.TERMINAL),
            (Notebook(), True, FrontEnd.NOTEBOOK),
            (OfAnEngine(), True, FrontEnd.NONE),
            (False, True, FrontEnd.NONE),
            (None, True, FrontEnd.PROMPT),
            (None, False, FrontEnd.NONE),
        ):
            self.sit_at(shell, ps1)
            self.assertIs(frontend.front_end(), expected)
            self.assertEqual(frontend.person_waits(), expected is not FrontEnd.NONE)

    def test_nobody_waits_for_other_threads(self) -> None:
        self.sit_at(Terminal())
        found: list[bool] = []
        thread = threading.Thread(target=lambda: found.append(frontend.person_waits()))
        thread.start()
        thread.join()
        self.assertEqual(found, [False])

    def test_moment_and_names(self) -> None:
        self.sit_at(None)
        self.assertIsNone(frontend.present_moment())
        self.assertEqual(frontend.name_of(self, "mec"), "mec")
        shell = Terminal()
        shell.user_ns = {"_": self, "cluster": self, "other": 1}
        self.sit_at(shell)
        self.assertEqual(frontend.present_moment(), 7)
        self.assertEqual(frontend.name_of(self, "mec"), "cluster")
        self.assertEqual(frontend.name_of(object(), "mec"), "mec")


class File(io.StringIO):
    def __init__(self, tty: bool) -> None:
        super().__init__()
        self.tty = tty

    def isatty(self) -> bool:
        return self.tty


class ProgressTests(SynchronousTestCase):
    def bar(self, where: FrontEnd, tty: bool) -> tuple[progress.Bar | None, File]:
        file = File(tty)
        self.patch(progress, "front_end", lambda: where)
        self.patch(progress, "sys", types.SimpleNamespace(stderr=file))
        return progress.make_bar("execute"), file

    def test_in_a_terminal(self) -> None:
        bar, file = self.bar(FrontEnd.TERMINAL, True)
        assert bar is not None
        bar.show(0, 0, 0.0)
        bar.show(1, 2, 10.06)
        bar.show(2, 2, 9.0)
        bar.close()
        lines = file.getvalue().split("\r")
        self.assertEqual(
            lines[2], "[" + "#" * 15 + "." * 15 + "] execute: 1 of 2 engines done, 10.1 s"
        )
        # A shorter line is padded to overwrite the longer one before it.
        self.assertEqual(lines[3], "[" + "#" * 30 + "] execute: 2 of 2 engines done, 9.0 s \n")

    def test_in_a_notebook(self) -> None:
        bar, file = self.bar(FrontEnd.NOTEBOOK, False)
        self.assertIsInstance(bar, progress.NotebookBar)
        self.assertEqual(file.getvalue(), "")

    def test_elsewhere(self) -> None:
        self.assertIsNone(self.bar(FrontEnd.NONE, False)[0])
        self.assertIsNone(self.bar(FrontEnd.TERMINAL, False)[0])
        self.assertIsInstance(self.bar(FrontEnd.NONE, True)[0], progress.TerminalBar)

    def test_one_engine(self) -> None:
        self.assertEqual(progress.describe("map", 1, 1, 0.5), "map: 1 of 1 engine done, 0.5 s")
