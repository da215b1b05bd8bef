"""The debugger of engines: where it stops, what it shows, and where it must not wait."""

from __future__ import annotations

import os
import pdb  # noqa: T100
import sys
import threading
from collections.abc import Sequence

from twisted.trial import unittest

from ipython1.core.debugger import EngineDebugger, NoDebugger
from ipython1.core.interpreter import Interpreter

AT_ITSELF = sys.version_info >= (3, 13)
"""Whether a breakpoint stops at its own line, and no longer at the next one."""


class _Typist:
    """Somebody who answers prompts with lines, and notes what was shown."""

    def __init__(self, debugger: EngineDebugger, lines: Sequence[str]) -> None:
        self.shown: list[str] = []
        self._desk = debugger.desk
        self._lines = list(lines)
        self._desk.changed = self._changed

    def _changed(self) -> None:
        self.shown.append(self._desk.shown)
        if self._desk.waits:
            line = self._lines.pop(0) if self._lines else ""
            # As it comes in another thread, perhaps before the main thread begins to wait.
            thread = threading.Thread(target=self._desk.put, args=(line,))
            thread.start()
            thread.join()


class DebuggerTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        hook, set_trace = sys.breakpointhook, pdb.set_trace
        self.addCleanup(setattr, sys, "breakpointhook", hook)
        self.addCleanup(setattr, pdb, "set_trace", set_trace)
        self.interpreter = Interpreter()
        self.addCleanup(self.interpreter.close)
        self.attended = True
        capture = self.interpreter._capture
        self.debugger = EngineDebugger(capture, lambda: self.attended)  # type: ignore[arg-type]
        self.debugger.install(self.interpreter.shell)

    def session(self, source: str, *lines: str) -> list[str]:
        """Run a command; returns what was shown at the prompts that ``lines`` answer, and at the end."""
        typist = _Typist(self.debugger, [f"{line}\n" for line in lines])
        try:
            self.result = self.interpreter.execute(source)
        finally:
            self.debugger.command_ended()
        self.assertIsNone(sys.gettrace())
        return typist.shown

    def test_a_breakpoint_shows_and_changes_variables(self) -> None:
        shown = self.session("a = 3\nbreakpoint()\nprint(a)\na", "p a", "!a = a + 1", "c")
        self.assertIn("---> 2 breakpoint()" if AT_ITSELF else "---> 3 print(a)", shown[0])
        self.assertTrue(shown[0].endswith("ipdb> "))
        self.assertEqual(shown[1], "3\nipdb> ")
        self.assertEqual(self.result.stdout, "4\n")
        self.assertIn("this engine waits at a breakpoint: ", self.result.stderr)

    def test_each_stop_of_a_command_goes_to_who_answered_the_last_one(self) -> None:
        """What the code prints is shown before the place where it stops next; stepping passes a breakpoint."""
        source = "for i in range(2):\n    breakpoint()\n    print('i is', i)"
        shown = self.session(source, "c", "n", "n", "n", "c")
        stop = "---> 2" if AT_ITSELF else "---> 3"
        self.assertLess(shown[1].index("i is 0"), shown[1].index(stop))
        self.assertEqual(self.result.stdout, "i is 0\ni is 1\n")
        for text in shown:
            self.assertNotIn("bdb.py", text)

    def test_stepping_ends_with_the_command(self) -> None:
        shown = self.session("pdb = __import__('pdb')\npdb.set_trace()\nb = 2", "n", "n", "n", "n")
        self.assertEqual(self.result.failure, None)
        self.assertFalse(self.debugger.desk.is_open)
        self.assertNotIn("interpreter.py", "".join(shown))
        self.assertNotIn("__return__", self.interpreter.user_ns)
        self.assertEqual(self.session("b"), [])
        self.assertEqual(self.result.result, {"text/plain": "2"})

    def test_stepping_goes_on_after_await(self) -> None:
        source = (
            "import asyncio\nasync def wait():\n    breakpoint()\n    await asyncio.sleep(0.01)\n    z = 5\n"
            "    return z\nz = await wait()"
        )
        shown = self.session(source, *["n"] * AT_ITSELF, "n", "n", "p z", "c")[AT_ITSELF:]
        self.assertIn("----> 5     z = 5", shown[1])
        self.assertIn("----> 6     return z", shown[2])
        self.assertEqual(shown[3], "5\nipdb> ")
        self.assertEqual(self.interpreter.user_ns["z"], 5)
        self.session(source, "n", *["n"] * 20)

    def test_frames_of_functions_can_be_walked_and_those_of_the_engine_are_hidden(self) -> None:
        source = "def f(x):\n    y = 2 * x\n    breakpoint()\n    return y\nf(7)"
        shown = self.session(source, "p y", "up", "w", "c")
        self.assertEqual(shown[1], "14\nipdb> ")
        self.assertIn("----> 5 f(7)", shown[2])
        self.assertIn("f()", shown[3])
        self.assertNotIn("ipython1", shown[3])

    def test_quitting_ends_the_command(self) -> None:
        self.session("breakpoint()\ndone = 1", "q")
        assert self.result.failure is not None
        self.assertEqual(self.result.failure.ename, "BdbQuit")
        self.assertNotIn("done", self.interpreter.user_ns)

    def test_an_interrupt_ends_the_command_and_not_only_the_line(self) -> None:
        def interrupt() -> None:
            if self.debugger.desk.waits:
                raise KeyboardInterrupt

        self.debugger.desk.changed = interrupt
        result = self.interpreter.execute("breakpoint()\nlate = 1")
        self.debugger.command_ended()
        assert result.failure is not None
        self.assertEqual(result.failure.ename, "KeyboardInterrupt")
        self.assertFalse(self.debugger.desk.waits)

    def test_the_last_exception_can_be_looked_at(self) -> None:
        self.interpreter.execute("def f(x):\n    return 1 / x\nf(0)")
        typist = _Typist(self.debugger, ["p x\n", "q\n"])
        self.debugger.post_mortem()
        self.debugger.command_ended()
        self.assertIn("----> 2     return 1 / x", typist.shown[0])
        self.assertEqual(typist.shown[1], "0\nipdb> ")

    def test_so_can_that_of_a_call_but_not_that_of_a_task(self) -> None:
        self.interpreter.call(lambda value: value.nothing, ("text",), remember=True)
        self.assertEqual(self.debugger.last_error(), "AttributeError")
        self.interpreter.call(lambda value: 1 // 0, ("text",))
        self.assertEqual(self.debugger.last_error(), "AttributeError")

    def test_the_magic_of_ipython_works(self) -> None:
        self.interpreter.execute("value = 5\n{}['key']")
        shown = self.session("%debug", "p value", "q")
        self.assertEqual(shown[1], "5\nipdb> ")
        self.assertIn("waits at the end of KeyError", self.result.stderr)

    def test_it_never_waits_where_nobody_could_answer(self) -> None:
        self.attended = False
        self.session("breakpoint()")
        self.assertEqual(self.result.failure.ename, "NoDebugger")
        self.interpreter.execute("1/0")
        self.session("%debug")
        self.assertEqual(self.result.failure.ename, "NoDebugger")
        self.assertRaises(NoDebugger, self.debugger.post_mortem)

    def test_it_works_in_the_main_thread_only(self) -> None:
        source = (
            "import threading\nfound = []\n"
            "def work():\n    try:\n        breakpoint()\n    except RuntimeError as error:\n"
            "        found.append(error)\n"
            "thread = threading.Thread(target=work)\nthread.start()\nthread.join()\nstr(found[0])"
        )
        self.session(source)
        self.assertIn("only in the main thread", self.interpreter.user_ns["found"][0].args[0])

    def test_a_hook_that_the_user_has_chosen_comes_first(self) -> None:
        self.patch(os, "environ", {**os.environ, "PYTHONBREAKPOINT": "0"})
        self.assertEqual("".join(self.session("breakpoint()\nc = 1")), "")
        self.assertEqual(self.interpreter.user_ns["c"], 1)
