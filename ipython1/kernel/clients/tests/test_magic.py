"""The magics' options, and what ``%autopx`` makes of cells.

Whole sessions are in ``tests/test_interactive_pexpect.py``.
"""

from __future__ import annotations

from typing import Any

from IPython.core.error import UsageError
from IPython.core.inputtransformer2 import TransformerManager
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.clients.autoparallel import AutoParallel
from ipython1.kernel.clients.pxcompletion import completions
from ipython1.kernel.clients.pxoptions import ALLOWED, PxOptions, parse_options


class OptionTests(SynchronousTestCase):
    def test_code_only(self) -> None:
        for line in ("a = 1", "-x", "[--x]", "print('--targets 0')", "  a", ""):
            self.assertEqual(parse_options(line, {}), (PxOptions(), line.lstrip()))

    def test_targets(self) -> None:
        namespace = {"evens": [0, 2]}
        for text, targets in (
            ("all", "all"),
            ("0", 0),
            ("0,2", (0, 2)),
            ("[0, 2]", [0, 2]),
            ("(1,)", (1,)),
            ("0:3", slice(0, 3)),
            ("::2", slice(None, None, 2)),
            ("-2:", slice(-2, None)),
            ("evens", [0, 2]),
        ):
            for line in (
                f"--targets {text} f(0)",
                f"--targets={text} f(0)",
                f"  --targets   {text}\tf(0)",
            ):
                self.assertEqual(
                    parse_options(line, namespace), (PxOptions(targets=targets), "f(0)")
                )

    def test_all_together(self) -> None:
        self.assertEqual(
            parse_options("--local --timeout=2.5 --targets 1 x", {}),
            (PxOptions(targets=1, block=True, local=True, timeout=2.5), "x"),
        )
        self.assertEqual(parse_options("--noblock", {}), (PxOptions(block=False), ""))

    def test_mistakes(self) -> None:
        for line, text in (
            ("--target 0 x", "unknown option --target; did you mean '--targets'?"),
            ("--targets", "--targets needs a value"),
            ("--targets zero x", "--targets cannot be zero"),
            ("--targets 0,x y", "--targets cannot be 0,x"),
            ("--timeout 0 x", "above 0, not 0"),
            ("--timeout inf x", "above 0, not inf"),
            ("--noblock=1 x", "--noblock takes no value"),
            ("--noblock --timeout 1 x", "--timeout has no effect with --noblock"),
            ("--wait x", "unknown option --wait; the options are --targets, --block, --noblock"),
            ("-- x", "unknown option --; the options are"),
            ("-q 1 x", "unknown option -q; the short options are -t, -b"),
            ("--reset x", "unknown option --reset"),
            ("--block --noblock x", "--block and --noblock exclude each other"),
            ("--out 1a x", "--out needs the name of a variable, not 1a"),
            ("--out for x", "--out needs the name of a variable, not for"),
            (
                "--group-outputs engines x",
                "engine, order or type, not engines; did you mean 'engine'",
            ),
            ("--progress-after -1 x", "--progress-after must be a number of seconds of 0 or more"),
            ("--noblock --progress-after 1 x", "--progress-after has no effect with --noblock"),
        ):
            with self.assertRaises(UsageError) as caught:
                parse_options(line, {})
            self.assertIn(text, str(caught.exception))

    def test_short_options(self) -> None:
        """They are options where they are not valid Python, or where no code can follow."""
        for line, options, code in (
            ("-t 0:2 -o r f(x)", PxOptions(targets=slice(0, 2), out="r"), "f(x)"),
            ("-a -g type x", PxOptions(block=False, group="type"), "x"),
            ("-b -v x", PxOptions(block=True, verbose=True), "x"),
            ("-a", PxOptions(), "-a"),
            ("-t - 1", PxOptions(), "-t - 1"),
            ("--local -a", PxOptions(local=True), "-a"),
        ):
            self.assertEqual(parse_options(line, {}), (options, code), line)
        for line, options in (("-a", PxOptions(block=False)), ("-v", PxOptions(verbose=True))):
            self.assertEqual(parse_options(line, {}, before_code=False), (options, ""))

    def test_targets_may_be_any_expression(self) -> None:
        namespace = {"ids": [0, 1, 2]}
        for text, targets in (("ids[1:]", [1, 2]), ("range(2)", range(2)), ("ids", [0, 1, 2])):
            options, _ = parse_options(f"-t {text} f(", namespace)
            self.assertEqual(options.targets, targets)

    def test_defaults(self) -> None:
        """What the line says goes before what ``%pxconfig`` set, and does not contradict it."""
        defaults = PxOptions(targets=1, block=False, timeout=5.0, group="type")
        for line, options in (
            ("x", defaults),
            ("--targets 2 x", PxOptions(targets=2, block=False, timeout=5.0, group="type")),
            ("--noblock x", PxOptions(targets=1, block=False, group="type")),
            ("--timeout 3 x", PxOptions(targets=1, block=True, timeout=3.0, group="type")),
        ):
            self.assertEqual(parse_options(line, {}, defaults=defaults), (options, "x"), line)

    def test_defaults_are_shown_as_they_are_written(self) -> None:
        for line in (
            "--targets 0:4 --block --group-outputs order --timeout 2.5 --progress-after 0 --verbose",
            "--targets 0,2",
            "--targets ::2 --noblock",
            "--targets all",
            "",
        ):
            options, _ = parse_options(line, {}, ALLOWED["pxconfig"], before_code=False)
            self.assertEqual(" ".join(options.described()), line)


