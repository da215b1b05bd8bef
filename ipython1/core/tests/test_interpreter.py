"""Commands of a session, as a user would type them at IPython's prompt."""

from __future__ import annotations

import builtins
import linecache
import os
import pickle
import sys
import tempfile
import threading
import time
from pathlib import Path

import cloudpickle
from IPython.core.interactiveshell import InteractiveShell

from ipython1.core.interpreter import Interpreter
from ipython1.core.tests.support import SessionCase


class PlainCommandTests(SessionCase):
    """What the fast path runs."""

    def test_assignment_and_value(self) -> None:
        first = self.run_ok("a = 5")
        self.assertEqual((first.number, first.raw, first.translated), (1, "a = 5", "a = 5"))
        self.assertEqual(
            (first.result, first.stdout, first.stderr, first.display), (None, "", "", ())
        )
        second = self.run_ok("b = 7\na * b")
        self.assertEqual((second.number, second.result), (2, {"text/plain": "35"}))
        self.assertEqual(self.session.user_ns["a"], 5)

    def test_times(self) -> None:
        before = time.time()
        result = self.run_ok("import time; time.sleep(0.02)")
        self.assertGreaterEqual(result.duration, 0.02)
        self.assertGreaterEqual(result.started, before - 0.001)
        self.assertAlmostEqual(result.completed - result.started, result.duration, places=3)

    def test_output(self) -> None:
        result = self.run_ok("import sys\nprint(1)\nprint(2, file=sys.stderr)\n3")
        self.assertEqual((result.stdout, result.stderr), ("1\n", "2\n"))
        self.assertEqual(result.result, {"text/plain": "3"})

    def test_semicolon_hides_the_value(self) -> None:
        self.assertIsNone(self.shown("1 + 1;"))
        self.assertIsNone(self.shown("1 + 1; # not shown"))
        self.assertEqual(self.shown("'a;b'"), "'a;b'")
        self.assertEqual(self.shown("1 + 1  # shown;"), "2")

    def test_what_begins_like_an_assignment_shows_its_value(self) -> None:
        for source in ("a = 1; a + 1", "a = 1\na + 1", "a = 1\ra + 1", "a == 1 and a + 1"):
            self.assertEqual(self.shown(source), "2", repr(source))
        for source in ("a = 3", "a =[\n3]", "b = '\\\n3'", "b = lambda: 3 # ; 4", "b = c = 5"):
            self.assertIsNone(self.shown(source), repr(source))

    def test_earlier_values_and_inputs(self) -> None:
        self.run_ok("6 * 7")
        self.assertEqual(self.shown("_ + 1"), "43")
        self.assertEqual(self.shown("_, __, _1, Out[2], In[1]"), "(43, 42, 42, 43, '6 * 7')")

    def test_the_users_own_underscore_is_left_alone(self) -> None:
        self.run_ok("_ = 'mine'\n3")
        self.assertEqual(self.shown("_"), "'mine'")

    def test_empty_commands_count(self) -> None:
        for source in ("", "  \n", "# nothing"):
            self.assertIsNone(self.run_ok(source).result)
        self.assertEqual(self.run_ok("0").number, 4)

    def test_future_imports_stay_in_force(self) -> None:
        self.run_ok("from __future__ import annotations")
        self.assertEqual(
            self.shown("def f(x: nowhere_defined): pass\nf.__annotations__"),
            "{'x': 'nowhere_defined'}",
        )

    def test_classes_pickle(self) -> None:
        self.run_ok("class Point:\n    def __init__(self, x): self.x = x\np = Point(3)")
        point = self.session.user_ns["p"]
        self.assertEqual(pickle.loads(pickle.dumps(point)).x, 3)
        self.assertEqual(cloudpickle.loads(cloudpickle.dumps(point)).x, 3)
        self.assertIs(sys.modules["__main__"].Point, type(point))

    def test_functions_find_names_set_later(self) -> None:
        self.run_ok("def f(): return later")
        self.run_ok("later = 9")
        self.assertEqual(self.shown("f()"), "9")

    def test_source_must_be_text(self) -> None:
        self.assertRaises(TypeError, self.session.execute, b"a = 1")
        self.assertEqual(self.run_ok("1").number, 1)

    def test_the_shown_number_is_that_of_the_prompt(self) -> None:
        self.run_ok("1")
        self.assertEqual(self.session.number, 2)

    def test_warnings_of_the_compiler_come_once(self) -> None:
        self.run_ok("x = 1\nx is 1")
        self.assertEqual(len(self.flushWarnings()), 1)


