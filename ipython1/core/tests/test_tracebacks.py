"""Traceback text, and where a running session is."""

from __future__ import annotations

import json
import os
import signal
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from ipython1.core import stacks
from ipython1.core.tests.support import PATIENCE, SessionCase, beside
from ipython1.core.tracebacks import user_line


class TracebackTests(SessionCase):
    def traceback_of(self, source: str) -> str:
        failure = self.session.execute(source).failure
        self.assertIsNotNone(failure, source)
        return failure.traceback

    def test_source_lines_of_the_user_only(self) -> None:
        text = self.traceback_of("def f(x, *, y=1):\n    z = y\n    return z / x\n\n# after\nf(0)")
        self.assertEqual(
            text,
            textwrap.dedent("""\
                ---------------------------------------------------------------------------
                ZeroDivisionError                         Traceback (most recent call last)
                Cell In[1], line 6
                      4
                      5 # after
                ----> 6 f(0)

                Cell In[1], line 3, in f(x, y)
                      1 def f(x, *, y=1):
                      2     z = y
                ----> 3     return z / x
                      4
                      5 # after

                ZeroDivisionError: division by zero"""),
        )

    def test_both_paths_look_alike(self) -> None:
        plain = self.traceback_of("x = 1\n1/0")
        self.run_ok("import asyncio")
        for source in ("x = 1\n1/0 or await asyncio.sleep(0)", "%pwd\n1/0"):
            text = self.traceback_of(source)
            self.assertEqual(text.splitlines()[1], plain.splitlines()[1])
            self.assertEqual(len(text.splitlines()), len(plain.splitlines()))

    def test_functions_of_earlier_commands(self) -> None:
        self.run_ok("def f():\n    raise KeyError('k')")
        text = self.traceback_of("f()")
        self.assertIn("Cell In[2], line 1\n----> 1 f()", text)
        self.assertIn(
            "Cell In[1], line 2, in f()\n      1 def f():\n----> 2     raise KeyError('k')", text
        )
        self.assertTrue(text.endswith("KeyError: 'k'"))

    def test_files(self) -> None:
        path = Path(self.new_path() + ".py").absolute()
        path.write_text("def broken():\n    return [][1]\n")
        self.run_ok(f"import runpy\nbroken = runpy.run_path({str(path)!r})['broken']")
        text = self.traceback_of("broken()")
        self.assertIn(
            f"File {path}:2, in broken()\n      1 def broken():\n----> 2     return [][1]", text
        )

    def test_syntax_errors_show_line_and_caret(self) -> None:
        for source, line, caret in (
            ("a = 1\nb = = 2", "    b = = 2", "        ^"),
            ("def f():\n  return 1\nreturn 2", "    return 2", "    ^^^^^^^^"),
            ("x = (1,", "    x = (1,", "        ^"),
            ("%pwd\nb = = 2", "    b = = 2", "        ^"),
        ):
            lines = self.traceback_of(source).splitlines()
            self.assertRegex(lines[2], rf"^  Cell In\[\d+\], line {source.count(chr(10)) + 1}$")
            self.assertEqual(lines[3:5], [line, caret])
            self.assertTrue(lines[5].startswith("SyntaxError: "), lines)
            self.assertEqual(len(lines), 6, lines)

    def test_a_module_with_wrong_syntax(self) -> None:
        folder = self.new_path()
        os.mkdir(folder)
        Path(folder, "wrongly_written.py").write_text("good = 1\nbad = = 2\n")
        self.run_ok(f"import sys; sys.path.insert(0, {os.path.abspath(folder)!r})")
        self.addCleanup(lambda: __import__("sys").path.remove(os.path.abspath(folder)))
        text = self.traceback_of("import wrongly_written")
        self.assertIn("----> 1 import wrongly_written", text)
        self.assertIn("    bad = = 2\n          ^\n", text)

    def test_chains(self) -> None:
        text = self.traceback_of(
            "try:\n    1/0\nexcept ZeroDivisionError as e:\n    raise ValueError('bad') from e"
        )
        first, second = text.split(
            "\n\nThe above exception was the direct cause of the following exception:\n\n"
        )
        self.assertTrue(first.endswith("ZeroDivisionError: division by zero"))
        self.assertTrue(second.endswith("ValueError: bad"))
        text = self.traceback_of("try:\n    1/0\nexcept Exception:\n    undefined")
        self.assertIn("During handling of the above exception, another exception occurred:", text)
        text = self.traceback_of(
            "try:\n    1/0\nexcept Exception:\n    raise ValueError('bad') from None"
        )
        self.assertNotIn("ZeroDivisionError", text)

    def test_groups(self) -> None:
        text = self.traceback_of("raise ExceptionGroup('some', [ValueError(1), KeyError('k')])")
        self.assertIn("Cell In[1], line 1", text)
        self.assertIn("ExceptionGroup: some (2 sub-exceptions)", text)
        self.assertIn("ValueError: 1", text)
        self.assertNotIn("interpreter.py", text)

    def test_recursion_is_short(self) -> None:
        text = self.traceback_of("def f(n): return f(n + 1)\nf(0)")
        self.assertRegex(text, r"\[\.\.\. skipping similar frames: f at line 1 \(\d+ times\)\]")
        self.assertLess(len(text.splitlines()), 40)
        text = self.traceback_of("def a(n): return b(n)\ndef b(n): return a(n)\na(0)")
        self.assertRegex(text, r"\[\.\.\. skipping \d+ frames\]")
        self.assertLess(len(text.splitlines()), 250)

    def test_frames_that_want_to_be_hidden(self) -> None:
        text = self.traceback_of(
            "def outer():\n    __tracebackhide__ = True\n    inner()\ndef inner(): 1/0\nouter()"
        )
        self.assertNotIn("in outer()", text)
        self.assertIn("in inner()", text)

    def test_a_frame_that_hides_itself_is_not_shown_for_want_of_others(self) -> None:
        def convert() -> int:
            __tracebackhide__ = True
            return int("x")

        failure = self.session.call(convert).failure
        assert failure is not None
        self.assertNotIn("File", failure.traceback)
        self.assertIn("invalid literal", failure.traceback)

    def test_magics(self) -> None:
        text = self.traceback_of("%timeit -n 1 1/0")
        self.assertIn("----> 1 get_ipython().run_line_magic('timeit', '-n 1 1/0')", text)
        self.assertNotIn("IPython/core", text)


