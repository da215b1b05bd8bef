"""``python -m ipython1 --check``: what is installed, and what this machine can do."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from ipython1.config import ConfigError
from ipython1.daemon.pythoncommand import python_command
from ipython1.daemon.streams import open_standard_streams
from ipython1.kernel.basics.error import KernelError
from ipython1.kernel.scripts import arguments
from ipython1.kernel.scripts.arguments import OneLineParser
from ipython1.kernel.scripts.checkelsewhere import check_elsewhere
from ipython1.kernel.scripts.checkmachine import check_machine
from ipython1.kernel.scripts.checkversions import check_versions
from ipython1.kernel.scripts.findings import Finding, ask, kill_all, within_limit
from ipython1.kernel.scripts.output import writing
from ipython1.kernel.scripts.tables import aligned
from ipython1.kernel.watching.amounts import bytes_text
from ipython1.version import __version__

DIRECTORY: Final = "directory"
ENOUGH: Final = 100e6
"""Bytes of a disk that have to be free."""

TRIAL: Final = "a trial"
TRIAL_LIMIT: Final = 90.0
"""Seconds that a cluster of one engine may take, to start, to compute and to stop."""

TRIAL_GRACE: Final = 10.0
"""Seconds that it may take to end after Ctrl-C, before its client is killed."""

EXAMPLES: Final = """\
examples:
  python -m ipython1 --check        versions, and what this machine can do
  python -m ipython1 ipcluster -n 4 the same as: ipcluster -n 4
"""


def make_parser() -> OneLineParser:
    """The command line."""
    parser = OneLineParser(
        "python -m ipython1",
        description="Check this installation, or run one of the commands.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.words = ("ipcluster", "ipcontroller", "ipengine")
    parser.add_argument(
        "--check",
        action="store_true",
        help="tell versions and what this machine can do, and try a cluster of one engine; exit status 1 if "
        "something has to be mended",
    )
    parser.add_argument("--json", action="store_true", help="with --check: as a JSON list")
    parser.add_argument(
        "--ipython-dir",
        type=arguments.directory,
        metavar="DIR",
        help="the directory to check (default: $IPYTHONDIR or ~/.ipython)",
    )
    parser.add_argument("--version", action="version", version=f"ipython1 {__version__}")
    return parser


def main(argv: Sequence[str]) -> int:
    """Do what the command line says; return the exit status."""
    open_standard_streams()
    parser = make_parser()
    given, others = parser.parse_known_args(argv)
    if others:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    if not given.check:
        if given.json or given.ipython_dir:
            parser.error("--json and --ipython-dir are options of --check")
        parser.print_help()
        return 0
    try:
        return writing(parser.prog, lambda: _report(given))
    except KeyboardInterrupt:
        print(f"\n{parser.prog}: interrupted", file=sys.stderr)
        return 1
    finally:
        kill_all()


def _report(given: argparse.Namespace) -> int:
    found = _show(check(given.ipython_dir), quiet=given.json)
    bad = [finding.name for finding in found if finding.state == "bad"]
    if given.json:
        print(json.dumps([asdict(each) for each in found], indent=1))
    else:
        print(f"\nto be mended: {', '.join(bad)}" if bad else "\nnothing has to be mended")
    return 1 if bad else 0


def _show(findings: Iterator[Finding], quiet: bool) -> list[Finding]:
    """Print each as it is found; return all."""
    found = []
    group = ""
    for finding in findings:
        found.append(finding)
        if not quiet:
            if finding.group != group:
                print(("\n" if group else "") + finding.group)
                group = finding.group
            print(
                f"  {aligned([[finding.name.ljust(18), finding.state.ljust(7), finding.text]])[0]}",
                flush=True,
            )
    return found


def check(directory: Path | None = None) -> Iterator[Finding]:
    """Look at everything, one thing after the other.

    :param directory: the IPython directory; default: the usual one.
    """
    yield from check_versions()
    yield from check_machine()
    yield from check_elsewhere()
    yield from _directory(directory)
    yield _cluster()


def _directory(given: Path | None) -> Iterator[Finding]:
    yield within_limit(DIRECTORY, "files", lambda: _files(given), "bad")
    yield within_limit(DIRECTORY, "settings", lambda: _settings(given), "bad")


def _files(given: Path | None) -> Finding:
    from ipython1.kernel.host.security import IPythonDirs

    try:
        dirs = IPythonDirs.resolve(given)
        if not dirs.ipython_dir.exists():
            return _directory_to_make(dirs.ipython_dir)
        dirs.prepare()
        free = shutil.disk_usage(dirs.ipython_dir).free
    except (KernelError, OSError) as problem:
        return Finding(DIRECTORY, "files", "bad", str(problem))
    text = f"{dirs.ipython_dir}, {bytes_text(free)} free"
    return Finding(DIRECTORY, "files", "ok" if free > ENOUGH else "bad", text)


def _directory_to_make(path: Path) -> Finding:
    """Whether a directory can be made, without making it."""
    above = next(each for each in path.parents if each.exists())
    try:
        with tempfile.TemporaryDirectory(dir=above, prefix=".ipython1-check-"):
            free = shutil.disk_usage(above).free
    except OSError as problem:
        text = f"{path} cannot be made in {above}: {problem.strerror}; set $IPYTHONDIR to another"
        return Finding(DIRECTORY, "files", "bad", text)
    text = f"{path} is made at the first start, {bytes_text(free)} free"
    return Finding(DIRECTORY, "files", "ok" if free > ENOUGH else "bad", text)


def _settings(given: Path | None) -> Finding:
    from ipython1.kernel.config import config_manager
    from ipython1.kernel.host.security import IPythonDirs

    try:
        path = config_manager.path(IPythonDirs.resolve(given).ipython_dir)
        config_manager.get_config(given)
    except (KernelError, ConfigError, OSError) as problem:
        return Finding(DIRECTORY, "settings", "bad", str(problem))
    text = str(path) if Path(path).exists() else "none; the defaults hold"
    return Finding(DIRECTORY, "settings", "ok", text)


def _cluster() -> Finding:
    """Run a cluster of one engine, in a directory and a process of its own."""
    try:
        with tempfile.TemporaryDirectory(
            prefix="ipython1-check-", ignore_cleanup_errors=True
        ) as folder:
            words = ["ipython1-check", folder]
            command = python_command("ipython1.kernel.scripts.trialcluster", words)
            answer = ask(command, TRIAL_LIMIT, grace=TRIAL_GRACE)
    except OSError as problem:
        text = f"not tried: {problem.strerror or problem}; set $TMPDIR to a directory with space"
        return Finding(TRIAL, "one engine", "bad", text)
    text = answer.last or f"ended with status {answer.status}"
    return Finding(TRIAL, "one engine", "ok" if answer.status == 0 else "bad", text)