class IPythonCommandTests(SessionCase):
    """What only IPython understands."""

    def test_line_magics(self) -> None:
        result = self.run_ok("%pwd")
        self.assertEqual(result.translated, "get_ipython().run_line_magic('pwd', '')")
        self.assertEqual(result.result, {"text/plain": repr(os.getcwd())})
        self.assertEqual(self.shown("x = 1\n%who_ls"), "['x']")

    def test_magics_without_percent_sign(self) -> None:
        self.assertEqual(self.shown("pwd"), repr(os.getcwd()))
        self.assertIn("/", self.run_ok("ls -d /").stdout)
        self.run_ok("pwd = 3")
        self.assertEqual(self.shown("pwd"), "3")

    def test_a_minus_after_a_name_is_arithmetic(self) -> None:
        self.run_ok("ls = 7; d = 2")
        self.assertEqual(self.shown("ls -d"), "5")

    def test_change_of_directory(self) -> None:
        self.addCleanup(os.chdir, os.getcwd())
        folder = os.path.realpath(tempfile.gettempdir())
        self.run_ok(f"%cd {folder}")
        self.assertEqual(os.getcwd(), folder)
        self.run_ok("cd /")
        self.assertEqual(os.getcwd(), "/")

    def test_shell_commands(self) -> None:
        result = self.run_ok("!echo out; echo err >&2; exit 3")
        self.assertEqual((result.stdout, result.stderr), ("out\n", "err\n"))
        self.assertEqual(self.shown("_exit_code"), "3")
        self.run_ok("name = 'world'")
        self.assertEqual(self.run_ok("!echo hello {name}").stdout, "hello world\n")
        self.assertEqual(self.shown("lines = !printf 'a\\nb\\n'\nlist(lines)"), "['a', 'b']")

    def test_cell_magics(self) -> None:
        result = self.run_ok("%%bash\necho one\necho two >&2")
        self.assertEqual((result.stdout, result.stderr), ("one\n", "two\n"))
        result = self.run_ok("%%time\n1 + 1")
        self.assertEqual(result.result, {"text/plain": "2"})
        self.assertIn("Wall time", result.stdout)
        self.run_ok("%%capture caught\nprint('inside')")
        self.assertEqual(self.shown("caught.stdout"), "'inside\\n'")

    def test_timing(self) -> None:
        self.assertIn("loop", self.run_ok("%timeit -n 1 -r 1 pass").stdout)

    def test_help_is_output(self) -> None:
        self.run_ok("def f(x):\n    'Explains itself.'")
        self.assertIn("Explains itself.", self.run_ok("f?").stdout)

    def test_top_level_await(self) -> None:
        self.run_ok("import asyncio")
        self.assertEqual(self.shown("await asyncio.sleep(0, 'slept')"), "'slept'")
        self.run_ok("async def f(): return 4")
        self.assertEqual(self.shown("async with asyncio.Lock():\n    x = await f()\nx"), "4")

    def test_tasks_of_a_loop_live_on(self) -> None:
        self.run_ok(
            "import asyncio\nevent = asyncio.Event()\n"
            "t = asyncio.ensure_future(event.wait())\nawait asyncio.sleep(0)"
        )
        self.assertEqual(self.shown("event.set()\nawait t"), "True")

    def test_pasted_prompts(self) -> None:
        self.assertEqual(self.shown("In [1]: 3 + 4"), "7")
        self.assertEqual(self.shown(">>> 3 + 5"), "8")

    def test_numbers_go_on_over_both_paths(self) -> None:
        numbers = [self.run_ok(source).number for source in ("1", "%pwd", "2", "!true", "3")]
        self.assertEqual(numbers, [1, 2, 3, 4, 5])
        self.assertEqual(
            self.shown("In[2], In[3], Out[5]"),
            "(\"get_ipython().run_line_magic('pwd', '')\", '2', 3)",
        )

    def test_a_script(self) -> None:
        path = Path(self.new_path() + ".py")
        path.write_text("value = 11\n")
        self.run_ok(f"%run {path}")
        self.assertEqual(self.session.pull("value"), 11)

    def test_a_failing_script_fails(self) -> None:
        path = Path(self.new_path() + ".py").absolute()
        path.write_text("before = 1\n1/0\n")
        result = self.run_bad(f"%run {path}", "ZeroDivisionError")
        self.assertIn("----> 2 1/0", result.failure.traceback)
        self.assertEqual((result.stdout, result.stderr), ("", ""))
        self.assertEqual(self.session.pull("before"), 1)

    def test_last_traceback_again(self) -> None:
        self.run_bad("1/0", "ZeroDivisionError")
        self.assertIn("ZeroDivisionError: division by zero", self.run_ok("%tb").stdout)

    def test_transformers_of_the_user(self) -> None:
        self.run_ok(
            "def upper(lines): return [line.replace('shout', 'print') for line in lines]\n"
            "get_ipython().input_transformers_cleanup.append(upper)"
        )
        result = self.run_ok("shout(3)")
        self.assertEqual((result.translated, result.stdout), ("print(3)", "3\n"))

    def test_hooks_of_the_user(self) -> None:
        self.run_ok("calls = []")
        for event, arguments in (("pre_execute", ""), ("post_execute", "")):
            self.run_ok(
                f"get_ipython().events.register('{event}', lambda {arguments}: calls.append('{event}'))"
            )
        self.run_ok("calls.clear()")
        self.run_ok("pass")
        self.assertEqual(
            self.session.pull("calls")[:3], ["post_execute", "pre_execute", "post_execute"]
        )
        self.run_ok(
            "get_ipython().events.register('pre_run_cell', lambda info: calls.append(info.raw_cell))"
        )
        self.run_ok("7 * 7")
        self.assertIn("7 * 7", self.session.pull("calls"))

    def test_session_log(self) -> None:
        path = self.new_path()
        self.run_ok(f"%logstart {path}")
        self.run_ok("logged = 1")
        self.run_ok("%logstop")
        self.assertIn("logged = 1", Path(path).read_text())


