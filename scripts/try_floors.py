"""Try the lowest versions of all dependencies that pyproject.toml allows, or the newest; see ``try-floors``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import tryouts
from tryouts import Place, say

NOT_AT_ITS_LOWEST = "import-linter"
"""It needs a newer rich than users do."""


def try_versions(folder: Path, newest: bool, everything: bool) -> str:
    """Install, compute something, and run tests; return what the last line says.

    :param folder: for all files.
    :param newest: whether to take the newest versions, on the newest Python.
    :param everything: whether to install what the tests, the documentation and the gallery need, too, and to build the
        documentation.
    """
    found = tryouts.pythons()
    if not found:
        raise tryouts.Skipped("no Python can make a virtual environment here")
    python = list(found)[-1 if newest else 0]
    place = Place(folder / "place", found[python])
    sources = tryouts.copy_sources(folder / "sources")
    words = ["--upgrade", f"{sources}[{tryouts.EXTRAS}]", *tryouts.HELPERS]
    if everything:
        words += of_all_extras()
    if not newest:
        path = folder / "constraints.txt"
        path.write_text(tryouts.constraints(tryouts.floors()))
        words += ["--constraint", str(path)]
    begun = time.monotonic()
    place.install(*words)
    what = "newest" if newest else "lowest"
    say(f"installed with the {what} versions on Python {python}", begun)
    begun = time.monotonic()
    place.run("-m", "ipython1", "--check")
    place.compute()
    say("checked, and computed on four engines", begun)
    begun = time.monotonic()
    say(place.test(), begun)
    if everything:
        begun = time.monotonic()
        place.run(
            "-m", "sphinx", "-q", "-W", "-n", str(sources / "docs" / "source"), "html", limit=600
        )
        say("built the documentation", begun)
    return f"all works with the {what} versions on Python {python}"


def of_all_extras() -> list[str]:
    """The requirements of all extras that can be tried together."""
    extras = tryouts.pyproject()["project"]["optional-dependencies"].values()
    found = {each for requirements in extras for each in requirements}
    return sorted(each for each in found if not each.startswith(NOT_AT_ITS_LOWEST))


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
