"""Starts a nanny on this host."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Sequence

from ipython1.daemon.pythoncommand import python_command

MODULE = "ipython1.daemon.nanny"


def start_nanny(
    *, keep: Sequence[int] = (), watch: float = 0.0, log: str = ""
) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start a nanny for this process on this host.

    :param watch: seconds of silence of this process after which the nanny says so; 0 for never.
    :param log: the file where it says so, besides standard error; empty for none.
    :param keep: additional descriptors that the nanny holds open until it exits (such as that of a lock).
    :returns: the connection to it, and the process.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        kept = ",".join(map(str, keep))
        options = ["--fd", str(theirs.fileno()), *(["--keep", kept] if kept else [])]
        options += ["--watch", f"{watch:g}", *(["--log", log] if log else [])]
        command = python_command(MODULE, ["nanny", *options])
        process = subprocess.Popen(
            command,
            pass_fds=(theirs.fileno(), *keep),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
    return ours, process