class FailingCommandTests(SessionCase):
    def test_exception(self) -> None:
        result = self.run_bad("print('before')\n1/0", "ZeroDivisionError")
        self.assertEqual(result.stdout, "before\n")
        self.assertEqual(result.stderr, "")
        self.assertEqual(result.failure.evalue, "division by zero")
        self.assertEqual(self.run_ok("1").number, 2)

    def test_the_session_cannot_be_left(self) -> None:
        for source in ("import sys; sys.exit(3)", "exit()", "exit", "quit", "raise SystemExit"):
            self.run_bad(source, "SystemExit")
        self.assertEqual(self.shown("'still here'"), "'still here'")
        self.assertIn("kill()", self.run_bad("exit", "SystemExit").failure.evalue)

    def test_input(self) -> None:
        result = self.run_bad("input('name? ')", "EOFError")
        self.assertEqual(result.stdout, "name? ")

    def test_every_kind_of_exception_is_contained(self) -> None:
        for name in ("KeyboardInterrupt", "GeneratorExit", "MemoryError", "BaseException"):
            self.run_bad(f"raise {name}", name)
        self.run_bad("import asyncio; raise asyncio.CancelledError", "CancelledError")
        self.run_bad("def f(): f()\nf()", "RecursionError")

    def test_wrong_source(self) -> None:
        for source in (
            "a = = 1",
            "def f(:",
            "return 1",
            "x = (",
            "if 1:\nx",
            "a\0b",
            "'\ud800'",
            "\t1\n 2",
        ):
            result = self.session.execute(source)
            self.assertIsNotNone(result.failure, source)
            self.assertIn(result.failure.ename, ("SyntaxError", "IndentationError", "TabError"))
        self.assertEqual(self.shown("1"), "1")

    def test_nothing_runs_of_a_command_that_does_not_compile(self) -> None:
        self.run_bad("ran = 1\n%nope nope\na = = 1", "SyntaxError")
        self.assertEqual(self.session.keys(), [])

    def test_unknown_magic(self) -> None:
        result = self.run_bad("%nosuchmagic", "UsageError")
        self.assertIn("%nosuchmagic", result.failure.traceback)
        self.assertEqual(result.stderr, "")

    def test_debuggers_end_by_themselves(self) -> None:
        self.run_bad("breakpoint()\n1", "BdbQuit")

    def test_failing_hook(self) -> None:
        self.run_bad(
            "get_ipython().events.register('post_execute', lambda: 1/0)", "ZeroDivisionError"
        )
        result = self.run_bad("1", "ZeroDivisionError")
        self.assertEqual(result.result, {"text/plain": "1"})

    def test_the_namespace_survives(self) -> None:
        self.run_ok("a = 1")
        self.run_bad("b = 2\n1/0", "ZeroDivisionError")
        self.assertEqual(self.session.pull(["a", "b"]), [1, 2])

    def test_reset_restores_the_names_that_python_needs(self) -> None:
        for breaking in (
            "__builtins__ = 1",
            "__builtins__ = {}",
            "del __builtins__",
            "__dict__ = 1",
            "__name__ = 'x'",
            "globals().clear()",
        ):
            self.run_ok(breaking)
            self.session.reset()
            self.assertEqual(self.shown("len([__name__])"), "1")
            self.assertEqual(self.shown("__name__"), "'__main__'")
            self.run_ok("%pwd")

    def test_names_that_python_needs_cannot_be_pushed(self) -> None:
        for name in ("__builtins__", "__dict__"):
            self.assertRaises(ValueError, self.session.push, {"a": 1, name: 1})
            self.assertRaises(ValueError, self.session.push_function, {name: len})
        self.run_bad("a", "NameError")

    def test_nothing_of_the_engine_is_kept_alive(self) -> None:
        self.run_bad("1/0", "ZeroDivisionError")
        frame = sys.last_traceback.tb_frame
        self.assertTrue(frame.f_code.co_filename.startswith("<ipython-input-1-"))


