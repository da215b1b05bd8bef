"""Commands that do not end, cannot be found, or read what they are given."""

from __future__ import annotations

import sys

from twisted.internet import reactor
from twisted.trial import unittest

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers.batchcommands import NoAnswer, one_line, run_command


class CommandTests(unittest.TestCase):
    timeout = 60

    async def test_what_it_reads_and_says(self) -> None:
        status, text = await run_command(
            reactor, ["sh", "-c", "cat; echo bad >&2; exit 3"], b"job script\n"
        )
        self.assertEqual((status, sorted(text.split())), (3, ["bad", "job", "script"]))

    async def test_a_program_that_is_gone(self) -> None:
        with self.assertRaisesRegex(ClusterError, "program 'no-such-sbatch' not found"):
            await run_command(reactor, ["no-such-sbatch", "--parsable"])

    async def test_one_that_is_killed_by_a_signal_has_failed(self) -> None:
        status, _ = await run_command(reactor, ["sh", "-c", "kill -9 $$"])
        self.assertEqual(status, 1)

    async def test_one_that_never_ends_is_killed(self) -> None:
        code = "import time; print('up', flush=True); time.sleep(300)"
        with self.assertRaisesRegex(NoAnswer, "did not answer within 0.5 s"):
            await run_command(reactor, [sys.executable, "-c", code], limit=0.5)

    def test_a_message_is_one_line(self) -> None:
        self.assertEqual(one_line("sbatch: error:\n  no\n"), "sbatch: error: no")
        self.assertEqual(one_line(" \n"), "no error message")
