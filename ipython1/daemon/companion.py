"""Runs a program that belongs to the process that started it: ``companion PARENT PROGRAM [ARGUMENT...]``.

The program is the same process (it is executed in place), has the terminal, and so can ask the user for a password.
But a Ctrl-C there does not reach it, because it is the parent that ends it in good order; and where the system can, the
kernel kills it when the parent is killed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from ipython1.daemon import osprocess


def companion_command(package_root: str, argv: Sequence[str]) -> list[str]:
    """The command line that runs a program as a companion of this process; the program alone where that cannot be.

    :param package_root: where the ``ipython1`` package is.
    """
    if os.name != "posix":
        return list(argv)
    code = f"import sys; sys.path.append({package_root!r}); from {__name__} import main; main(sys.argv[1:])"
    return [sys.executable, "-I", "-S", "-c", code, str(os.getpid()), *argv]


def main(argv: Sequence[str]) -> None:
    """Become the program; never returns."""
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
