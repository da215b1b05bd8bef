"""What ``ssh`` and hosts say when a login fails, and what a user can do about it; no input and output."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from ipython1.kernel.launchers.clusterfile import HostSpec
from ipython1.kernel.launchers.hostlogin import Trouble

HERE = ".".join(map(str, sys.version_info[:2]))
"""The version of Python that every host must have."""

SIGN = "ipython1 finds Python "
"""What a host's Python prints, with its version, before it ends because it is another one."""

REFUSALS = ("kex_exchange_identification", "Connection reset by", "Connection closed by")
"""Error messages of ``ssh`` that mean too many simultaneous logins."""

_SET_PYTHON = "set another interpreter in the cluster file (python='...')"
_NO_PROGRAM = re.compile(
    r"(?:exec: )?(\S+): (?:not found|No such file or directory|Permission denied)"
)
_SSH_SAYS = re.compile(r"^ssh: (?:connect to host \S+ port (\d+): )?(.*)$")
_CHATTER = re.compile(r"^(?:\*\* (?:WARNING|This|The server)|Warning: Permanently added)")


def explain(
    spec: HostSpec, errors: Sequence[str], strays: Sequence[str] = ()
) -> tuple[str, Trouble]:
    """Return one sentence on why a login failed, which begins with the host's name, and what kind of failure it is.

    :param errors: the lines on standard error of ``ssh``.
    :param strays: what the host printed before anything that was expected.
    """
    host = spec.host
    said = [line.strip() for line in (*strays, *errors) if line.strip()]
    said = [line for line in said if not _CHATTER.match(line)]
    for line in said:
        if line.startswith(SIGN):
            return other_python(host, line.removeprefix(SIGN)), Trouble.LASTING
    whole = "\n".join(said)
    found = _lasting(spec, whole)
    if found:
        return f"{host}: {found}", Trouble.LASTING
    if any(sign in whole for sign in REFUSALS):
        return f"{host}: {_last(said)}", Trouble.BUSY
    return f"{host}: {_last(said)}", Trouble.PASSING


def other_python(host: str, version: str) -> str:
    """Return what to say about a host whose Python is of another version."""
    return (
        f"{host} has Python {version}, but this host has {HERE}; "
        "set an interpreter of the same version in the cluster file (python='...')"
    )


def other_version(host: str, there: str, here: str) -> str:
    """Return what to say about a host with another version of this package."""
    return f"{host} has ipython1 {there}, but this host has {here}; install the same version there, or {_SET_PYTHON}"


def _lasting(spec: HostSpec, whole: str) -> str:
    if "No module named 'ipython1" in whole or "No module named ipython1" in whole:
        return (
            "ipython1 is not installed for the Python there; install it, or set another "
            "interpreter in the cluster file (python='...')"
        )
    if "HOST IDENTIFICATION HAS CHANGED" in whole:
        return (
            "its host key has changed; if you know why, forget the old one with "
            f"ssh-keygen -R {_plain(spec.host)}, and log in once by hand: ssh {spec.host}"
        )
    if "Host key verification failed" in whole or "host key is known for" in whole:
        return f"its host key is not known here; log in once by hand and accept it: ssh {spec.host}"
    if re.search(r"Permission denied \(|Too many authentication failures", whole):
        return (
            "it refuses the login, because no key of yours is accepted without a password; start an agent "
            f"(ssh-add), or copy your key: ssh-copy-id {spec.host}"
        )
    missing = _NO_PROGRAM.search(whole)
    if missing and missing[1].rstrip(":") in (spec.python, "python3"):
        return (
            f"there is no interpreter {missing[1]}; install Python {HERE} there, or {_SET_PYTHON}"
        )
    return ""


def _plain(host: str) -> str:
    return host.rpartition("@")[2]


def _last(said: Sequence[str]) -> str:
    """Return the line that says most: the last one of ``ssh`` itself, else the last one."""
    if not said:
        return "ssh exited without an error message"
    own = [line for line in said if line.startswith("ssh: ")]
    line = own[-1] if own else said[-1]
    known = _SSH_SAYS.match(line)
    if known is None:
        return line
    port = f" (port {known[1]})" if known[1] else ""
    return f"{known[2]}{port}"
