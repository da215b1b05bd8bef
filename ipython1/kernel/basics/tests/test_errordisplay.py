"""Errors as IPython shows them: the user's lines and the message."""

from __future__ import annotations

import contextlib
import io
import traceback
from types import TracebackType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics import errordisplay
from ipython1.kernel.basics.error import (
    ClientError,
    CompositeError,
    KernelError,
    WaitInterrupted,
    describe_exception,
)
from ipython1.kernel.calls.calls import normalize_targets
from ipython1.kernel.calls.contexts import remote


class Formatter:
    """A session's ``InteractiveTB``."""

    mode = "Context"

    def structured_traceback(
        self, kind: type, value: BaseException, tb: TracebackType | None
    ) -> list[str]:
        self.given = (kind, value, tb)
        return [f"{kind.__name__} from {traceback.extract_tb(tb)[-1].name}", str(value)]


class Shell:
    def __init__(self) -> None:
        self.InteractiveTB = Formatter()


def composite(count: int = 2, text: str = "division by zero") -> CompositeError:
    elist: list[Any] = []
    for _ in range(count):
        problem = ZeroDivisionError(text)
        elist.append(
            (ZeroDivisionError, problem, f"Cell In[1]\n----> 1/0\nZeroDivisionError: {text}\n")
        )
    return CompositeError("execute", elist, list(range(count)))


def caught(function: Any, *args: Any) -> BaseException:
    """What calling ``function`` raises; this function is the user's code."""
    try:
        function(*args)
    except BaseException as problem:
        return problem
    raise AssertionError("nothing was raised")


def frames(problem: BaseException) -> list[str]:
    return [entry.name for entry in traceback.extract_tb(problem.__traceback__)]


class CutTests(SynchronousTestCase):
    def test_the_kernels_frames_are_cut_off(self) -> None:
        problem = caught(remote)
        self.assertEqual(frames(problem), ["caught", "remote"])
        errordisplay.cut_at_user(problem)
        self.assertEqual(frames(problem), ["caught"])

    def test_what_the_user_raises_stays(self) -> None:
        def raise_it() -> None:
            raise KernelError("mine")

        problem = caught(raise_it)
        errordisplay.cut_at_user(problem)
        self.assertEqual(frames(problem), ["caught", "raise_it"])

    def test_nothing_to_cut(self) -> None:
        problem = KernelError("never raised")
        errordisplay.cut_at_user(problem)
        self.assertIsNone(problem.__traceback__)

    def test_other_errors_are_not_touched(self) -> None:
        """Only the kernel's own errors are shown in this way."""
        self.assertFalse(hasattr(caught(normalize_targets, "some"), "_render_traceback_"))


class RenderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.shell = Shell()
        self.patch(errordisplay, "session_shell", lambda: self.shell)

    def test_short(self) -> None:
        problem = caught(remote)
        assert isinstance(problem, ClientError)
        (text,) = problem._render_traceback_()
        self.assertTrue(
            text.startswith("ClientError from caught\nclient.remote() was called outside"), text
        )

    def test_nothing_that_led_to_it(self) -> None:
        """The session's formatter shows an error's cause; here that is the engines' errors, which are shown anyway."""
        error = composite()
        with contextlib.suppress(CompositeError):
            raise error
        (text,) = error._render_traceback_()
        self.assertEqual(
            text,
            "CompositeError from test_nothing_that_led_to_it\n"
            "one or more exceptions from call to method: execute\n"
            "[0:execute]: ZeroDivisionError: division by zero\n"
            "[1:execute]: ZeroDivisionError: division by zero",
        )
        _, given, _ = self.shell.InteractiveTB.given
        self.assertIsNone(given.__cause__)
        self.assertIsNotNone(error.__cause__)

    def test_verbose_mode_adds_the_engines_tracebacks(self) -> None:
        self.shell.InteractiveTB.mode = "Verbose"
        error = composite()
        with contextlib.suppress(CompositeError):
            raise error
        (text,) = error._render_traceback_()
        self.assertIn("\n\n[1:execute]:\nCell In[1]\n----> 1/0\n", text)

    def test_without_ipython(self) -> None:
        self.patch(errordisplay, "session_shell", lambda: None)
        (text,) = KernelError("alone")._render_traceback_()
        self.assertIn("KernelError: alone", text)

    def test_an_interrupt_is_one_line(self) -> None:
        self.assertEqual(
            WaitInterrupted("KeyboardInterrupt: it goes on")._render_traceback_(),
            ["KeyboardInterrupt: it goes on"],
        )
        self.assertNotIsInstance(WaitInterrupted(""), Exception)


class CompositeTests(SynchronousTestCase):
    def test_merged_beyond_eight(self) -> None:
        self.assertEqual(len(composite(8).summary_lines()), 8)
        error = composite(9)
        self.assertEqual(
            error.summary_lines(), ["[0-8:execute]: ZeroDivisionError: division by zero"]
        )
        self.assertEqual([label for label, _ in error.tracebacks()], ["[0-8:execute]"])
        self.assertEqual((len(error.elist), len(error.exceptions)), (9, 9))

    def test_print_tracebacks(self) -> None:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            composite().print_tracebacks()
            composite(20).print_tracebacks(7)
        self.assertEqual(printed.getvalue().count("ZeroDivisionError: division by zero\n"), 3)
        self.assertTrue(printed.getvalue().startswith("[0:execute]:\nCell In[1]\n"))
        self.assertIn("[7:execute]:\n", printed.getvalue())
        with self.assertRaises(IndexError):
            composite().print_tracebacks(2)

    def test_a_raised_exception_does_not_have_the_composite_as_context(self) -> None:
        error = composite()
        error.exceptions[0].__context__ = earlier = KeyError("on the engine")
        try:
            raise error
        except CompositeError as problem:
            raised = caught(problem.raise_exception)
            again = caught(problem.raise_exception)
        self.assertIsInstance(raised, ZeroDivisionError)
        self.assertIs(raised.__context__, earlier)
        self.assertEqual(frames(again), ["caught", "raise_exception"])

    def test_syntax_errors_name_no_invented_file(self) -> None:
        """So that the same error has the same text on all engines."""
        problem = SyntaxError("invalid syntax", ("<ipython-input-7-ab>", 3, 1, "x = = 1", 3, 2))
        self.assertEqual(describe_exception(problem), "SyntaxError: invalid syntax (line 3)")
        problem = SyntaxError("invalid syntax", ("/home/user/sim.py", 3, 1, "x = = 1", 3, 2))
        self.assertEqual(
            describe_exception(problem), "SyntaxError: invalid syntax (sim.py, line 3)"
        )
