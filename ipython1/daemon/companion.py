"""Runs a program tied to the process that starts it: ``companion PARENT PROGRAM [ARGUMENT...]``.

The program runs in the same process (by ``exec``) and has the terminal, so it can ask the user for a password.  But
Ctrl-C does not reach it, because the parent stops it in an orderly way; and if the operating system supports it, the
program is killed when the parent is killed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from ipython1.daemon import osprocess


def companion_command(package_root: str, argv: Sequence[str]) -> list[str]:
    """Return the command line that runs a program as a companion of this process, or ``argv`` if unsupported.

    :param package_root: the directory that contains the ``ipython1`` package.
    """
    if os.name != "posix":
        return list(argv)
    code = f"import sys; sys.path.append({package_root!r}); from {__name__} import main; main(sys.argv[1:])"
    return [sys.executable, "-I", "-S", "-c", code, str(os.getpid()), *argv]


def main(argv: Sequence[str]) -> None:
    """Execute the program; never returns."""
    parent, *command = argv
    osprocess.end_with_parent(int(parent))
    for name in ("SIGINT", "SIGQUIT"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    for name in ("SIGPIPE", "SIGXFSZ"):  # which Python ignores
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as problem:
        print(f"cannot run {command[0]}: {problem.strerror}", file=sys.stderr)
        os._exit(127)
