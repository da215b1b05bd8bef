"""A session in IPython's full terminal interface, seen through tmux: typed, pasted, interrupted."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.interactive import OnSharedCluster


class Terminal:
    """A private tmux server with one window, in which IPython runs with prompt_toolkit."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._folder = tempfile.mkdtemp(prefix="ipython1-tmux-")
        self._socket = str(Path(self._folder) / "socket")
        self._gates = 0
        command = [
            sys.executable,
            "-m",
            "IPython",
            "--no-banner",
            "--no-confirm-exit",
            "--HistoryManager.enabled=False",
            "--TerminalInteractiveShell.autoformatter=None",
            "--TerminalInteractiveShell.autosuggestions_provider=None",
        ]
        environ = {**environ, "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm-256color"}
        environ.pop("NO_COLOR", None)
        environ.pop("TMUX", None)
        self._environ = environ
        self.tmux(
            "-f", "/dev/null", "new-session", "-d", "-x", "140", "-y", "50", shlex.join(command)
        )

    def tmux(self, *arguments: str) -> str:
        """Run a command of tmux."""
        return subprocess.run(
            ["tmux", "-S", self._socket, *arguments],
            env=self._environ,
            cwd=self._folder,
            check=True,
            capture_output=True,
            text=True,
            timeout=20,
        ).stdout

    def screen(self) -> str:
        """Everything shown so far, as plain text."""
        return self.tmux("capture-pane", "-p", "-J", "-S", "-")

    def wait_for(self, pattern: str, timeout: float = 60.0) -> str:
        """Wait until the screen has a match; returns the screen."""
        deadline = time.monotonic() + timeout
        while True:
            screen = self.screen()
            if re.search(pattern, screen, re.MULTILINE):
                return screen
            if time.monotonic() > deadline:
                raise AssertionError(f"{pattern!r} is not on the screen:\n{screen}")
            time.sleep(0.1)

    def wait_for_prompt(self, number: int) -> str:
        return self.wait_for(rf"^In \[{number}\]:\s*\Z")

    def type(self, text: str) -> None:
        """Type one line, and Enter."""
        self.tmux("send-keys", "-l", text)
        self.tmux("send-keys", "Enter")

    def paste(self, text: str) -> None:
        """Paste a block, as with the mouse, and run it."""
        self.tmux("set-buffer", text)
        self.tmux("paste-buffer", "-p")
        self.tmux("send-keys", "Escape", "Enter")

    def gate(self) -> str:
        """Return an expression for engines that waits for the next :meth:`let_go_on`, and is false.

        What moves stands still there, so that it is seen on a busy machine, too.
        """
        is_closed = f"not __import__('os').path.exists({self._gate()!r})"
        return f"any(map(__import__('time').sleep, iter(lambda: 0.02 * ({is_closed}), 0)))"

    def let_go_on(self) -> None:
        """Open the gate."""
        Path(self._gate()).touch()
        self._gates += 1

    def _gate(self) -> str:
        return f"{self._folder}/gate{self._gates}"

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.tmux("send-keys", "C-c")

    def close(self) -> None:
        try:
            subprocess.run(
                ["tmux", "-S", self._socket, "kill-server"],
                check=False,
                capture_output=True,
                timeout=20,
            )
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)


