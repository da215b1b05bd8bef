"""Interactive sessions as a person uses them: a real IPython in a pseudo-terminal, on a real cluster.

The tests compare them with the transcripts in the documentation (``docs/source/transcripts``).
"""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec

import pexpect

from ipython1.core.terminaltext import rendered
from tests.interactive import OnSharedCluster, PromptSession

AT_ITSELF = sys.version_info >= (3, 13)
"""Whether a breakpoint stops at its own line; before, it stops at the next one, as in the documentation."""

STOPS_AT = "----> 2     breakpoint" if AT_ITSELF else "----> 3     print"


class MagicTests(OnSharedCluster):
    def test_magics(self) -> None:
        """The session in the documentation."""
        session = self.recorded_prompt()
        session.type("mec.activate()")
        shown = session.type("%px import math")
        self.assertEqual(shown.split("\n")[0], "Executing command on Controller")
        self.assertRegex(
            shown, r"Out\[4\]:\s*\n<Results List>\n\[0\] In \[\d+\]: import math\n\[1\] In"
        )
        session.type("%px a = math.sqrt(16)")
        self.assertIn("] Out[", session.type("%px print(a)"))
        self.assertRegex(
            session.type("%result"), r"^Out\[7\]:\s*\n<Results List>\n\[0\] In \[\d+\]: print\(a\)"
        )
        session.type("px print(1)")
        self.assertIn("[2] Out", session.type("%px --targets 0,2 1+1"))
        session.type("%%px --targets 1:3\nfor i in range(2):\n    print(i)\ni * 10\n\n")
        self.assertIn("<PendingResult of execute:", session.type("%px --noblock a"))
        session.type("_.r")
        self.assertIn("3\n", session.type("%px --local a = 3\na"))
        self.check_transcript("magics", "%px, %%px and %result", session.seen)

    def test_options_of_cells(self) -> None:
        """The session in the documentation about ``%%px``, ``%pxresult`` and ``%pxconfig``."""
        session = self.recorded_prompt()
        session.type("mec.activate(); mec.scatter('rank', range(4), flatten=True);")
        shown = session.type("%%px\nprint('rank', rank)\nrank ** 2\n\n")
        self.assertRegex(shown, r"^Out\[4\]: \n?\[0\] Out\[\d+\]: rank 0\n0\n\n\[1\] Out")
        self.assertNotIn("print", shown)
        shown = session.type("%%px -t ::2 -g type -o cubes -v\nprint('rank', rank)\nrank ** 3\n\n")
        self.assertRegex(
            shown,
            r"^Running on engines 0,2\nOut\[5\]: \n?\[0\] Out\[\d+\]: rank 0\n"
            r"\[2\] Out\[\d+\]: rank 2\n\[0\] Out\[\d+\]: 0\n\[2\] Out\[\d+\]: 8\n",
        )
        self.assertIn("[0, 2]", session.type("cubes.engine_ids"))
        session.type("%pxresult --group-outputs engine")
        session.type("%pxconfig --noblock --group-outputs type")
        self.assertIn("<PendingResult of execute", session.type("%%px\nrank > 0\n\n"))
        self.assertRegex(session.type("%pxresult"), r"\[0\] Out\[\d+\]: False\n\[1\] Out")
        session.type("%pxconfig")
        session.type("%pxconfig --reset")
        session.type("%%px\nif rank == 2:\n    1 / 0\nrank\n\n")
        self.assertRegex(session.type("%%px\nx = rank\n\n"), r"^Out\[\d+\]: \[0-3\] done\n")
        session.type("%px --targts 0 rank")
        session.type("%%px --group-outputs engines\nrank\n\n")
        self.check_transcript("cells", "%%px, %pxresult and %pxconfig", session.seen)

    def test_help_and_mistakes(self) -> None:
        session = self.prompt()
        self.check_help_and_completion(session)
        self.check_mistakes(session)

    def check_help_and_completion(self, session: PromptSession) -> None:
        """``%%px --help``, what ``%px?`` shows, and the Tab key."""
        session.type("mec.activate(); evens = [0, 2]")
        docstring = "print(get_ipython().find_line_magic('px').__doc__)"
        for line in ("%px --help", "%%px --help", docstring):
            shown = session.type(line)
            self.assertIn("%px [options] code", shown, line)
            self.assertIn("-o, --out NAME", shown, line)
        self.assertIn("--reset", session.type("%pxconfig --help"))
        for text, found in (
            ("%%px --gr", "['--group-outputs']"),
            ("%px --targets ev", "['evens']"),
            ("%%px -g ", "['engine', 'order', 'type']"),
        ):
            line = f"print(get_ipython().complete('', {text!r}, {len(text)})[1])"
            self.assertIn(found, session.type(line))
        session.type("%unload_ext ipython1")
        self.assertIn("`%pxconfig` not found", session.type("%pxconfig"))
        self.assertIn(": []", session.type("get_ipython().Completer.custom_matchers"))

    def test_autopx(self) -> None:
        """Loops, await, cell magics and syntax errors all go to the engines; the magics run here."""
        session = self.recorded_prompt()
        session.type("mec.activate(); mec.targets = [0, 1]")
        self.assertEqual(
            session.type("%autopx").strip(), "Auto Parallel Enabled\nType %autopx to disable"
        )
        session.type("total = 0")
        session.type("for i in range(3):\n    total += i\n")
        self.assertIn("Out", session.type("total"))
        session.type("await __import__('asyncio').sleep(0, 'awaited')")
        self.assertIn("from bash", session.type("%%bash\necho from bash\n\n"))
        self.assertIn("SyntaxError: invalid syntax (line 1)", session.type("x = = 1"))
        self.assertIn("NameError: name 'undefined' is not defined", session.type("undefined"))
        self.assertEqual(session.type("total;").strip(), "")
        self.assertIn("Executing command on Controller", session.type("%px total"))
        self.assertEqual(session.type("%autopx").strip(), "Auto Parallel Disabled")
        self.assertIn("NameError: name 'total' is not defined", session.type("total"))
        self.check_transcript("autopx", "%autopx", session.seen)

    def test_blocks(self) -> None:
        """The body of a block runs on the engines, not here."""
        session = self.recorded_prompt()
        session.type("mec.targets = [0, 1]")
        session.type("with mec as block:\n    client.remote()\n    c = 10\n    d = c + 30\n    d\n")
        session.type("block.result")
        self.assertIn("NameError", session.type("c"))
        code = [
            "def work(n):",
            "    with mec:",
            "        client.remote()",
            "        e = 1",
            "        !echo from $e program",
            "    return n",
            "",
        ]
        session.type("\n".join(code))
        self.assertIn("Out[8]: 5", session.type("work(5)"))
        session.type("mec.block = False")
        session.type("with mec as block:\n    client.remote()\n    c\n")
        session.type("block.result.r")
        self.check_transcript("blocks", "Blocks: with mec", session.seen)

    def test_debugger(self) -> None:
        """An exception after its end, and a breakpoint that is left and opened again."""
        session = self.recorded_prompt()
        session.type("def ratio(a, b):\n    return a / b\n")
        session.type("mec.targets = 2")
        session.type("mec.apply(ratio, 1, 0)")
        self.assertIn("----> 2     return a / b", session.type("mec.debug()"))
        self.assertEqual(session.type("p a, b").strip(), "(1, 0)")
        session.type("q")
        session.type("mec.targets = 'all'")
        code = "for i in range(3):\\n    breakpoint()\\n    print('i is', i)"
        session.type(f'pr = mec.execute("{code}", targets=0, block=False)')
        self.assertIn(STOPS_AT, session.type("mec.debug(targets=0)"))
        self.assertEqual(session.type("p i").strip(), "0")
        self.assertIn("i is 0", session.type("c"))
        self.assertIn("engine 0 still waits at a breakpoint", session.interrupt())
        self.assertIn(
            "and waits for mec.debug() at a breakpoint", session.type("mec.stacks(targets=0)")
        )
        self.assertIn(STOPS_AT, session.type("mec.debug()"))
        session.type("!i = 17")
        self.assertIn("i is 17", session.type("c"))
        session.type("c")
        self.assertIn("i is 2", session.type("pr.r"))
        session.start("mec.execute('x = 1; breakpoint()', targets=1)", "after Ctrl-C if you wait")
        self.assertIn("execute is still running on engine 1", session.interrupt())
        session.type("mec.debug()")
        session.type("c")
        session.type("mec.pull('x', targets=1)")  # its turn comes after the end of the command
        session.type("mec.pending")
        session.type("mec.activate()")
        self.assertIn(
            "ZeroDivisionError", session.type("%%px --pdb --targets 1:3\na, b = 1, 0\na / b\n\n")
        )
        self.assertEqual(session.type("p b").strip(), "0")
        session.type("q")
        if not AT_ITSELF:
            self.check_transcript("debugger", "mec.debug", session.seen)
        session.type("mec.debug(targets=1)")
        program = "from ipython1.kernel import client; client.MultiEngineClient().interrupt(1)"
        assert self.cluster is not None
        self.cluster.run_program("-c", program)  # as somebody else would
        shown = session.type("p a")
        self.assertIn("KeyboardInterrupt", shown)
        self.assertNotIn("Traceback", shown)
        self.assertIn("there is nothing to debug on engine 3", session.type("mec.debug(targets=3)"))

    def check_mistakes(self, session: PromptSession) -> None:
        """Each causes one clear error, and the session goes on."""
        session.type("%load_ext ipython1")
        self.assertIn("Executing command", session.type("%px 1"))
        for line, text in (
            ("%px", "UsageError: no code to run"),
            (
                "%px --target 0 1",
                "UsageError: unknown option --target; did you mean '--targets'?",
            ),
            ("%px --targets", "UsageError: --targets needs a value"),
            ("%px --targets zero 1", "UsageError: --targets cannot be zero: give all, an id"),
            ("%px --targets '' 1", "UsageError: --targets cannot be '': give all, an id"),
            ("%px --targets 0.5 1", "UsageError: --targets cannot be 0.5: give all, an id"),
            ("%px --targets 9 1", "InvalidEngineID: there is no engine 9; the engines are 0-3"),
            ("%px --targets [] 1", "InvalidEngineID: targets is empty"),
            (
                "%px --timeout soon 1",
                "UsageError: --timeout must be a number of seconds above 0, not soon",
            ),
            ("%px --noblock --pdb 1", "UsageError: --pdb has no effect with --noblock"),
            ("%px --noblock --timeout 1 1", "UsageError: --timeout has no effect with --noblock"),
            (
                "%%px --targets 0 1+1\n2\n\n",
                "UsageError: only options may follow %%px on its line",
            ),
            ("%autopx on", "UsageError: %autopx takes no arguments"),
            ("%result last", "UsageError: %result takes the number of a command, not 'last'"),
            (
                "%px --local 1/0",
                "ClientError: the code failed here, so it was not run on the engines",
            ),
            (
                "client.remote()",
                "ClientError: client.remote() was called outside of a client's block",
            ),
            ("with mec:\n    pass\n", "UserWarning: the body of this `with` block ran here"),
            (
                "exec('with mec:\\n  client.remote()\\n  1')",
                "ClientError: the source of this `with` block",
            ),
            ("mec.kill([0])", "TypeError: controller must be True or False"),
            ("mec.stacks(timeout=0)", "ValueError: timeout must be a number of seconds"),
            ("%px print({1}, '$x {y}', f'{2}')", "{1} $x {y} 2"),
        ):
            self.assertIn(text, session.type(line))
        session.type("%unload_ext ipython1")
        self.assertIn("%px` not found", session.type("%px 1"))

    def test_a_client_of_their_own(self) -> None:
        """Without an active client, the magics create one, and a new one when its connection is lost."""
        session = self.prompt()
        session.type("%load_ext ipython1")
        self.assertIn("[3] Out[", session.type("%px 'there'"))
        session.type("magics = get_ipython().magics_manager.registry['ParallelMagics']")
        session.type("magics.client.close()")
        self.assertIn("[3] Out[", session.type("%px 'there'"))
        # A client that the user created stays as it is.
        session.type("mec.activate(); mec.close()")
        self.assertIn("ClientClosed: the client was closed", session.type("%px 'there'"))

    def test_errors(self) -> None:
        """Errors are short, show the engines' tracebacks on request, and open the debugger in the user's frame."""
        session = self.recorded_prompt()
        session.type("mec.targets = [0, 1]")
        session.type("def invert(name):\n    wanted = name\n    return mec.execute('1/' + name)\n")
        shown = session.type("invert('0')")
        self.assertIn(
            "----> 3     return mec.execute('1/' + name)\n\nCompositeError: one or more", shown
        )
        self.assertNotIn("multiengineclient", shown)
        session.type("%debug")
        self.assertEqual(session.type("p wanted").strip(), "'0'")
        session.type("q")
        shown = session.type("%tb Verbose")
        self.assertIn("[1:execute]:\n-----", shown)
        self.assertRegex(shown, r"Cell In\[\d+\], line 1\n----> 1 1/0\n")
        self.check_transcript("errors", "Errors of engines", session.seen)
        session.type("%xmode Context")
        shown = session.type(
            "try:\n    invert('0')\nexcept client.CompositeError as e:\n    e.raise_exception()\n"
        )
        self.assertNotIn("CompositeError: one or more", shown)
        self.assertIn("ZeroDivisionError: division by zero", shown)

    def test_what_is_shown(self) -> None:
        """Of output, and of source lines."""
        session = self.prompt()
        session.type("tc = client.TaskClient(); import time, warnings")
        self.check_output_before_an_error(session)
        self.check_output_of_functions(session)
        self.check_lines_of_what_was_typed_here(session)
        self.check_flood(session)

    def check_output_before_an_error(self, session: PromptSession) -> None:
        """Output from before a failure, and the results of the other engines, are not lost."""
        session.type("mec.activate(); mec.scatter('rank', range(4), flatten=True)")
        shown = session.type("%px print('rank', rank); 1/(rank - 2)")
        self.assertIn("Out[", shown)
        for rank in range(4):
            self.assertRegex(shown, rf"\[{rank}\] Out\[\d+\]: rank {rank}\n")
        self.assertTrue(
            shown.rstrip().endswith("[2:execute]: ZeroDivisionError: division by zero"), shown
        )

    def test_live_output(self) -> None:
        """A command that runs for longer than a second shows its output as it arrives, once."""
        session = self.recorded_prompt()
        session.type(
            "mec.activate(); mec.targets = [0, 1]; mec.scatter('rank', [0, 1], flatten=True)"
        )
        code = [
            "%%px",
            "import time, sys, os",
            "time.sleep(0.3 * rank)",
            "print('started')",
            "time.sleep(1.2)",
            "os.system('echo a program')",
            "time.sleep(0.8)",
            "print('to stderr', file=sys.stderr)",
            "'the value'",
            "\n",
        ]
        shown = session.type("\n".join(code))
        for line in ("started", "a program", "to stderr"):
            for engine in (0, 1):
                self.assertEqual(shown.count(f"[{engine}] {line}\n"), 1, shown)
        self.assertNotIn("Out[4]: started", shown)
        self.assertRegex(shown, r"\[1\] Out\[\d+\]: 'the value'")
        shown = session.type("_[1]['stdout']")
        self.assertEqual(shown.strip(), r"Out[5]: 'started\na program\n'")
        self.check_transcript("live", "Live output", session.seen)

    def check_output_of_functions(self, session: PromptSession) -> None:
        """What functions print is shown with the id of the engine, once, live or not, and before an error."""
        session.type("executor = mec.executor()")
        session.type("say = lambda x: print('item', x) or x")
        shown = session.type("mec.map(say, range(4))")
        for engine in range(4):
            self.assertEqual(shown.count(f"[{engine}] item {engine}\n"), 1, shown)
        self.assertIn("[0, 1, 2, 3]", shown)
        shown = session.type("tc.map(say, range(4))")
        lines = re.findall(r"^\[\d\] item (\d)$", rendered(shown), re.M)
        self.assertEqual(sorted(lines), list("0123"))
        shown = session.type("mec.apply(warnings.warn, 'look out')")
        self.assertEqual(shown.count("UserWarning: look out"), 4, shown)
        shown = session.type("executor.submit(say, 7).result(); list(executor.map(say, [8, 9]))")
        self.assertEqual(sorted(re.findall(r"^\[\d\] item (\d)$", shown, re.M)), list("789"))
        if find_spec("joblib"):
            session.type("import joblib; client.register_joblib_backend(mec, make_default=True)")
            shown = session.type("joblib.Parallel(2)(joblib.delayed(say)(n) for n in range(4))")
            lines = re.findall(r"^\[\d\] item (\d)$", rendered(shown), re.M)
        self.assertEqual(sorted(lines), list("0123"))
        session.type(
            "slow = lambda x: (print('early', x), time.sleep(1.5), print('late', x), 1 // x)[-1]"
        )
        for call in ("mec.map", "tc.map"):
            shown = session.type(f"{call}(slow, [1, 0])")
            for line in ("early 0", "late 0", "early 1", "late 1"):
                self.assertEqual(len(re.findall(rf"\[\d\] {line}$", shown, re.M)), 1, shown)
            self.assertIn("modulo by zero (item 1: 0; Cell In[", shown)
        session.type("pr = mec.mapper(block=False).map(say, range(4))")
        self.assertIn("{0: 'item 0\\n'", session.type("mec.barrier(pr); pr.stdout"))

    def check_flood(self, session: PromptSession) -> None:
        """A flood of output is cut and marked in the display, and complete in the data."""
        session.type("mec.targets = 0")
        shown = session.type(
            "%%px\nimport time\nfor i in range(40000):\n    print('line', i)\n    if not i % 2000: time.sleep(0.1)\n\n"
        )
        self.assertLess(shown.count("line"), 2000)
        self.assertRegex(
            shown, r"\[0\] \[\.\.\. \d+ lines not shown here; the result has more \.\.\.\]"
        )
        self.assertRegex(session.type("len(_[0]['stdout'].splitlines())"), r"Out\[\d+\]: 40000\n")
        shown = session.type("mec.execute('print(\"x\\\\n\" * 5000)')")
        self.assertLess(shown.count("x\n"), 1100)
        self.assertIn("lines not shown; result[0]['stdout'] has the full text", shown)

    def test_interrupt(self) -> None:
        """Ctrl-C returns to the prompt; the command goes on until it is interrupted, and variables survive."""
        session = self.recorded_prompt()
        session.type("mec.activate(); mec.targets = [0, 1]")
        session.type("%px import time; kept = 11")
        session.start("%px print('waiting', flush=True); time.sleep(600)", until="[1] waiting")
        shown = session.interrupt()
        self.assertIn(
            "KeyboardInterrupt: execute is still running on engines 0-1. mec.pending[-1] is this call:",
            shown,
        )
        self.assertNotIn("Traceback", shown)
        session.type("mec.pending")
        session.type("after = mec.execute('done = time.time()', block=False)")
        session.type("mec.queue_status()")
        shown = session.type("mec.interrupt(targets=0)")
        self.assertRegex(shown, r"\[0\] execute\(.* was interrupted")
        session.type("mec.pending[0].abort()")
        session.type("after.r")
        session.type("mec['kept']")
        self.assertIn("[0] nothing was running", session.type("mec.interrupt()"))
        self.check_transcript("interrupt", "Ctrl-C, and what goes on", session.seen)
        # The interrupted call is the last one, not the one before it.
        self.assertIn("KeyboardInterrupt", session.type("%pxresult"))

    def interrupted(self, session: PromptSession, line: str) -> str:
        """Run a line that waits, and press Ctrl-C once it does; returns what is shown then."""
        session.start(f"print('n' 'ow'); {line}", until="\r\nnow")
        # From outside, we cannot see that it waits, only that it does not end.
        with self.assertRaises(pexpect.TIMEOUT):
            session.child.expect("never shown", timeout=0.2)
        return session.interrupt()

    def test_interrupt_of_other_waits(self) -> None:
        """Ctrl-C in any blocking call returns to the prompt."""
        session = self.prompt()
        session.type("tc = client.TaskClient(); import time")
        self.check_calls(session)
        self.check_tasks(session)
        self.check_executors(session)
        self.check_maps_of_tasks(session)

    def check_calls(self, session: PromptSession) -> None:
        """You can wait for the same call again."""
        session.type("mec.execute('import time')")
        session.type(
            "pr = [mec.execute('time.sleep(600)', block=False, targets=i) for i in (0, 1)]"
        )
        for line, text in (
            ("pr[0].r", "execute is still running on engine 0. mec.pending[0] is this call"),
            (
                "pr[1].get_result()",
                "execute is still running on engine 1. mec.pending[-1] is this call",
            ),
            ("mec.barrier(pr)", "2 calls are still running. mec.pending lists them"),
            ("pr[0].wait_interactive()", "execute is still running on engine 0"),
            ("mec.map(abs, [1, 2])", "map is still running on engines 0-1"),
        ):
            self.assertIn(f"KeyboardInterrupt: {text}", self.interrupted(session, line))
        session.type("mec.interrupt()")
        self.assertIn(": []", session.type("mec.barrier(mec.pending); mec.pending"))
        self.assertIn("[1:execute]: KeyboardInterrupt", session.type("pr[1].r"))

    def check_tasks(self, session: PromptSession) -> None:
        """Ctrl-C ends a wait for tasks in the same way; you can see where a task is, and interrupt it."""
        session.type("task = tc.run(client.StringTask('import time; time.sleep(600)'))")
        shown = self.interrupted(session, "tc.barrier(task)")
        self.assertIn("is not done and continues; tc.abort(", shown)
        shown = session.type("mec.stacks()")
        self.assertEqual((shown.count("a task is running"), shown.count("] idle")), (1, 3), shown)
        self.assertIn("1 import time; time.sleep(600)", shown)
        shown = session.type("mec.interrupt()")
        self.assertIn("a task was interrupted", shown)
        shown = session.type("tc.get_task_result(task, block=True).failure")
        self.assertIn("KeyboardInterrupt", shown)

    def check_executors(self, session: PromptSession) -> None:
        """Ctrl-C reports in one line what goes on; when it leaves a ``with`` statement, that ends its calls."""
        for maker in ("mec", "tc"):
            session.type(f"executor = {maker}.executor()")
            session.type("future = executor.submit(time.sleep, 600)")
            shown = self.interrupted(session, "future.result()")
            self.assertIn("KeyboardInterrupt: the call continues; abort() of its future", shown)
            shown = self.interrupted(session, "executor.shutdown()")
            self.assertIn("KeyboardInterrupt: 1 call of the executor continues; abort() of", shown)
            session.type("future.abort(); failure = future.exception()")
            session.type(
                "def use(executor):\n"
                "    with executor:\n"
                "        return list(executor.map(time.sleep, [600] * 9))\n"
            )
            shown = self.interrupted(session, f"use({maker}.executor())")
            self.assertIn("KeyboardInterrupt: the executor's calls were aborted", shown)
            # The engines are free at once.
            self.assertIn("[1, 1, 1, 1]", session.type("mec.push({'x': 1}); mec['x']"))

    def check_maps_of_tasks(self, session: PromptSession) -> None:
        """Ctrl-C ends a map, and a wait for some tasks, with one line."""
        shown = self.interrupted(session, "tc.map(time.sleep, [600] * 9)")
        self.assertIn("KeyboardInterrupt: the map was aborted when", shown)
        self.assertNotIn("Traceback", shown)
        session.type("task = tc.run(client.MapTask(time.sleep, (600,)))")
        shown = self.interrupted(session, "list(tc.as_completed([task]))")
        self.assertIn("is not done and continues; tc.abort(", shown)
        self.assertNotIn("Traceback", shown)
        session.type("tc.abort(task)")
        session.type("pending = tc.mapper(block=False).map(time.sleep, [600] * 5)")
        self.assertIn("<PendingResult of map: 0 of 5 items done>", session.type("pending"))
        session.type("pending.abort()")
        shown = session.type(
            "tc.mapper(block=False).map(abs, range(5)).wait_interactive(interval=0)"
        )
        self.assertIn("| 5/5 items [", shown)
        self.assertIn("True", shown)

    def check_lines_of_what_was_typed_here(self, session: PromptSession) -> None:
        """Engines' tracebacks show the source of functions that only this session knows."""
        session.type("def invert(x):\n    return 1 / x  # here\n")
        session.type("mec.map(invert, [1, 0])")
        line = "----> 2     return 1 / x  # here\n"
        self.assertIn(line, session.type("%tb Verbose"))
        session.type("future = mec.executor().submit(invert, 0); e = future.exception()")
        self.assertIn(line, session.type("print(e.__cause__.tb)"))
        session.type("tc.map(invert, [1, 0])")
        shown = session.type("%tb Verbose")
        self.assertIn(line, shown)
        self.assertNotIn("engineworker.py", shown)

    def test_timeout_report(self) -> None:
        """It shows which engines failed, which are done, and where the others wait."""
        session = self.recorded_prompt()
        session.type("mec.activate(); mec.scatter('rank', range(4), flatten=True)")
        session.type("%px import threading; everybody = threading.Lock(); everybody.acquire();")
        code = [
            "%%px --timeout 2",
            "def barrier():",
            "    everybody.acquire(timeout=60)",
            "",
            "if rank == 3:",
            "    1/0",
            "if rank < 2:",
            "    barrier()",
            "\n",
        ]
        shown = session.type("\n".join(code))
        session.type("mec.stacks()")
        session.type("mec.interrupt()")
        self.assertIn(
            "NotFinished: execute did not finish within 2 s; it is still running\n"
            "[3] failed: ZeroDivisionError: division by zero\n"
            "[0-1] still running: everybody.acquire(timeout=60)  (line 2, in barrier())\n"
            "[2] done\n",
            shown,
        )
        self.check_transcript("timeout", "Who waits for whom", session.seen)
        shown = session.type("%px --targets 0 --timeout 0.5 threading.Event().wait(60)")
        session.type("mec.interrupt()")
        self.assertRegex(
            shown,
            r"still running: threading.Event\(\).wait\(60\)  \(line 1\), inside wait of threading.py, line",
        )

    def test_progress(self) -> None:
        """A single line is updated in place, and ends with all engines done."""
        session = self.recorded_prompt()
        session.type("mec.scatter('rank', range(4), flatten=True)")
        session.type("pr = mec.execute('import time; time.sleep(rank / 5)', block=False)")
        shown = session.type("pr.wait_interactive()")
        self.assertRegex(shown, r"\rexecute: 100%\|█{20}\| 4/4 engines \[\d\d:\d\d<00:00\]")
        self.assertTrue(shown.rstrip().endswith("Out[5]: True"))
        self.check_transcript("progress", "Waiting with a progress bar", session.seen)

    def test_bars_of_engines(self) -> None:
        """A result has the last state of a bar, and shows it once."""
        session = self.recorded_prompt()
        session.type("mec.activate()")
        session.type(
            "%%px --targets 0,1\nimport time\nfrom tqdm import tqdm\n"
            "for i in tqdm(range(40)):\n    time.sleep(0.05)\n\n"
        )
        session.type("_[0]['stderr']")
        self.check_transcript("bars", "Bars that engines draw", session.seen)

    def test_plain_python(self) -> None:
        """At Python's own prompt, live output and Ctrl-C work, too; blocks explain why they do not."""
        child = pexpect.spawn(
            sys.executable,
            ["-q"],
            env={**self.environ, "PYTHON_BASIC_REPL": "1"},
            encoding="utf-8",
            timeout=60,
        )
        self.addCleanup(child.close, force=True)
        child.delaybeforesend = None

        def run(line: str) -> str:
            child.sendline(line)
            child.expect_exact(">>> ")
            return str(child.before)

        child.expect_exact(">>> ")
        run("from ipython1.kernel import client; mec = client.MultiEngineClient(); mec.targets = 0")
        shown = run("mec.execute('import time; print(1); time.sleep(1.5); print(2)')")
        self.assertIn("[0] 1\r\n[0] 2\r\n<Results List>\r\n[0] In [", shown)
        self.assertNotIn("Out[", shown)
        self.assertIn(
            "ClientError: activate() works only in IPython and notebooks", run("mec.activate()")
        )
        child.sendline("print('n' 'ow'); mec.execute('time.sleep(600)')")
        child.expect_exact("\r\nnow")
        with self.assertRaises(pexpect.TIMEOUT):
            child.expect(">>> ", timeout=0.3)
        child.sendintr()
        child.expect_exact(">>> ")
        self.assertIn("execute is still running on engine 0", child.before)
        run("pr = mec.pending[-1]; pr.abort(); pr.exception()")


class StuckTests(OnSharedCluster):
    """Engines that only a signal can end, and that are gone afterwards."""

    engines = 2

    def test_stuck_in_c_code(self) -> None:
        """The display says that the engine cannot be interrupted, and where it is; it can be killed."""
        session = self.recorded_prompt()
        session.type("mec.activate()")
        session.type(
            "%px import ctypes; libc = ctypes.PyDLL(None); lock = ctypes.create_string_buffer(64)"
        )
        session.type("%px --targets 1 libc.pthread_mutex_lock(lock)")
        session.type("def hang():\n    libc.pthread_mutex_lock(lock)\n")
        session.type("mec.push_function({'hang': hang})")
        shown = session.type("%px --timeout 1 hang()")
        self.assertIn(
            "[1] still running: line 2, in hang, in C code that holds its interpreter", shown
        )
        session.type("mec.stacks()")
        session.type("mec.interrupt(targets=1)")
        session.type("mec.kill(targets=1)")
        session.type("mec.get_ids()")
        self.check_transcript("stuck", "An engine that is stuck in C code", session.seen)
