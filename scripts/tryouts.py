"""What ``try-floors`` and ``try-wheel`` share: Pythons, virtual environments far from the checkout, limits on time."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

SKIPPED = 77
"""The exit status of a script that could not try anything, as in other suites."""

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
"""Versions of Python to look for."""

EXTRAS = "dask,kubernetes,monitor,notebook"
"""Extras with code of their own that work without other programs, as MPI."""

HELPERS = ("hypothesis", "joblib", "kubernetes-validate", "numpy", "pandas")
"""What the tests need that users do not."""

TESTS = (
    *("ipython1.config", "ipython1.core", "ipython1.notebook"),
    *("ipython1.kernel.clusters", "ipython1.kernel.host", "ipython1.kernel.launchers"),
    *("ipython1.kernel.objects", "ipython1.kernel.scripts", "ipython1.kernel.tub"),
    "ipython1.kernel.watching",
)
"""The tests of those parts that call other packages most."""

PROGRAM = """
from ipython1.kernel.client import Cluster

with Cluster(4) as cluster:
    mec = cluster.multiengine()
    assert mec.get_ids() == [0, 1, 2, 3]
    mec.scatter("x", range(100))
    mec.execute("y = sum(x)")
    assert sum(mec.pull("y")) == 4950
    assert cluster.task().map(lambda x: x**10, range(8)) == [x**10 for x in range(8)]
print("computed")
"""
"""A first computation."""

_PIP = ("pip", "--disable-pip-version-check", "--quiet", "install", "--prefer-binary")
_NO_INDEX = re.compile("NewConnectionError|NameResolutionError|ConnectTimeoutError|ProxyError")
_LINES = 40


_running: set[subprocess.Popen[str]] = set()


class Failed(Exception):
    """What was tried does not work."""


class Skipped(Exception):
    """Nothing can be tried here."""


def pyproject() -> Mapping[str, Any]:
    """What pyproject.toml says."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        return tomllib.load(file)


def floors() -> dict[str, str]:
    """The lowest version of each package that the package needs, in any extra.

    :raises Failed: for a requirement that is not of the form ``name>=version``.
    """
    project = pyproject()["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    return lowest([each for requirements in lists for each in requirements])


def lowest(requirements: Sequence[str]) -> dict[str, str]:
    """The lowest versions that requirements allow.

    :raises Failed: for a requirement that is not of the form ``name>=version``.
    """
    found: dict[str, str] = {}
    for requirement in requirements:
        match = re.fullmatch(r"([\w.-]+)(?:\[[\w,-]+\])?>=([\d.]+)", requirement)
        if match is None:
            raise Failed(f"pyproject.toml: {requirement!r} has no lowest version")
        if found.setdefault(match[1], match[2]) != match[2]:
            raise Failed(f"pyproject.toml: {match[1]} has two lowest versions")
    return found


def constraints(versions: Mapping[str, str]) -> str:
    """The text of a file of constraints for pip."""
    return "".join(f"{name}=={version}\n" for name, version in versions.items())


def sources() -> list[str]:
    """The files of the checkout, without those that are made in it; relative to it."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise Skipped("this is no checkout with git") from None
    names = filter(None, listed.stdout.split("\0"))
    return sorted(name for name in names if (ROOT / name).exists())


def copy_sources(target: Path) -> Path:
    """Copy the files of the checkout, as building in it leaves files there; return ``target``."""
    for name in sources():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, path, follow_symlinks=False)
    return target


def pythons() -> dict[str, str]:
    """The interpreters that are here and can make virtual environments, by version."""
    found: dict[str, str] = {}
    for version in VERSIONS:
        places = [shutil.which(f"python{version}") or ""]
        for folder, pattern in (
            (Path.home() / ".pyenv" / "versions", f"{version}.*/bin/python3"),
            (Path("/opt"), f"*/bin/python{version}"),
            (Path("/usr/local/bin"), f"python{version}"),
        ):
            places += sorted(map(str, folder.glob(pattern)), reverse=True)
        for place in filter(None, places):
            if _is_usable(place, version):
                found[version] = place
                break
    return found


def _is_usable(place: str, version: str) -> bool:
    code = "import ensurepip, ssl, sys, venv; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([place, "-c", code], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.decode().strip() == version


class Place:
    """A virtual environment in a folder of its own, and programs that run there and nowhere else."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder = folder
        self._python = str(folder / "venv" / "bin" / "python")
        folder.mkdir()
        self._environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "IPYTHON", "VIRTUAL_ENV"))
        }
        self._environ["IPYTHONDIR"] = str(folder / "ipython")
        self._run([python, "-m", "venv", "venv"], 120)

    def install(self, *words: str, limit: float = 600) -> None:
        """Install packages with pip.

        :raises Skipped: if there is no package index.
        """
        try:
            self.run("-m", *_PIP, *words, limit=limit)
        except Failed as problem:
            skip_without_index(str(problem))
            raise

    def run(self, *words: str, limit: float = 120) -> str:
        """Run Python, and return what it prints.

        :raises Failed: with the end of its output, if its exit status is not 0, or it takes too long.
        """
        return self._run([self._python, *words], limit)

    def compute(self) -> None:
        """Run a first computation, on four engines."""
        self.run("-c", PROGRAM)

    def test(self, names: Sequence[str] = TESTS) -> str:
        """Run tests of the package as it is installed here; return trial's last line."""
        output = self.run("-m", "twisted.trial", "--temp-directory=trial", *names, limit=600)
        return output.strip().splitlines()[-1]

    def _run(self, command: Sequence[str], limit: float) -> str:
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        _running.add(process)
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            output += f"\nstopped after {limit:g} s"
        finally:
            _running.discard(process)
        if process.returncode != 0:
            shown = "\n".join(output.rstrip().splitlines()[-_LINES:])
            raise Failed(f"{' '.join(command)[:200]}\n{shown}")
        return output


def skip_without_index(output: str) -> None:
    """Look at the output of a program that failed.

    :raises Skipped: if it could not reach the package index.
    """
    if _NO_INDEX.search(output):
        raise Skipped("the package index cannot be reached")


def say(what: str, begun: float) -> None:
    """Print what is done, and how long it took."""
    print(f"{what} ({time.monotonic() - begun:.0f} s)", flush=True)


def run(name: str, work: Callable[[Path], str]) -> int:
    """Do the work in a folder that is removed afterwards; the last line says how it ended.

    :returns: the exit status.
    """
    before = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _run_in_folder(name, work)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(*_: object) -> None:
    """End all programs that run, which are in sessions of their own."""
    for process in list(_running):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    sys.exit(1)


def _run_in_folder(name: str, work: Callable[[Path], str]) -> int:
    with tempfile.TemporaryDirectory(prefix="ipython1-try-", ignore_cleanup_errors=True) as folder:
        # Tests look at it as other users.
        Path(folder).chmod(0o755)
        try:
            print(f"{name}: {work(Path(folder))}")
        except Skipped as problem:
            print(f"{name}: skipped: {problem}")
            return SKIPPED
        except Failed as problem:
            print(f"{problem}\n{name}: FAILED")
            return 1
    return 0
