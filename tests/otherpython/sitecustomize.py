"""Takes away from Python what Windows' lacks, in every process that has this directory in ``PYTHONPATH``.

The libraries that ipython1 uses are imported before, as on Windows they do without.  A pair of sockets over loopback is
there on Windows, but Python's own works differently on Linux, so ``socketpair`` is taken away, too.
"""

from __future__ import annotations

import importlib
import os
import selectors
import shutil
import signal
import socket
import stat
import subprocess
import sys
import types
from typing import Any

OF_OS = (
    *(
        "fork",
        "forkpty",
        "register_at_fork",
        "getuid",
        "geteuid",
        "getgid",
        "getsid",
        "setsid",
        "getpgid",
        "getpgrp",
    ),
    *(
        "killpg",
        "waitpid",
        "waitid",
        "wait",
        "WNOHANG",
        "ctermid",
        "memfd_create",
        "pread",
        "pwrite",
        "statvfs",
    ),
    *(
        "fchmod",
        "set_blocking",
        "openpty",
        "posix_spawn",
        "sysconf",
        "uname",
        "tcgetpgrp",
        "sched_getaffinity",
    ),
    *("pidfd_open", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"),
)
OF_SIGNAL = (
    *(
        "SIGKILL",
        "SIGCHLD",
        "SIGHUP",
        "SIGQUIT",
        "SIGUSR1",
        "SIGUSR2",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGPIPE",
    ),
    *("SIGALRM", "SIGWINCH", "pthread_sigmask", "pthread_kill", "setitimer"),
)
OF_SOCKET = ["AF_UNIX", "SO_PEERCRED", "send_fds", "recv_fds", "socketpair"]
OF_SELECTORS = ("PollSelector", "EpollSelector")
MODULES = ("fcntl", "termios", "resource", "pwd", "grp")


LIBRARIES = (
    *("asyncio", "concurrent.futures.process", "multiprocessing.util", "getpass", "ssl"),
    *("foolscap.api", "IPython", "OpenSSL", "psutil", "setproctitle", "cloudpickle"),
    *("twisted.internet.reactor", "twisted.internet.endpoints", "twisted.internet.process"),
    "twisted.internet.threads",
)


def import_libraries() -> None:
    """Import what would fail to be imported later."""
    from twisted.internet import posixbase, selectreactor

    selectreactor.install()
    for name in LIBRARIES:
        importlib.import_module(name)
    posixbase.unixEnabled = False


def keep_subprocess() -> None:
    """Let Python's own ``subprocess`` work: on Windows it is another one."""
    copy: Any = types.ModuleType("os")
    copy.__dict__.update(os.__dict__)
    subprocess.os = copy  # type: ignore[attr-defined]
    begin = subprocess.Popen.__init__

    def checked(self: Any, *arguments: Any, **options: Any) -> None:
        if options.get("pass_fds") or options.get("preexec_fn"):
            raise ValueError("descriptors are not passed on Windows")
        begin(self, *arguments, **options)

    subprocess.Popen.__init__ = checked  # type: ignore[method-assign]


def keep_shutil() -> None:
    """Let ``shutil`` remove trees by their names, as it does on Windows."""
    shutil._use_fd_functions = False  # type: ignore[attr-defined]


def only_sockets() -> None:
    """Let ipython1 wait for nothing but sockets."""
    register = selectors.SelectSelector.register

    def checked(self: Any, fileobj: Any, events: int, data: Any = None) -> Any:
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.startswith("ipython1") and not stat.S_ISSOCK(os.fstat(number).st_mode):
            raise OSError("an operation was attempted on something that is not a socket")
        return register(self, fileobj, events, data)

    selectors.SelectSelector.register = checked  # type: ignore[method-assign]


def take_away() -> None:
    """Do it."""
    for module, names in ((os, OF_OS), (signal, OF_SIGNAL), (socket, OF_SOCKET)):
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    for name in OF_SELECTORS:
        if hasattr(selectors, name):
            delattr(selectors, name)
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]


import_libraries()
keep_subprocess()
keep_shutil()
only_sockets()
take_away()
