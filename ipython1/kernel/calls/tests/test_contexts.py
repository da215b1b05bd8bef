"""``with mec:`` and ``remote()``: what is sent, and that nothing of it runs here."""

# ruff: noqa: E701, E702, F841

from __future__ import annotations

import ast
import contextlib
import functools
import linecache
import textwrap
import warnings
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import ClientError
from ipython1.kernel.calls import contexts
from ipython1.kernel.calls.contexts import RemoteContext, remote


class Recorder(RemoteContext):
    """A client that notes what it is given."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.fail: BaseException | None = None

    def execute(self, lines: str) -> Any:
        self.sent.append(lines)
        if self.fail is not None:
            raise self.fail
        return f"result {len(self.sent)}"


class Namespace:
    """Stands for the module through which users reach ``remote``."""

    remote = staticmethod(remote)


client = Namespace()
a: Any


class BlockTests(SynchronousTestCase):
    """Everything here fails loudly if a line of a body runs in this process."""

    def setUp(self) -> None:
        self.mec = Recorder()

    def tearDown(self) -> None:
        self.assertEqual(contexts._blocks.entered, [])

    def test_body_is_sent(self) -> None:
        with self.mec:
            client.remote()
            a = 10  # here
            never_here()
        self.assertEqual(self.mec.sent, ["a = 10  # here\nnever_here()"])

    def test_comments_and_blank_lines(self) -> None:
        with self.mec:
            client.remote()
            # first
            never_here()

            # between
            if never_here():
                # deeper
                never_here()
        self.assertEqual(
            self.mec.sent,
            [
                "# first\nnever_here()\n\n# between\nif never_here():\n    # deeper\n    never_here()"
            ],
        )

    def test_statements_before_run_here(self) -> None:
        here = []
        with self.mec:
            here.append("ran")
            client.remote()
            never_here()
        self.assertEqual((here, self.mec.sent), (["ran"], ["never_here()"]))

    def test_decorated_first(self) -> None:
        with self.mec:
            client.remote()

            @never_here
            @functools.cache
            def f() -> None:
                return

            @never_here
            class C:
                pass

        self.assertEqual(
            self.mec.sent[0].splitlines()[:4],
            ["@never_here", "@functools.cache", "def f() -> None:", "    return"],
        )
        ast.parse(self.mec.sent[0])

    def test_in_a_decorated_function(self) -> None:
        @functools.cache
        def go(n: int) -> int:
            with self.mec:
                client.remote()
                never_here(n)
            return n + 1

        self.assertEqual(go(1), 2)
        self.assertEqual(self.mec.sent, ["never_here(n)"])

    # fmt: off
    def test_multi_line_strings_keep_their_spaces(self) -> None:
        with self.mec:
            client.remote()
            a = """one
            two
  three"""
            f = f"""{
                a
            }
            four"""
            b = "x\
            y"
            c = [
                1,
              2,
          3]
        names: dict[str, Any] = {}
        exec(self.mec.sent[0], names)
        self.assertEqual(names["a"], "one\n            two\n  three")
        self.assertEqual(names["f"], names["a"] + "\n            four")
        self.assertEqual((names["b"], names["c"]), ("x            y", [1, 2, 3]))
    # fmt: on

    def test_one_line(self) -> None:
        # fmt: off
        with self.mec: client.remote(); a = "ä"; b = 2
        with self.mec:
            "ä"; client.remote(); a = 1
            b = 2
        # fmt: on
        self.assertEqual(self.mec.sent, ['a = "ä"; b = 2', "a = 1\nb = 2"])

    def test_the_call_over_several_lines(self) -> None:
        # fmt: off
        with self.mec:
            client . remote(
            ); never_here(1,
      2)
        # fmt: on
        self.assertEqual(self.mec.sent, ["never_here(1,\n2)"])

    def test_other_names_of_remote(self) -> None:
        here, there = remote, [remote]
        with self.mec:
            here()
            never_here(1)
        with self.mec:
            there[0]()
            never_here(2)
        self.assertEqual(self.mec.sent, ["never_here(1)", "never_here(2)"])

    def test_nested_inner(self) -> None:
        other = Recorder()
        with self.mec:
            with other:
                client.remote()
                never_here(1)
            client.remote()
            never_here(2)
        self.assertEqual((self.mec.sent, other.sent), (["never_here(2)"], ["never_here(1)"]))

    def test_nested_outer(self) -> None:
        with self.mec:
            client.remote()
            with never_here():
                never_here()
        self.assertEqual(self.mec.sent, ["with never_here():\n    never_here()"])

    def test_same_client_nested(self) -> None:
        with self.mec:
            with self.mec as inner:
                client.remote()
                never_here(1)
            client.remote()
            never_here(2)
        self.assertEqual(inner.result, "result 1")
        self.assertEqual(self.mec.sent, ["never_here(1)", "never_here(2)"])

    def test_with_other_contexts(self) -> None:
        # What stands between does not take the way out for an error.
        with contextlib.suppress(Exception), self.mec, contextlib.suppress(Exception):
            client.remote()
            never_here()
        self.assertEqual(self.mec.sent, ["never_here()"])

    def test_in_loops_and_recursion(self) -> None:
        def go(n: int) -> None:
            for i in range(2):
                with self.mec:
                    client.remote()
                    never_here(i)
            if n:
                go(n - 1)

        go(1)
        self.assertEqual(self.mec.sent, ["never_here(i)"] * 4)

    def test_in_a_generator_and_a_coroutine(self) -> None:
        def steps() -> Any:
            yield 1
            with self.mec:
                client.remote()
                never_here(1)
            yield 2

        async def go() -> str:
            with self.mec as block:
                client.remote()
                await never_here(2)
            return block.result

        first, second = steps(), go()
        self.assertEqual(next(first), 1)
        with self.assertRaises(StopIteration) as stop:
            second.send(None)
        self.assertEqual((next(first), stop.exception.value), (2, "result 1"))
        self.assertEqual(self.mec.sent, ["await never_here(2)", "never_here(1)"])

    def test_the_bound_block(self) -> None:
        with self.mec as block:
            client.remote()
            never_here()
        self.assertEqual((block.result, block.source), ("result 1", "never_here()"))
        self.assertIn("result 1", repr(block))
        with self.assertRaisesRegex(AttributeError, "no attribute 'execute'.*use the client"):
            block.execute

    def test_engines_errors_come_without_the_way_out(self) -> None:
        self.mec.fail = ValueError("on the engines")
        with self.assertRaisesRegex(ValueError, "on the engines") as caught:
            with self.mec:
                client.remote()
                never_here()
        self.assertTrue(caught.exception.__suppress_context__)

    def test_own_errors_pass(self) -> None:
        with self.assertRaises(ZeroDivisionError):
            with self.mec:
                1 / 0
        self.assertEqual(self.mec.sent, [])

    def test_without_remote_warns(self) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with self.mec:
                ran = True
        self.assertTrue(ran)
        self.assertIn("ran here, not on the engines; write client.remote()", str(caught[0].message))
        self.assertEqual(caught[0].filename, __file__)


class MisuseTests(SynchronousTestCase):
    """One clear error each, and nothing runs."""

    def setUp(self) -> None:
        self.mec = Recorder()

    def tearDown(self) -> None:
        self.assertEqual((self.mec.sent, contexts._blocks.entered), ([], []))

    def refused(self, text: str) -> Any:
        return self.assertRaisesRegex(ClientError, text)

    def test_outside(self) -> None:
        with self.refused("outside of a client's block; write client.remote\\(\\) as the first"):
            client.remote()

    def test_in_a_function_that_the_block_calls(self) -> None:
        def helper() -> None:
            client.remote()

        with self.refused("outside of a client's block"):
            with self.mec:
                helper()

    def test_deeper(self) -> None:
        with self.refused("directly in the body of the block"):
            with self.mec:
                if True:
                    client.remote()
                    never_here()
        with self.refused("directly in the body of the block"):
            with self.mec:
                with contextlib.nullcontext():
                    client.remote()
                    never_here()

    def test_not_by_itself(self) -> None:
        with self.refused("must be a statement directly in the body"):
            with self.mec:
                a = client.remote()
                never_here(a)

    def test_nothing_after_it(self) -> None:
        with self.refused(r"client.remote\(\) is not followed"):
            with self.mec:
                client.remote()
                # only a comment

    def test_two_clients_in_one_statement(self) -> None:
        other = Recorder()
        with self.refused("one client"):
            with other, self.mec:
                client.remote()
                never_here()
        self.assertEqual(other.sent, [])

    def test_entered_by_other_means(self) -> None:
        with self.refused("outside of a client's block"):
            with contextlib.ExitStack() as stack:
                stack.enter_context(self.mec)
                client.remote()
                never_here()

    def run_source(self, source: str, filename: str) -> None:
        names = {"mec": self.mec, "client": client}
        exec(compile(textwrap.dedent(source), filename, "exec"), names)

    def test_no_source(self) -> None:
        source = """
            with mec:
                client.remote()
                never_here()
        """
        with self.refused(r"\(<none of this>, line 3\) cannot be found.*mec.execute\("):
            self.run_source(source, "<none of this>")

    def test_changed_source(self) -> None:
        source = """
            with mec:
                client.remote()
                never_here()
        """
        text = "# another line\nx = 1\n" * 10
        linecache.cache["<changed>"] = (len(text), None, text.splitlines(True), "<changed>")
        self.addCleanup(linecache.cache.pop, "<changed>")
        with self.refused("changed after it was loaded"):
            self.run_source(source, "<changed>")
        linecache.cache["<changed>"] = (5, None, ["if :\n"], "<changed>")
        with self.refused("cannot be parsed"):
            self.run_source(source, "<changed>")


class NoPositionsTests(SynchronousTestCase):
    """Under ``python -X no_debug_ranges`` there are lines and no columns."""

    def test_by_lines(self) -> None:
        mec = Recorder()
        source = (
            "if 1:\n  with mec:\n    with other, mec:\n      client.remote()\n      a\n      b\n"
        )
        linecache.cache["<bare>"] = (len(source), None, source.splitlines(True), "<bare>")
        self.addCleanup(linecache.cache.pop, "<bare>")
        code = compile(source, "<bare>", "exec")
        span = contexts._span_of

        def without_columns(frame: Any) -> contexts.Span:
            full = span(frame)
            return contexts.Span(frame.f_lineno, full.end_line, None, None)

        self.patch(contexts, "_span_of", without_columns)
        exec(code, {"mec": mec, "client": client, "other": contextlib.nullcontext()})
        self.assertEqual(mec.sent, ["a\nb"])
        self.assertEqual(self.flushWarnings(), [])


def never_here(*args: Any) -> Any:
    raise AssertionError("the body of a block ran here")
