"""The ``ssh`` process of a client, with a shell in its place."""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor
from twisted.internet.task import LoopingCall
from twisted.trial import unittest

from ipython1.daemon import osprocess
from ipython1.kernel.calls.sshchild import SshChild
from ipython1.testing.folders import temporary_path


class SshChildTests(unittest.TestCase):
    timeout = 60

    async def test_the_login_to_a_jump_host_ends_too(self) -> None:
        """It has the same standard error, so it would hold up whoever waits."""
        note = Path(temporary_path(self)).absolute()
        child = SshChild(
            reactor, ["sh", "-c", f"sleep 300 & echo $! >{note}.new; mv {note}.new {note}; wait"]
        )
        started = LoopingCall(lambda: note.exists() and started.stop())
        await started.start(0.01)
        child.kill()
        ended = await child.ended
        self.assertLess(ended.status, 0)
        pid = int(note.read_text())
        gone = LoopingCall(lambda: osprocess.is_alive(pid) or gone.stop())
        await gone.start(0.01)
