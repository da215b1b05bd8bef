"""Function calls and source text as tasks."""

from __future__ import annotations

import ctypes
import linecache
import os
import time

from ipython1.core.tests.support import SessionCase


class CallTests(SessionCase):
    def test_value_and_times(self) -> None:
        before = time.time()
        outcome = self.session.call(lambda a, b=2: (a, b), (1,), {"b": 5})
        self.assertEqual(outcome.value, (1, 5))
        self.assertEqual(
            (outcome.stdout, outcome.stderr, outcome.display, outcome.failure), ("", "", (), None)
        )
        self.assertGreaterEqual(outcome.started, before - 0.001)
        self.assertGreaterEqual(outcome.duration, 0)
        self.assertAlmostEqual(outcome.completed, outcome.started + outcome.duration, places=3)
        self.assertEqual(self.session.call(time.sleep, (0.01,)).duration > 0.009, True)

    def test_output_belongs_to_its_task(self) -> None:
        def noisy() -> int:
            print("python")
            ctypes.CDLL(None).printf(b"C\n")
            os.write(2, b"error\n")
            return 3

        outcome = self.session.call(noisy)
        self.assertEqual((outcome.value, outcome.stderr), (3, "error\n"))
        self.assertEqual(sorted(outcome.stdout.split()), ["C", "python"])
        self.assertEqual(self.session.call(int).stdout, "")

    def test_failures(self) -> None:
        def broken(x: int) -> float:
            print("before")
            return x / 0

        outcome = self.session.call(broken, (1,))
        self.assertEqual((outcome.value, outcome.stdout), (None, "before\n"))
        self.assertEqual(outcome.failure.ename, "ZeroDivisionError")
        self.assertIn("return x / 0", outcome.failure.traceback)
        self.assertNotIn("interpreter.py", outcome.failure.traceback)
        for kind in (SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError):
            self.assertEqual(self.session.call(_raise, (kind,)).failure.ename, kind.__name__)

    def test_displayed_objects(self) -> None:
        self.session.push({"x": 1})
        self.run_ok("def show(): display('shown')\n")
        outcome = self.session.call(self.session.pull("show"))
        self.assertEqual(outcome.display, (({"text/plain": "'shown'"}, {}),))
        self.assertEqual(self.session.call(int).display, ())

    def test_what_is_to_happen_after_a_task_happens_once(self) -> None:
        self.run_ok(
            "after = []\nget_ipython().events.register('post_execute', lambda: after.append(1))"
        )
        after = self.session.pull("after")
        for source, fails in (("x = 1", False), ("%time x = 1", False), ("%no_magic", True)):
            after.clear()
            outcome = self.session.call(self.session.run_source, (source,))
            self.assertEqual((outcome.failure is not None, len(after)), (fails, 1), source)
        after.clear()
        self.session.call(int)
        self.assertEqual(len(after), 1)

    def test_no_traces_in_the_session(self) -> None:
        self.run_ok("1")
        self.session.call(_raise, (ValueError,))
        self.run_source("1/0")
        self.assertEqual(self.session.get_result().number, 1)
        self.assertEqual(self.run_ok("In, Out").number, 2)


class SourceTests(SessionCase):
    def test_names_are_the_sessions(self) -> None:
        self.session.push({"b": 10})
        outcome = self.run_source("a = b + 1\nprint(a)")
        self.assertEqual((outcome.value, outcome.stdout, outcome.failure), (None, "11\n", None))
        self.assertEqual(self.session.pull("a"), 11)

    def test_the_same_source_again(self) -> None:
        self.session.push({"n": 0})
        for _ in range(3):
            self.run_source("n += 1")
        self.assertEqual(self.session.pull("n"), 3)
        self.session.reset()
        self.assertEqual(self.run_source("n += 1").failure.ename, "NameError")

    def test_last_values_are_not_displayed(self) -> None:
        for source in ("40 + 2", "%pwd", "import asyncio; await asyncio.sleep(0, 4)"):
            outcome = self.run_source(source)
            self.assertEqual(
                (outcome.value, outcome.stdout, outcome.display, outcome.failure),
                (None, "", (), None),
            )
        self.assertEqual(self.shown("Out"), "{}")

    def test_what_only_ipython_understands(self) -> None:
        self.assertEqual(self.run_source("!echo from a program").stdout, "from a program\n")
        self.assertIn("/", self.run_source("ls -d /").stdout)
        self.run_source("import asyncio\nx = await asyncio.sleep(0, 'slept')")
        self.assertEqual(self.session.pull("x"), "slept")
        self.assertEqual(self.run_source("%%bash\necho hi").stdout, "hi\n")
        self.assertEqual(self.run_source("%nosuch").failure.ename, "UsageError")

    def test_failures_show_their_source(self) -> None:
        outcome = self.run_source("def f(x):\n    return 1/x\nf(0)")
        self.assertIn("Task, line 2, in f(x)", outcome.failure.traceback)
        self.assertIn("----> 2     return 1/x", outcome.failure.traceback)
        outcome = self.run_source("a = = 1")
        self.assertEqual(outcome.failure.ename, "SyntaxError")
        self.assertIn("Task, line 1", outcome.failure.traceback)
        self.assertIn("    a = = 1\n", outcome.failure.traceback)

    def test_wrong_source(self) -> None:
        self.assertRaises(TypeError, self.session.run_source, b"a = 1")
        for source in ("'\ud800'", "a\0b", "return"):
            self.assertEqual(self.run_source(source).failure.ename, "SyntaxError")
        self.assertIsNone(self.run_source("").failure)

    def test_source_text_is_bounded(self) -> None:
        for number in range(3000):
            self.run_source(f"a = {number}")
        kept = [name for name in linecache.cache if name.startswith("<ipython-task-")]
        self.assertLessEqual(len(kept), 1024)
        self.assertEqual(self.session.pull("a"), 2999)


def _raise(kind: type[BaseException]) -> None:
    raise kind
