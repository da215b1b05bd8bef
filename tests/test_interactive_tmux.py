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
