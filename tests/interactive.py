"""Tools for the tests of interactive sessions: a cluster, an IPython in a pseudo-terminal, and transcripts of it."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import IPython
import pexpect

from tests.sharedcluster import SharedClusterCase

TRANSCRIPTS = Path(__file__).resolve().parent.parent / "docs" / "source" / "transcripts"
ALIGN = Path(__file__).resolve().parent / "programs" / "align_engines.py"
REWRITE = "IPYTHON1_WRITE_TRANSCRIPTS"
"""If the environment has this variable, transcripts are written instead of compared."""

TIMEOUT = 60.0
"""Seconds to wait for the next prompt on a busy machine."""


class OnSharedCluster(SharedClusterCase):
    """Sessions of users of one cluster."""

    if not sys.platform.startswith("linux"):
        skip = "these sessions are driven and looked at by means of Linux"

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a session that finds the cluster, with a private place for everything else."""
        assert self.cluster is not None
        return {**self.cluster.environ, "TERM": "dumb", "NO_COLOR": "1", "PYTHONSAFEPATH": "1"}

    def prompt(self, *options: str) -> PromptSession:
        """A new IPython session, ended when the test ends."""
        session = PromptSession(self.environ, options)
        self.addCleanup(session.close)
        return session

    def recorded_prompt(self) -> PromptSession:
        """The same for a transcript, which must not show what earlier tests did to the engines."""
        return self.prompt(f"--InteractiveShellApp.exec_files={ALIGN}")

    def align_engines(self) -> None:
        """Reset the engines, and give their next command the same number."""
        assert self.cluster is not None
        self.cluster.run_program(ALIGN)

    def check_transcript(self, name: str, title: str, seen: str) -> None:
        """Check that the session looks as in ``transcripts/NAME.txt`` of the documentation."""
        if IPython.version_info[0] < 9:
            return
        path = TRANSCRIPTS / f"{name}.txt"
        page = transcript_page(title, normalized(seen))
        if os.environ.get(REWRITE):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(page)
            return
        self.maxDiff = None
        self.assertEqual(
            path.read_text() if path.exists() else "",
            page,
            f"{path.name} is not what a person sees now; set {REWRITE}=1 to write it anew",
        )


def transcript_page(title: str, text: str) -> str:
    """A page of the documentation that shows ``text``."""
    line = "=" * len(title)
    indented = "".join(f"    {each}".rstrip() + "\n" for each in text.splitlines())
    return f"{line}\n{title}\n{line}\n\n.. code-block:: text\n\n{indented}"


class PromptSession:
    """IPython with its simple prompt, used as a person would.

    :param options: more options of IPython.
    :ivar seen: everything that the terminal has shown so far, including the first prompt.
    """

    def __init__(self, environ: dict[str, str], options: Sequence[str] = ()) -> None:
        self._folder = tempfile.mkdtemp(prefix="ipython1-prompt-")
        colors = "nocolor" if IPython.version_info[0] >= 9 else "NoColor"
        self.child = pexpect.spawn(
            sys.executable,
            [
                "-m",
                "IPython",
                "--simple-prompt",
                "--no-banner",
                "--no-confirm-exit",
                f"--colors={colors}",
                "--HistoryManager.enabled=False",
                *options,
            ],
            env=environ,
            cwd=self._folder,
            encoding="utf-8",
            timeout=TIMEOUT,
            dimensions=(50, 120),
        )
        self.child.delaybeforesend = None
        self.seen = ""
        self._number = 1
        self._expect_prompt()
        self.type("from ipython1.kernel import client")
        self.type("mec = client.MultiEngineClient()")

    def _expect_prompt(self) -> str:
        """Wait until IPython asks for the next input; returns what it showed before."""
        at_start = "" if not self.seen else "\r\n"
        which = self.child.expect(
            [rf"{at_start}In \[{self._number}\]: ", r"ipdb> ", r"(?<=\n) +\.\.\.: "]
        )
        before = self.child.before.replace("\r\n", "\n")
        after = self.child.after.replace("\r\n", "\n")
        self.seen += before + after
        if which == 0:
            self._number += 1
        return before

    def type(self, text: str) -> str:
        """Type one line or a block, and Enter; returns what came before the next prompt, without the echo.

        A block ends with an empty line, or with two if it is a cell magic.
        """
        lines = text.split("\n")
        shown = ""
        for line in lines:
            self.child.sendline(line)
            shown = self._expect_prompt()
        return shown.split("\n", 1)[1] if "\n" in shown else ""

    def start(self, line: str, until: str = "") -> None:
        """Type a line, and wait until ``until`` is shown, not for the next prompt."""
        self.child.sendline(line)
        if until:
            self.child.expect_exact(until)
            self.seen += (self.child.before + self.child.after).replace("\r\n", "\n")

    def finish(self) -> str:
        """Wait for the prompt that :meth:`start` did not wait for."""
        return self._expect_prompt()

    def interrupt(self) -> str:
        """Ctrl-C; returns what is shown then."""
        self.child.sendintr()
        return self._expect_prompt()

    def close(self) -> None:
        """End it."""
        try:
            self.child.close(force=True)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)


