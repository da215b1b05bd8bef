"""The pages for people who come from other tools say what is so."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial import unittest

from ipython1.testing import RealCluster
from tests.programs.coming_from import read_page
from tests.test_docs import command_problem

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"
PROGRAMS = DOCS / "examples" / "coming_from"

NEEDED = {"dask": "distributed", "joblib": "joblib", "ray": "numpy"}
"""What the rows of some pages import, which is not installed with everything."""

PAGES = {
    path.stem: path
    for path in sorted((DOCS / "source" / "coming_from").glob("*.txt"))
    if path.stem != "index"
}


def missing(module: str | None) -> bool:
    """Whether a module is not installed."""
    return module is not None and importlib.util.find_spec(module) is None


class RowTests(unittest.SynchronousTestCase):
    """What the tables say is typed here."""

    def test_each_row_gives_what_it_says(self) -> None:
        pages = {name: path for name, path in PAGES.items() if not missing(NEEDED.get(name))}
        with RealCluster(4) as cluster:
            result = cluster.run_program(
                TESTS / "programs" / "coming_from.py", *map(str, pages.values()), timeout=300
            )
        for name in pages:
            match = re.search(
                rf"^{name}\.txt: (\d+) rows, 0 of them wrong$", result.stdout, re.MULTILINE
            )
            self.assertIsNotNone(match, result.stdout)
            self.assertGreaterEqual(int(match[1]), 20, name)

    def test_each_command_exists_with_its_options(self) -> None:
        problems = []
        for path in PAGES.values():
            rows = read_page(path.read_text(encoding="utf-8"))[1]
            commands = [row.here for row in rows if row.is_command]
            self.assertTrue(commands, path.name)
            problems += [
                f"{path.name}: {command}: {problem}"
                for command in commands
                if (problem := command_problem(command))
            ]
        self.assertEqual(problems, [])


class ProgramTests(unittest.SynchronousTestCase):
    """The pairs of programs, one with the other tool and one with this package."""

    def test_both_print_what_the_page_shows(self) -> None:
        """Those with tools that are not installed are left out."""
        for expected in sorted(PROGRAMS.glob("*.out")):
            name = f"{expected.stem}.py"
            tool = expected.stem.partition("_")[0]
            self.assertEqual(self.output_of(PROGRAMS / "here" / name, tool), expected.read_text())
            if not missing(tool):
                self.assertEqual(
                    self.output_of(PROGRAMS / "there" / name, tool), expected.read_text()
                )

    def test_each_pair_is_complete_and_shown(self) -> None:
        names = {path.stem for path in PROGRAMS.glob("*.out")}
        for side in ("there", "here"):
            self.assertEqual({path.stem for path in (PROGRAMS / side).glob("*.py")}, names)
        shown = {
            name: tuple(re.findall(rf"coming_from/(?:(\w+)/)?{name}\.", PAGES[tool].read_text()))
            for name in names
            for tool in [name.partition("_")[0]]
        }
        self.assertEqual(shown, dict.fromkeys(names, ("there", "here", "")))

    def output_of(self, program: Path, tool: str) -> str:
        """What a program prints, which starts its own cluster if it needs one."""
        if missing(NEEDED.get(tool)):
            raise unittest.SkipTest(f"{NEEDED[tool]} is not installed")
        with tempfile.TemporaryDirectory() as directory:
            path = os.pathsep.join([str(TESTS.parent), *filter(None, sys.path)])
            # The other tools leave files in these, too.
            temporary = dict.fromkeys(("IPYTHONDIR", "TMPDIR", "RAY_TMPDIR"), directory)
            done = subprocess.run(
                [sys.executable, str(program)],
                env={**os.environ, **temporary, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
        self.assertEqual(done.returncode, 0, f"{program}\n{done.stdout}\n{done.stderr}")
        return done.stdout