def raised_by(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except Exception as problem:
        return problem
    raise AssertionError("it raises nothing")


class UserLineTests(SynchronousTestCase):
    """The one line of users that says where an exception comes from."""

    def test_the_innermost_line_that_is_not_in_a_library(self) -> None:
        if "site-packages" in __file__:
            raise SkipTest("installed, this test is in a library itself")

        def parse(text: str) -> object:
            return json.loads(text)

        problem = raised_by(lambda: parse("{"))
        line = parse.__code__.co_firstlineno + 1
        self.assertEqual(
            user_line(problem.__traceback__),
            f"test_tracebacks.py, line {line}: return json.loads(text)",
        )

    def test_code_without_a_file(self) -> None:
        problem = raised_by(
            lambda: exec(compile("a = 1\nb = a / 0", "<ipython-input-7-ab>", "exec"))
        )
        self.assertEqual(user_line(problem.__traceback__), "Cell In[7], line 2")

    def test_there_is_none(self) -> None:
        problem = raised_by(lambda: json.loads("{"))
        assert problem.__traceback__ is not None
        within_json = problem.__traceback__.tb_next
        assert within_json is not None
        self.assertEqual(user_line(within_json.tb_next), "")
        self.assertEqual(user_line(None), "")


class StackTests(SessionCase):
    def stack_while(self, source: str, present: str) -> str:
        """Run a command, look at the stack until ``present`` is in it, and interrupt."""
        seen: list[str] = []

        def look() -> None:
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                seen.append(stacks.main_thread_stack())
                if present in seen[-1]:
                    break
                time.sleep(0.005)
            self.gate.request("it")

        with beside(look), self.gate.running("it"):
            self.session.execute(source)
        return seen[-1]

    def test_python(self) -> None:
        self.run_ok("import time\ndef wait(s):\n    time.sleep(s)")
        text = self.stack_while("x = 1\nwait(60)", "time.sleep(s)")
        self.assertEqual(
            text,
            "Cell In[2], line 2\n      1 x = 1\n----> 2 wait(60)\n\n"
            "Cell In[1], line 3, in wait(s)\n      2 def wait(s):\n----> 3     time.sleep(s)",
        )

    def test_await(self) -> None:
        self.run_ok("import asyncio\nasync def wait(s):\n    await asyncio.sleep(s)")
        text = self.stack_while("x = 1\nawait wait(60)", "await asyncio.sleep(s)")
        self.assertTrue(text.startswith("Cell In[2], line 2\n"), text)
        self.assertIn("----> 3     await asyncio.sleep(s)", text)
        self.assertNotIn("base_events", text)

    def test_magics(self) -> None:
        self.run_ok("import time")
        text = self.stack_while("%timeit -n 1 -r 1 time.sleep(60)", "magic-timeit")
        self.assertIn("run_line_magic('timeit'", text)
        self.assertNotIn("IPython/core", text)

    def test_shell_commands(self) -> None:
        self.assertIn(
            "----> 1 get_ipython().system('sleep 60')", self.stack_while("!sleep 60", "sleep 60")
        )

    def test_tasks(self) -> None:
        seen = []

        def task() -> None:
            with beside(lambda: seen.append(stacks.main_thread_stack())):
                pass

        self.session.call(task)
        self.assertIn("in task()", seen[0])
        self.assertNotIn("interpreter.py", seen[0])

    def test_a_built_in_function_as_a_task(self) -> None:
        seen = []
        with beside(lambda: seen.append(self._look_until_busy())):
            self.session.call(time.sleep, (0.3,))
        self.assertEqual(seen, [stacks.BUILTIN])

    def _look_until_busy(self) -> str:
        deadline = time.monotonic() + PATIENCE
        while (text := stacks.main_thread_stack()) == stacks.IDLE and time.monotonic() < deadline:
            time.sleep(0.002)
        return text

    def test_idle(self) -> None:
        self.assertEqual(stacks.main_thread_stack(), stacks.IDLE)

    def test_dump_by_signal(self) -> None:
        path = self.new_path()
        disable = stacks.enable_c_dump(path)
        self.addCleanup(disable)
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        self.run_ok("import os, signal\ndef here(): os.kill(os.getpid(), signal.SIGUSR1)\nhere()")
        text = Path(path).read_text()
        self.assertIn("in here", text)
        self.assertIn("most recent call first", text)
        disable()
        previous = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, previous)
        disable()