class HistoryTests(SessionCase):
    history_size = 5

    def test_last_and_numbered(self) -> None:
        one, two = self.run_ok("1"), self.run_ok("2")
        self.assertIs(self.session.get_result(), two)
        self.assertIs(self.session.get_result(1), one)

    def test_absent(self) -> None:
        self.assertIn("no command", str(self.assertRaises(IndexError, self.session.get_result)))
        for number in range(7):
            self.run_ok(f"{number}")
        error = self.assertRaises(IndexError, self.session.get_result, 2)
        self.assertIn("no longer kept; the oldest kept one is 3", str(error))
        for number in (0, -1, 8):
            error = self.assertRaises(IndexError, self.session.get_result, number)
            self.assertIn("the last one is 7", str(error))
        self.assertRaises(TypeError, self.session.get_result, "1")

    def test_everything_else_is_bounded_too(self) -> None:
        for number in range(40):
            self.run_ok(f"'value {number}'")
        namespace = self.session.user_ns
        self.assertLessEqual(len(namespace["Out"]), 5)
        self.assertIn("_40", namespace)
        self.assertNotIn("_10", namespace)
        self.assertEqual(namespace["In"][40], "'value 39'")
        self.assertEqual(namespace["In"][10], "")
        kept = [name for name in linecache.cache if name.startswith("<ipython-input-")]
        self.assertLessEqual(len(kept), 6)

    def test_bounded_in_bytes(self) -> None:
        self.session.close()
        self.session = Interpreter(self.capture, history_size=1000, history_bytes=100_000)
        self.addCleanup(self.session.close)
        for _ in range(10):
            self.run_ok("print('x' * 30_000)")
        self.assertEqual(len(self.session.get_result(8).stdout), 30_001)
        self.assertRaises(IndexError, self.session.get_result, 7)
        self.run_ok("print('x' * 300_000)")
        self.assertEqual(len(self.session.get_result().stdout), 300_001)


