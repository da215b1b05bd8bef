"""The detected front end, and what it shows of progress."""

from __future__ import annotations

import io
import os
import sys
import threading
import types
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.core.terminaltext import rendered
from ipython1.notebook import frontend, livearea, progress
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


class AreaTests(SynchronousTestCase):
    """Lines that change: where they are shown, and that nothing is left of them."""

    def setUp(self) -> None:
        self.patch(os, "environ", {**os.environ, "TERM": "xterm", "COLUMNS": "40", "LINES": "8"})

    def opened(self, where: FrontEnd, tty: bool) -> tuple[livearea.Area | None, File]:
        file = File(tty)
        self.patch(livearea, "front_end", lambda: where)
        self.patch(livearea, "sys", types.SimpleNamespace(stderr=file))
        return livearea.open_area(), file

    def test_in_a_terminal(self) -> None:
        area, file = self.opened(FrontEnd.TERMINAL, True)
        assert area is not None
        file.write("before\n")
        area.show(["one", "two", "three"])
        self.assertEqual(rendered(file.getvalue()), "before\none\ntwo\nthree")
        area.show(["1", "\x1b[31m22\x1b[0m"])
        self.assertEqual(rendered(file.getvalue()).rstrip("\n"), "before\n1\n22")
        area.wipe()
        file.write("between\n")
        area.show(["x" * 100, *map(str, range(20))])
        lines = rendered(file.getvalue()).split("\n")
        self.assertEqual(lines[:2], ["before", "between"])
        self.assertEqual((len(lines[2]), lines[2][-1]), (39, "\u2026"))
        self.assertEqual(lines[7], "... and 16 more lines")
        area.close()
        self.assertEqual(rendered(file.getvalue()).rstrip("\n"), "before\nbetween")

    def test_what_is_to_stay(self) -> None:
        area, file = self.opened(FrontEnd.TERMINAL, True)
        assert area is not None
        area.show(["one", "two"])
        area.close(keep=True)
        self.assertEqual(rendered(file.getvalue()), "one\ntwo\n")

    def test_nothing_is_written_again_that_is_there(self) -> None:
        area, file = self.opened(FrontEnd.TERMINAL, True)
        assert area is not None
        area.show(["one"])
        size = len(file.getvalue())
        area.show(["one"])
        self.assertEqual(len(file.getvalue()), size)

    def test_a_terminal_that_cannot_move_its_cursor(self) -> None:
        os.environ["TERM"] = "dumb"
        area, file = self.opened(FrontEnd.NONE, True)
        assert area is not None
        area.show(["first, long", "second"])
        area.show(["first", "second"])
        area.close()
        self.assertEqual(file.getvalue(), "\rfirst, long\rfirst      \r     \r")

    def test_in_a_notebook(self) -> None:
        area, file = self.opened(FrontEnd.NOTEBOOK, False)
        self.assertIsInstance(area, livearea.NotebookArea)
        self.assertEqual(file.getvalue(), "")

    def test_elsewhere(self) -> None:
        self.assertIsNone(self.opened(FrontEnd.NONE, False)[0])
        self.assertIsNone(self.opened(FrontEnd.TERMINAL, False)[0])
        self.assertIsInstance(self.opened(FrontEnd.NONE, True)[0], livearea.TerminalArea)


class ProgressTests(SynchronousTestCase):
    def test_lines(self) -> None:
        self.assertEqual(progress.describe("map", 1, 1, 0.5), "map: 1 of 1 engine done, 0.5 s")
        line = progress.meter("map", 50, 100, 10.0, "item", 3)
        self.assertEqual(
            line, f"map:  50%|{'█' * 10}{' ' * 10}| 50/100 items [00:10<00:10, 5/s, 3 failed]"
        )
        self.assertEqual(
            progress.meter("execute", 4, 4, 2.0, "engine"),
            f"execute: 100%|{'█' * 20}| 4/4 engines [00:02<00:00]",
        )
        self.assertEqual(
            progress.meter("map", 50, 100, 10.0, "item", 3, width=40),
            "map: 50 of 100 items done, 10.0 s",
        )
        self.assertIn("0/5 items", progress.meter("map", 0, 5, 0.0, "item"))
        line = progress.meter("joblib", 30, 0, 10.0, "call")
        self.assertEqual(line, "joblib: 30 calls, 10 s, 3/s")
