"""Starts a nanny on this host."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Sequence

from ipython1.daemon.pythoncommand import python_command
from ipython1.daemon.settings import send_settings

MODULE = "ipython1.daemon.nanny"


class NewNanny:
    """A nanny that was just started for this process on this host.

    It waits for :meth:`set_up`; meanwhile it imports what it is going to need.

    :param program: the module of a program that it certainly will have to start; empty for none.
    :ivar connection: to it.
    :ivar process: its process.
    :ivar waits: whether it was not set up yet.
    """

    def __init__(self, program: str = "") -> None:
        self.waits = True
        self.connection, theirs = socket.socketpair()
        with theirs:
            options = ["--fd", str(theirs.fileno()), *(["--program", program] if program else [])]
            self.process = subprocess.Popen(
                python_command(MODULE, ["nanny", *options]),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )

    def set_up(
        self, *, keep: Sequence[int] = (), watch: float = 0.0, log: str = "", title: str = ""
    ) -> None:
        """Have it begin.

        :param watch: seconds of silence of this process after which it says so; 0 for never.
        :param log: the file where it says so, besides standard error; empty for none.
        :param title: what ``ps`` shows of it.
        :param keep: descriptors that it holds open until it exits (such as that of a lock).
        """
        self.waits = False
        with contextlib.suppress(ConnectionError):  # it has ended, which its supervisor will notice
            send_settings(self.connection, keep=keep, watch=watch, log=log, title=title)

    def give_up(self) -> None:
        """End it before :meth:`set_up`; it has started nothing."""
        self.connection.close()
        self.process.kill()
        self.process.wait()