class DictTests(SessionCase):
    """The dict that a client's ``execute`` returns."""

    def test_everything(self) -> None:
        result = self.run_ok("import sys\nprint(1); print(2, file=sys.stderr); display(3)\n4")
        shown = result.to_dict(7)
        self.assertEqual(
            list(shown),
            [
                "id",
                "number",
                "input",
                "stdout",
                "stderr",
                "result",
                "display",
                "started",
                "completed",
                "duration",
            ],
        )
        self.assertEqual((shown["id"], shown["number"]), (7, 1))
        self.assertEqual(shown["input"], {"raw": result.raw, "translated": result.raw})
        self.assertEqual((shown["stdout"], shown["stderr"]), ("1\n", "2\n"))
        self.assertEqual(shown["result"], {"text/plain": "4"})
        self.assertEqual(shown["display"], (({"text/plain": "3"}, {}),))
        self.assertRegex(shown["started"], r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d$")
        self.assertEqual(shown["duration"], result.duration)

    def test_what_is_empty_is_left_out(self) -> None:
        self.assertEqual(
            list(self.run_ok("a = 1").to_dict(0)),
            ["id", "number", "input", "started", "completed", "duration"],
        )


class ProcessTests(SessionCase):
    """What a session does to its process, and undoes."""

    def test_one_session_at_a_time(self) -> None:
        error = self.assertRaises(RuntimeError, Interpreter, self.capture)
        self.assertIn("already has an IPython shell", str(error))

    def test_closing(self) -> None:
        self.run_ok("import os; os.environ['LEFT'] = '1'")
        del os.environ["LEFT"]
        session_main = sys.modules["__main__"]
        self.session.close()
        self.session.close()
        self.assertFalse(InteractiveShell.initialized())
        self.assertIsNot(sys.modules["__main__"], session_main)
        for name in ("get_ipython", "display", "__IPYTHON__"):
            self.assertNotIn(name, builtins.__dict__)
        self.assertIn("exit", builtins.__dict__)
        self.assertIs(sys.displayhook, sys.__displayhook__)
        self.assertEqual([name for name in linecache.cache if name.startswith("<ipython-")], [])

    def test_no_files_are_made(self) -> None:
        self.session.close()
        home = self.new_path()
        os.mkdir(home)
        self.patch(
            os, "environ", {**os.environ, "HOME": home, "IPYTHONDIR": os.path.join(home, "ipython")}
        )
        self.session = Interpreter(self.capture)
        self.addCleanup(self.session.close)
        self.run_ok("1 + 1")
        self.run_ok("%pwd")
        self.run_bad("1/0", "ZeroDivisionError")
        self.session.close()
        self.assertEqual(os.listdir(home), [])

    def test_programs_page_nothing(self) -> None:
        self.assertEqual(self.shown("import os\nos.environ['PAGER']"), "'cat'")

    def test_environment_of_the_user_wins(self) -> None:
        self.session.close()
        self.patch(os, "environ", {**os.environ, "PAGER": "less"})
        self.session = Interpreter(self.capture)
        self.addCleanup(self.session.close)
        self.assertEqual(self.shown("import os\nos.environ['PAGER']"), "'less'")

    def test_history_size_must_make_sense(self) -> None:
        self.assertRaises(ValueError, Interpreter, self.capture, history_size=0)

    def test_a_failed_start_gives_the_streams_back(self) -> None:
        self.session.close()
        self.capture.close()

        def broken(history_size: int) -> None:
            raise RuntimeError("no shell today")

        from ipython1.core import interpreter

        self.patch(interpreter, "open_shell", broken)
        streams = sys.stdout, sys.stderr
        self.assertRaises(RuntimeError, Interpreter)
        self.assertEqual((sys.stdout, sys.stderr), streams)

    def test_its_own_capture(self) -> None:
        self.session.close()
        self.capture.close()
        streams = sys.stdout, sys.stderr
        session = Interpreter()
        self.addCleanup(session.close)
        self.assertEqual(session.execute("print(1)").stdout, "1\n")
        session.close()
        self.assertEqual((sys.stdout, sys.stderr), streams)

    def test_no_threads_are_started(self) -> None:
        self.session.close()
        before = set(threading.enumerate())
        self.session = Interpreter(self.capture)
        self.addCleanup(self.session.close)
        self.run_ok("1")
        self.run_ok("%pwd")
        self.assertEqual(set(threading.enumerate()) - before, set())