class TerminalTests(OnSharedCluster):
    if shutil.which("tmux") is None:
        skip = "tmux is not installed"

    engines = 2

    def test_session(self) -> None:
        """Magics, blocks, autopx, live output and Ctrl-C, in a terminal as people really use it."""
        terminal = Terminal(self.environ)
        self.addCleanup(terminal.close)
        terminal.wait_for_prompt(1)
        terminal.type(
            "from ipython1.kernel import client; mec = client.MultiEngineClient(); mec.activate()"
        )
        terminal.wait_for_prompt(2)

        terminal.type("px print(6 * 7)")
        screen = terminal.wait_for_prompt(3)
        self.assertRegex(
            screen,
            r"Executing command on Controller\nOut\[2\]:\s*\n<Results List>\n\[0\] In \[1\]: print",
        )
        self.assertIn("[1] Out[1]: 42", screen)

        terminal.paste(
            "with mec as block:\n    client.remote()\n    a = [i ** 2 for i in range(4)]\n    a[-1]\n"
        )
        terminal.wait_for_prompt(4)
        terminal.type("block.result")
        self.assertIn("[1] Out[2]: 9", terminal.wait_for_prompt(5))

        terminal.type("%autopx")
        self.assertIn("Auto Parallel Enabled\nType %autopx to disable", terminal.wait_for_prompt(6))
        terminal.paste("for i in a:\n    print('square', i)\n")
        self.assertIn(
            "[0] Out[3]: square 0\nsquare 1\nsquare 4\nsquare 9", terminal.wait_for_prompt(7)
        )
        terminal.type("await __import__('asyncio').sleep(0, 'awaited')")
        self.assertIn("[1] Out[4]: 'awaited'", terminal.wait_for_prompt(8))
        terminal.type("1/0")
        screen = terminal.wait_for_prompt(9)
        self.assertIn("[1:execute]: ZeroDivisionError: division by zero", screen)
        terminal.type("%autopx")
        self.assertIn("Auto Parallel Disabled", terminal.wait_for_prompt(10))

        terminal.type("%px import time; print('live'); time.sleep(600)")
        terminal.wait_for(r"^\[1\] live$")
        terminal.interrupt()
        screen = terminal.wait_for_prompt(11)
        self.assertIn(
            "KeyboardInterrupt: execute is still running on engines 0-1. mec.pending[-1] is this call",
            screen,
        )
        terminal.type("mec.interrupt()")
        screen = terminal.wait_for_prompt(12)
        self.assertRegex(screen, r'\[1\] execute\("import time; print.* was interrupted')

        # The labels are coloured, as the session is.
        terminal.type("mec.execute('1')")
        terminal.wait_for_prompt(13)
        self.assertIn("\x1b[32m[0] In [", terminal.tmux("capture-pane", "-p", "-e", "-J"))

    def test_tasks_and_bars(self) -> None:
        """Bars that engines draw move on lines of their own; so does the progress of maps, with what failed."""
        terminal = Terminal(self.environ)
        self.addCleanup(terminal.close)
        terminal.wait_for_prompt(1)
        terminal.type(
            "from ipython1.kernel import client; mec = client.MultiEngineClient(); mec.activate(); "
            "tc = client.TaskClient()"
        )
        terminal.wait_for_prompt(2)

        terminal.paste(NESTED.format(gate=terminal.gate()))
        terminal.wait_for(
            r"^\[0\] outer: +\d+%.*\n\[0\] inner: +[1-9]\d?%.*\n\[1\] outer.*\n\[1\] inner: +[1-9]\d?%.*\n*\Z"
        )
        terminal.let_go_on()
        screen = terminal.wait_for_prompt(3)
        before = min(screen.index(f"[{n}] written") for n in (0, 1))
        shown = re.sub(r" *\[\d\d:.*\]$", "", screen[before : screen.index("Out[2]")], flags=re.M)
        lines = [line for line in shown.split("\n") if line.strip()]
        # Those of an engine come in this order; one engine may be done before the other.
        wanted = [[f"[{n}] written", f"[{n}] outer: 100%|{'█' * 10}| 3/3"] for n in (0, 1)]
        found = [[line for line in lines if line.startswith(f"[{n}]")] for n in (0, 1)]
        self.assertEqual((found, len(lines)), (wanted, 4), screen)
        terminal.type("[each['stderr'].count('\\r') for each in _]")
        self.assertIn("Out[3]: [0, 0]", terminal.wait_for_prompt(4))

        terminal.paste(RICH.format(gate=terminal.gate()))
        terminal.wait_for(
            r"^\[0\] first .* +\d+% .*\n\[0\] second .*\n\[1\] first .*\n\[1\] second .*\n*\Z"
        )
        terminal.let_go_on()
        screen = terminal.wait_for_prompt(5)
        for line in (r"\[0\] half *", r"\[0\] first +━+ 100% .*", r"\[1\] second +━.* 50% .*"):
            self.assertEqual(len(re.findall(rf"^{line}$", screen, re.M)), 1, screen)

        terminal.type(
            "values = tc.map(lambda x: __import__('time').sleep(0.05) or "
            f"(x == 200 and {terminal.gate()}) or 1 // (x % 20), range(240))"
        )
        terminal.wait_for(r"^map: +\d+%\|█.*\| \d+/240 items \[.*, \d+ failed\] *$")
        terminal.let_go_on()
        screen = terminal.wait_for_prompt(6)
        self.assertNotIn("items [", screen)
        terminal.type("values = mec.map(lambda x: __import__('time').sleep(0.1), range(600))")
        terminal.wait_for(r"^map: +\d+%\|█.*\| \d+/600 items \[.*\] *$")
        terminal.interrupt()
        self.assertNotIn("items [", terminal.wait_for_prompt(7))
        terminal.type("mec.interrupt()")
        terminal.wait_for_prompt(8)

        terminal.paste(TASK)
        terminal.wait_for(
            r"^map: .* 0/2 items .*\n\[\d\] item \d: +\d+%.*\n\[\d\] item \d: +\d+%.*\n*\Z"
        )
        terminal.interrupt()
        screen = terminal.wait_for_prompt(9)
        self.assertIn("KeyboardInterrupt: the map was aborted when 0 of 2 items were done", screen)
        self.assertNotIn("item 1: ", screen)

        terminal.paste(WIDGET.format(gate=terminal.gate()))
        terminal.wait_for(r"^\[0\] load \|█+ +\| \d+/60\n\[1\] load \|█+ +\| \d+/60$")
        terminal.let_go_on()
        terminal.wait_for_prompt(10)

        terminal.type("values = list(tc.executor().map(slow, range(2)))")
        terminal.wait_for(
            r"^map: .* 0/2 calls .*\n\[\d\] item \d: +\d+%.*\n\[\d\] item \d: +\d+%.*\n*\Z"
        )
        terminal.interrupt()
        terminal.wait_for_prompt(11)

    def test_without_engines(self) -> None:
        """A wait for tasks says why nothing goes on."""
        terminal = Terminal(self.environ)
        self.addCleanup(terminal.close)
        terminal.wait_for_prompt(1)
        terminal.type(
            "from ipython1.kernel import client; tc = client.TaskClient(); client.MultiEngineClient().kill()"
        )
        terminal.wait_for_prompt(2)
        terminal.type("tc.map(abs, range(12))")
        terminal.wait_for(r"^no engine is registered; 12 items wait$")
        terminal.interrupt()
        screen = terminal.wait_for_prompt(3)
        self.assertNotIn("no engine is registered", screen)
        terminal.type("tc.run(client.StringTask('a = 1'), block=True)")
        terminal.wait_for(r"^no engine is registered; 1 task waits$")
        terminal.interrupt()
        terminal.wait_for_prompt(4)


NESTED = """%%px
import time
from tqdm import tqdm, trange
for i in trange(3, desc='outer'):
    for j in trange(20, desc='inner', leave=False):
        time.sleep(0.05)
        if (i, j) == (0, 10): {gate}
    if i == 1:
        tqdm.write('written')
"""

RICH = """%%px
from rich.progress import Progress
with Progress() as bars:
    first, second = bars.add_task('first', total=80), bars.add_task('second', total=160)
    for i in range(80):
        bars.advance(first); bars.advance(second); time.sleep(0.05)
        if i == 20:
            print('half')
        if i == 40: {gate}
"""

TASK = """def slow(x):
    import time
    from tqdm import tqdm
    for i in tqdm(range(600), desc=f'item {x}'):
        time.sleep(0.1)
values = tc.map(slow, range(2))
"""

WIDGET = """%%px
import ipywidgets
bar = ipywidgets.IntProgress(description='load', max=60)
display(bar)
for bar.value in range(61):
    time.sleep(0.04)
    if bar.value == 30: {gate}
"""
