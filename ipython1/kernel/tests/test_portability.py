"""What not every system has is used in :mod:`ipython1.system`, or where the way without it was chosen already."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial import unittest

import ipython1

ROOT = Path(ipython1.__file__).parent

NAMES = {
    "os": {
        *("fork", "forkpty", "register_at_fork", "getuid", "geteuid", "getgid", "getegid"),
        *(
            "getsid",
            "setsid",
            "getpgid",
            "getpgrp",
            "setpgid",
            "killpg",
            "wait",
            "waitpid",
            "waitid",
        ),
        *("WNOHANG", "ctermid", "memfd_create", "pread", "pwrite", "statvfs", "fchmod", "chown"),
        *("set_blocking", "openpty", "posix_spawn", "sysconf", "uname", "tcgetpgrp", "pidfd_open"),
        *("sched_getaffinity", "mkfifo", "nice", "pipe2", "eventfd", "sendfile"),
        *("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_DIRECTORY"),
    },
    "signal": {
        *("SIGKILL", "SIGCHLD", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCONT", "SIGSTOP"),
        *("SIGTSTP", "SIGPIPE", "SIGALRM", "SIGWINCH", "pthread_sigmask", "pthread_kill"),
        *("setitimer", "alarm", "pause", "sigwait", "sigwaitinfo", "set_wakeup_fd"),
    },
    "socket": {
        *("AF_UNIX", "AF_NETLINK", "SO_PEERCRED", "SCM_RIGHTS", "MSG_NOSIGNAL", "MSG_DONTWAIT"),
        *("CMSG_SPACE", "send_fds", "recv_fds", "socketpair"),
    },
    "select": {"poll", "epoll", "kqueue"},
}
MODULES = {"fcntl", "termios", "resource", "pwd", "grp", "pty", "tty", "curses", "syslog", "msvcrt"}
ARGUMENTS = {"pass_fds", "start_new_session", "preexec_fn", "process_group"}

MENTIONED = re.compile(rf"\b({'|'.join(sorted({*MODULES, *ARGUMENTS}.union(*NAMES.values())))})\b")

HOUSE = "system.py"
"""The module that may use all of it."""

EXCEPTIONS = {
    # Only where system.LINUX is true.
    "daemon/children.py": {"fork", "setsid", "waitpid", "WNOHANG", "pthread_sigmask"},
    "daemon/renew.py": {
        "SIGCHLD",
        "SIGHUP",
        "SIGQUIT",
        "SIGPIPE",
        "pthread_sigmask",
        "set_wakeup_fd",
    },
    "daemon/nanny.py": {"SIGCHLD", "set_wakeup_fd"},
    "kernel/host/processusage.py": {"sysconf"},
    "kernel/host/turns.py": {"poll"},
    # Only where system.PASSES_DESCRIPTORS or UNIX_SOCKETS is true.
    "daemon/handover.py": {"socketpair"},
    "daemon/settings.py": {"send_fds", "recv_fds"},
    "kernel/host/control.py": {"AF_UNIX"},
    # Only if sharedmemory.is_available().
    "kernel/host/sharedmemory.py": {"AF_UNIX", "SCM_RIGHTS", "MSG_NOSIGNAL", "CMSG_SPACE"},
    # Only where osprocess.is_linux().
    "kernel/host/peerprocess.py": {"AF_NETLINK"},
    # Only if system.HAS_OWNERS.
    "kernel/host/mountedfiles.py": {"statvfs"},
    # Only where there is a terminal of POSIX.
    "kernel/clusters/process.py": {"tcgetpgrp", "getpgrp"},
    "kernel/host/sshclient.py": {"ctermid", "tcgetpgrp", "getpgrp"},
    # A socket is woken by signals everywhere.
    "kernel/host/signalwatch.py": {"set_wakeup_fd"},
    # ssh, batch systems and containers' first processes exist on POSIX systems only.
    "daemon/firstprocess.py": {
        "fork",
        "waitpid",
        "WNOHANG",
        "SIGCHLD",
        "pthread_sigmask",
    },
    "daemon/jobmember.py": {"wait"},
    "kernel/tub/pipes.py": {"AF_UNIX", "socketpair"},
}
"""What else may be used where, because it is reached only where it exists."""


class PortabilityTests(unittest.SynchronousTestCase):
    def test_nothing_is_used_that_another_system_lacks(self) -> None:
        found = []
        for path in sorted(ROOT.rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if "tests" in path.parts or name == HOUSE or name.startswith("testing/"):
                continue
            allowed = EXCEPTIONS.get(name, set())
            found += [
                f"{name}:{line}: {what}" for line, what in unguarded(path) if what not in allowed
            ]
        self.assertEqual(found, [], "use what ipython1/system.py has for it")

    def test_no_exception_is_left_that_nothing_needs(self) -> None:
        unused = {
            name: names - {what for _, what in unguarded(ROOT / name)}
            for name, names in EXCEPTIONS.items()
        }
        self.assertEqual({name: names for name, names in unused.items() if names}, {})


def unguarded(path: Path) -> Iterator[tuple[int, str]]:
    """What a module uses without asking whether it exists: lines and names."""
    text = path.read_text()
    if not MENTIONED.search(text):
        return
    tree = ast.parse(text)
    asked = {
        node.args[1].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "hasattr"
        and isinstance(node.args[1], ast.Constant)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=module), attr=name):
                if name in NAMES.get(module, ()) and name not in asked:
                    yield node.lineno, name
            case ast.ImportFrom(module=module, names=names):
                for each in names:
                    if each.name in NAMES.get(module or "", ()) or module in MODULES:
                        yield node.lineno, each.name
            case ast.Import(names=names):
                for each in names:
                    if each.name.partition(".")[0] in MODULES:
                        yield node.lineno, each.name
            case ast.keyword(arg=argument) if argument in ARGUMENTS:
                yield node.value.lineno, argument
            case _:
                pass
