"""Starts a nanny on this host."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Sequence

from ipython1.daemon.handover import Handover
from ipython1.daemon.pythoncommand import python_command
from ipython1.daemon.settings import send_settings

MODULE = "ipython1.daemon.nanny"


class NewNanny:
    """A nanny that was just started for this process on this host.

    It waits for :meth:`set_up`; meanwhile it imports what it is going to need.

    :param program: the module of a program that it certainly will have to start; empty for none.
    :ivar process: its process.
    :ivar waits: whether it was not set up yet.
    """

    def __init__(self, program: str = "") -> None:
        self.waits: bool = True
        self._handover = Handover()
        number = str(self._handover.number)
        options = ["--fd", number, *(["--program", program] if program else [])]
        command = python_command(MODULE, ["nanny", *options])
        self.process: subprocess.Popen[bytes] = self._handover.start(
            command, stdout=subprocess.DEVNULL
        )

    @property
    def connection(self) -> socket.socket:
        """The connection to it, which may have to be waited for."""
        return self._handover.connection(self.process)

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
        self._handover.close()
        self.process.kill()
        self.process.wait()