def normalized(text: str) -> str:
    """A transcript without what differs each time: times, addresses, process ids and command numbers."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    text = re.sub(r"^.*\r(?=.)", "", text, flags=re.MULTILINE)
    text = re.sub(r"\bIn \[\d+\]: $", "", text).strip() + "\n"
    text = re.sub(r"\b\d+\.\d s\b", "0.0 s", text)
    text = re.sub(r"\[\d\d:\d\d<\d\d:\d\d\]", "[00:00<00:00]", text)
    text = re.sub(r"\[\d\d:\d\d<\d\d:\d\d, +[\d.]+it/s\]", "[00:02<00:00, 20.00it/s]", text)
    text = re.sub(r"\bprocess \d+\b", "process 12345", text)
    text = re.sub(r"<ipython-input-\d+-\w+>", "<ipython-input-1>", text)
    text = re.sub(r"(<MultiEngineClient of )[^)]*\)", r"\g<1>127.0.0.1:12345 (...)", text)
    text = re.sub(r"^( *controller +)\S+ \(.*\)$", r"\g<1>127.0.0.1:12345 (...)", text, flags=re.M)
    # How far a call is when it is shown depends on the machine.
    state = r"(<PendingResult of \w+: )(?:\d+ of (\d+) engines done|finished)>"
    text = re.sub(state, lambda m: f"{m[1]}0 of {m[2] or 4} engines done>", text)
    text = re.sub(r"File [^\n:]*[/\\](\w+\.py):\d+", r"File \1:1", text)
    text = re.sub(r"(of \w+\.py, line) \d+", r"\1 1", text)
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    return _renumbered(text)


def _renumbered(text: str) -> str:
    """Number the engines' commands as on a cluster that has run nothing before."""
    label = re.compile(r"^\[(\d+)[\d,-]*\] (?:In |Out|Err)\[(\d+)\]:", re.MULTILINE)
    first: dict[str, int] = {}
    for engine, number in label.findall(text):
        first[engine] = min(first.get(engine, int(number)), int(number))

    def renumber(match: re.Match[str]) -> str:
        number = int(match[2])
        return match[0].replace(f"[{number}]:", f"[{number - first[match[1]] + 1}]:")

    text = label.sub(renumber, text)
    # Engines' cells appear in tracebacks below an engine's label, and in the middle of lines.
    below_label = re.compile(r"^\[[\d,-]+:\w+\]:?\n(?:.+\n|\n(?!\n?In \[))+", re.MULTILINE)
    cell = re.compile(r"(?<=[ (])Cell In\[(\d+)\]")
    parts = [match[0] for match in below_label.finditer(text)]
    numbers = sorted(
        {int(each) for each in cell.findall(text)}
        | {int(each) for part in parts for each in re.findall(r"Cell In\[(\d+)\]", part)}
    )
    places = {number: place for place, number in enumerate(numbers, 1)}

    def replace(match: re.Match[str]) -> str:
        return f"Cell In[{places[int(match[1])]}]"

    text = below_label.sub(lambda match: re.sub(r"Cell In\[(\d+)\]", replace, match[0]), text)
    return cell.sub(replace, text)
