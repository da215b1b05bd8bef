"""Try the lowest versions of all dependencies that pyproject.toml allows, or the newest; see ``try-floors``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import tryouts
from tryouts import Place, say


def try_versions(folder: Path, newest: bool, everything: bool) -> str:
    """Install, compute something, and run tests; return what the last line says.

    :param folder: for all files.
    :param newest: whether to take the newest versions, on the newest Python.
    :param everything: whether to install what the tests, the documentation and the gallery need, too.
    """
    found = tryouts.pythons()
    if not found:
        raise tryouts.Skipped("no Python can make a virtual environment here")
    python = list(found)[-1 if newest else 0]
    place = Place(folder / "place", found[python])
    words = ["--upgrade", *tryouts.HELPERS]
    lowest = tryouts.floors()
    if not newest:
        constraints = folder / "constraints.txt"
        lines = [f"{name}=={version}\n" for name, version in lowest.items()]
        constraints.write_text("".join(lines))
        words += ["--constraint", str(constraints)]
    extras = tryouts.EXTRAS
    if everything:
        extras = ",".join(set(tryouts.project()["optional-dependencies"]) - {"mpi"})
    begun = time.monotonic()
    place.install(*words, f"{tryouts.copy_sources(folder / 'sources')}[{extras}]")
    what = "newest" if newest else "lowest"
    say(f"installed with the {what} versions on Python {python}", begun)
    begun = time.monotonic()
    place.run("-m", "ipython1", "--check")
    place.compute()
    say("checked, and computed on four engines", begun)
    begun = time.monotonic()
    say(place.test(), begun)
    return f"all works with the {what} versions on Python {python}"


def main() -> int:
    """Do what the command line says.

    :returns: 0 when all works, 77 when nothing could be tried.
    """
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--newest", action="store_true", help="the newest versions instead")
    parser.add_argument("--all", action="store_true", help="the packages of all extras, too")
    given = parser.parse_args()
    return tryouts.run("floors", lambda folder: try_versions(folder, given.newest, given.all))


if __name__ == "__main__":
    sys.exit(main())
