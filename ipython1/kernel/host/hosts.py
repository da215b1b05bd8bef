"""Identifies this machine, so that two processes can tell whether they can signal each other."""

from __future__ import annotations

import getpass
import os
import platform
from functools import lru_cache

from ipython1.system import user_id


def host_identity() -> str:
    """Return a string that is equal for two processes only if they share a machine, a PID namespace and a user."""
    return _identity_of(os.getpid(), user_id())


@lru_cache(maxsize=1)
def _identity_of(pid: int, user: int | None) -> str:
    """Return the identity of this process, which has this pid: a child may be in another namespace."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        boot, space = platform.node(), ""
    return f"{platform.node()}|{boot}|{space}|{'' if user is None else user}"


def user_label() -> str:
    """Return ``user@host`` of this process, for people."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "?"
    return f"{user}@{platform.node()}"
