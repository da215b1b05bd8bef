"""Start and end testbeds by hand; ``scripts/testbed`` runs this.

Each testbed's file, ``tests/testbeds/NAME.py``, explains what it is for and how to use it.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tests import browser, cleanroot
from tests.testbeds import htcondor, mpi, packages, supervisor
from tests.testbeds.lib import Failed, Missing, read_hosts


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for.

    :returns: the exit status.
    """
    given = _parser().parse_args(arguments)
    try:
        status: int = given.action(given)
    except (Missing, Failed, ValueError) as problem:
        print(f"testbed: {problem}", file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/testbed", description=__doc__)
    parser.add_argument(
        "--directory",
        type=Path,
        help="the testbed's files; by default a directory of its name in /tmp",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    def add(name: str, action: object, text: str) -> argparse.ArgumentParser:
        found = actions.add_parser(name, help=text, description=text)
        found.set_defaults(action=action)
        return found

    names = ", ".join(supervisor.BEDS)
    up = add("up", _up, "start a testbed, and print the environment variables by which it is found")
    up.add_argument("name", help=names)
    up.add_argument("settings", nargs="*", metavar="SETTING=VALUE")
    down = add("down", _down, "end a testbed, with all its processes, and remove its files")
    down.add_argument("name", help=names)
    on = add("on", _on, "run a command on a host of the testbed netns")
    on.add_argument("host")
    on.add_argument("command", nargs=argparse.REMAINDER)
    check = add("mpi", _mpi, "run a small program under an MPI, and print the command that does so")
    check.add_argument("names", nargs="*", help=f"all by default: {', '.join(mpi.MPIS)}")
    add("install", _install, "install what the testbeds need, where that is possible")
    supervise = add("supervise", _supervise, "run a testbed in the foreground until Ctrl-C")
    supervise.add_argument("--tied", action="store_true", help="end with the standard input, too")
    supervise.add_argument("name", help=names)
    supervise.add_argument("settings", nargs="*", metavar="SETTING=VALUE")
    return parser


def _settings(given: argparse.Namespace) -> dict[str, str]:
    found = {}
    for setting in given.settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"{setting!r} is no SETTING=VALUE")
        found[name] = value
    return found


def _up(given: argparse.Namespace) -> int:
    bed = supervisor.make(given.name, given.directory, _settings(given))
    for name, value in supervisor.up(bed).environ.items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def _down(given: argparse.Namespace) -> int:
    bed = supervisor.make(given.name, given.directory, {})
    if not supervisor.down(bed):
        print(f"testbed: {given.name} is not up", file=sys.stderr)
    return 0


def _on(given: argparse.Namespace) -> int:
    hosts = read_hosts(given.directory or supervisor.default_directory("netns"))
    if given.host not in hosts or not given.command:
        raise ValueError(f"say which command to run on which of {', '.join(hosts)}")
    command = hosts[given.host].command(*given.command)
    os.execvp(command[0], command)


def _mpi(given: argparse.Namespace) -> int:
    status = 0
    for name in given.names or mpi.MPIS:
        if name not in mpi.MPIS:
            raise ValueError(f"there is no MPI {name!r}; there are: {', '.join(mpi.MPIS)}")
        try:
            print(f"{name}: {mpi.check(name)}")
            launcher, python = mpi.program(name)
            print(f"  {launcher} -n 4 {python}")
        except Missing as problem:
            print(f"{name}: {problem}")
            status = 1
    return status


def _install(given: argparse.Namespace) -> int:
    for each in mpi.MPIS.values():
        mpi.install(each)
        packages.install("mpi", each.needs)
    for bed in supervisor.BEDS.values():
        packages.install(bed.name, (*bed.install_first, *bed.needs))
    packages.install("htcondor", htcondor.INSTALL_NEEDS)
    htcondor.install()
    packages.install("browser", browser.NEEDS)
    packages.install("clean root", cleanroot.NEEDS)
    return 0


def _supervise(given: argparse.Namespace) -> int:
    bed = supervisor.make(given.name, given.directory, _settings(given))
    return supervisor.supervise(bed, tied=given.tied)


if __name__ == "__main__":
    sys.exit(main())