class CompletionTests(SynchronousTestCase):
    def test_completions(self) -> None:
        class View:
            targets = [1]

            def execute(self) -> None: ...

        namespace = {"evens": [0, 2], "view": View(), "text": "x", "_i": [1], "cls": View, "l": []}
        for text, found in (
            ("%%px --tar", ["--targets"]),
            ("%px --t", ["--targets", "--timeout"]),
            ("%%px --noblock --o", ["--out"]),
            ("%pxconfig --res", ["--reset"]),
            ("%px --res", []),
            ("%%px --group-outputs=", ["engine", "order", "type"]),
            ("%%px -g t", ["type"]),
            ("%px --targets ", ["all", "0", "1", "evens", "view"]),
            ("%px -t a", ["all"]),
            ("%result --ta", ["--targets"]),
            ("%px --out x", None),
            ("%px f(", None),
            ("%px x --t", None),
            ("%px", None),
            ("x = 1", None),
            ("%pxx --t", None),
        ):
            self.assertEqual(completions(text, namespace, [0, 1]), found, text)


class Shell:
    """As much of a shell as cells need on their way."""

    def __init__(self) -> None:
        self.input_transformer_manager = TransformerManager()


class AutoParallelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.shell = Shell()
        self.auto = AutoParallel(self.shell)
        self.auto.enable()

    def sent(self, cell: str) -> list[str]:
        """What a cell sends to the engines; fails if it does anything else."""
        sent: list[str] = []

        class IPython:
            def run_cell_magic(self, name: str, line: str, body: str) -> None:
                assert (name, line) == ("autopx", "")
                sent.append(body)

        exec(self.transformed(cell), {"get_ipython": IPython})
        return sent

    def transformed(self, cell: str) -> str:
        transformed: Any = self.shell.input_transformer_manager.transform_cell(cell)
        return str(transformed)

    def test_cells_are_sent_as_they_were_typed(self) -> None:
        for cell in (
            "a = 1",
            "for i in range(3):\n    print(i)\n",
            "await f()",
            "x = = 1",
            "def f(:",
            "%%timeit\npass",
            "%matplotlib inline",
            "!ls $HOME {x}",
            "print('''\n%autopxy\n''')",
            "px = 3",
            "px in [1]",
            "px == 1",
            "result",
            "result = 5",
            "autopx = 1",
            "s = '\\n\\\\ \"quoted\" \\''",
        ):
            text = cell if cell.endswith("\n") else cell + "\n"
            self.assertEqual(self.sent(cell), [text], cell)

    def test_prompts_that_were_pasted_are_removed(self) -> None:
        self.assertEqual(self.sent(">>> for i in x:\n...     y\n"), ["for i in x:\n    y\n"])

    def test_own_magics_stay_here(self) -> None:
        for cell in (
            "%px a",
            "%%px --targets 0\na\n",
            "%autopx",
            "autopx",
            "%result",
            "px print(1)",
            "%%autopx\na",
        ):
            self.auto.disable()
            as_usual = self.transformed(cell)
            self.auto.enable()
            self.assertEqual(self.transformed(cell), as_usual, cell)

    def test_the_end_in_the_middle_of_a_cell(self) -> None:
        transformed = self.transformed("a = 1\nb = 2\n%autopx\nc = 3\n")
        self.assertEqual(
            transformed,
            "get_ipython().run_cell_magic('autopx', '', 'a = 1\\nb = 2\\n')\n"
            "get_ipython().run_line_magic('autopx', '')\nc = 3\n",
        )

    def test_semicolon(self) -> None:
        self.assertTrue(self.transformed("a;").rstrip().endswith(";"))
        self.assertFalse(self.transformed("a").rstrip().endswith(";"))

    def test_nothing_is_sent_to_find_out_whether_input_is_complete(self) -> None:
        manager = self.shell.input_transformer_manager
        self.assertEqual(manager.check_complete("for i in x:")[0], "incomplete")
        self.assertEqual(manager.check_complete("a = 1")[0], "complete")

    def test_on_off_and_paused(self) -> None:
        self.assertTrue(self.auto.on)
        with self.auto.paused():
            self.assertFalse(self.auto.on)
            self.assertEqual(self.transformed("a = 1"), "a = 1\n")
        self.assertTrue(self.auto.on)
        self.auto.disable()
        self.auto.disable()
        self.assertEqual(self.transformed("a = 1"), "a = 1\n")
        with self.auto.paused():
            pass
        self.assertFalse(self.auto.on)
        self.assertEqual(self.transformed(" \n"), TransformerManager().transform_cell(" \n"))
