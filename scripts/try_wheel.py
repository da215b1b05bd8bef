"""Build the sdist and the wheel, and try the wheel on every Python that is here; see ``try-wheel``."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tryouts
from tryouts import Failed, Place, say

LANES = 2
"""Pythons that are tried side by side; much of it is waiting for downloads."""

_NOT_IN_SDIST = {"README.rst"}
_MADE = ("PKG-INFO", "setup.cfg", "ipython1.egg-info/")
_BUILD_LIMIT = 300.0
_BENCHMARK_LIMIT = 3600.0


def build(folder: Path) -> tuple[Path, Path]:
    """Build the sdist, and the wheel from it and from the checkout; return the sdist and the wheel.

    :raises Failed: if the two wheels differ, or either file has too little or too much in it.
    """
    sources = tryouts.copy_sources(folder / "sources")
    lowest = folder / "constraints.txt"
    requires = tryouts.pyproject()["build-system"]["requires"]
    lowest.write_text(tryouts.constraints(tryouts.lowest(requires)))
    _build(sources, folder / "dist", {})
    _build(sources, folder / "direct", {"PIP_CONSTRAINT": str(lowest)}, "--wheel")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    (wheel,) = (folder / "dist").glob("*.whl")
    (direct,) = (folder / "direct").glob("*.whl")
    check_sdist(sdist)
    check_wheel(wheel)
    _same("the wheels of the sdist and of the checkout", contents(wheel), contents(direct))
    return sdist, wheel


def _build(sources: Path, target: Path, environ: dict[str, str], *words: str) -> None:
    command = [sys.executable, "-m", "build", "--outdir", str(target), *words, str(sources)]
    done = subprocess.run(
        command,
        cwd=target.parent,
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_BUILD_LIMIT,
        check=False,
    )
    if done.returncode != 0:
        tryouts.skip_without_index(done.stdout + done.stderr)
        raise Failed(f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def check_sdist(path: Path) -> None:
    """Check that the sdist has the files of the checkout.

    :raises Failed: if it lacks some, or has others.
    """
    with tarfile.open(path) as archive:
        names = {
            name.partition("/")[2]
            for name in archive.getnames()
            if archive.getmember(name).isfile()
        }
    there = {name for name in names if not name.startswith(_MADE)}
    _same("the sdist and the checkout", there, set(tryouts.sources()) - _NOT_IN_SDIST)


def check_wheel(path: Path) -> None:
    """Check that the wheel has the package, the licence and the manual pages.

    :raises Failed: if it lacks some, or has others.
    """
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    stem = "-".join(path.name.split("-")[:2])
    made = {f"{stem}.dist-info/{name}" for name in ("METADATA", "WHEEL", "RECORD")}
    made |= {f"{stem}.dist-info/{name}" for name in ("entry_points.txt", "top_level.txt")}
    wanted = {name for name in tryouts.sources() if name.startswith("ipython1/")}
    wanted.add(f"{stem}.dist-info/licenses/LICENSE")
    pages = (tryouts.ROOT / "docs" / "man").glob("*.1")
    wanted |= {f"{stem}.data/data/share/man/man1/{page.name}" for page in pages}
    _same("the wheel and the package", names - made, wanted)


def contents(path: Path) -> dict[str, int]:
    """The checksums of the files in a wheel, but for those in which the builder signs."""
    with zipfile.ZipFile(path) as archive:
        return {
            each.filename: each.CRC
            for each in archive.infolist()
            if not each.filename.endswith(("/WHEEL", "/RECORD"))
        }


def _same(what: str, one: set[str] | dict[str, int], other: set[str] | dict[str, int]) -> None:
    if one == other:
        return
    if isinstance(one, dict) and isinstance(other, dict):
        one, other = ({f"{name} {crc:08x}" for name, crc in each.items()} for each in (one, other))
    lines = [f"  only in the first:  {name}" for name in sorted(set(one) - set(other))]
    lines += [f"  only in the second: {name}" for name in sorted(set(other) - set(one))]
    raise Failed("\n".join([f"{what} differ:", *lines[:20]]))


def try_wheel(folder: Path, wheel: Path, version: str, python: str, test: bool) -> None:
    """Install the wheel with one Python, and use it.

    :param test: whether to run tests of the package, too.
    """
    begun = time.monotonic()
    place = Place(folder / version, python)
    if test:
        place.install(f"{wheel}[{tryouts.EXTRAS}]", *tryouts.HELPERS)
    else:
        place.install(str(wheel))
    place.run("-m", "ipython1", "--check")
    for command in ("ipcluster", "ipcontroller", "ipengine"):
        place.run(
            "-c",
            f"import subprocess; subprocess.run(['venv/bin/{command}', '--version'], check=True)",
        )
    place.compute()
    tests = f"; its tests: {place.test()}" if test else ""
    say(f"Python {version}: installed, checked, and computed on four engines{tests}", begun)


def measure(folder: Path, wheel: Path, python: str) -> None:
    """Install the wheel with one Python, measure what is installed, and print the report."""
    place = Place(folder / "measured", python)
    place.install(f"{wheel}[bench]", *tryouts.HELPERS)
    shutil.copytree(tryouts.ROOT / "tests", place.folder / "tests")
    print(place.run("-m", "tests.benchmarks", limit=_BENCHMARK_LIMIT), flush=True)


def work(folder: Path, test: bool, benchmark: bool) -> str:
    """Build, and try on every Python; return what the last line says.

    :param folder: for all files.
    :param test: whether to run tests of the package on the newest Python.
    :param benchmark: whether to measure it afterwards, on the oldest one.
    """
    begun = time.monotonic()
    sdist, wheel = build(folder)
    say(
        f"built {sdist.name} and {wheel.name}; the sdist makes the same wheel as the checkout",
        begun,
    )
    found = tryouts.pythons()
    if not found:
        raise tryouts.Skipped("no Python can make a virtual environment here")
    # The one that takes longest first.
    newest = list(found)[-1]
    with ThreadPoolExecutor(LANES) as lanes:
        tried = [
            lanes.submit(try_wheel, folder, wheel, version, python, test and version == newest)
            for version, python in reversed(found.items())
        ]
    for each in tried:
        each.result()
    if benchmark:
        measure(folder, wheel, next(iter(found.values())))
    lacking = [version for version in tryouts.VERSIONS if version not in found]
    missing = f"; not tried, as they are not here: {', '.join(lacking)}" if lacking else ""
    return f"{wheel.name} works on Python {', '.join(found)}{missing}"


def main() -> int:
    """Do what the command line says.

    :returns: 0 when all works, 77 when nothing could be tried.
    """
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--test", action="store_true", help="run tests of it, on the newest Python")
    parser.add_argument(
        "--benchmark",
        action="store_true",
        help="measure it afterwards, on the oldest Python (scripts/benchmark)",
    )
    given = parser.parse_args()
    return tryouts.run("wheel", lambda folder: work(folder, given.test, given.benchmark))


if __name__ == "__main__":
    sys.exit(main())
