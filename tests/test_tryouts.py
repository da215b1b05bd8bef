"""The scripts that try floors and wheels: what they compare, and how they end."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import zipfile
from pathlib import Path

from twisted.trial import unittest

from ipython1.testing.folders import temporary_path
from tests.test_scripts import ROOT, load_script


class TryoutCase(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(sys, "path", [str(ROOT / "scripts"), *sys.path])
        self.wheels = load_script("try_wheel")
        self.tryouts = self.wheels.tryouts
        self.folder = Path(temporary_path(self))
        self.folder.mkdir()


class FloorTests(TryoutCase):
    def test_every_dependency_has_a_lowest_version(self) -> None:
        """And the same in all extras."""
        found = self.tryouts.floors()
        self.assertEqual(found["ipython"], "8.15")
        self.assertIn("scikit-learn", found)

    def test_requirements_without_one_are_refused(self) -> None:
        for requirements, words in (
            (["rich"], "'rich' has no lowest version"),
            (["rich~=13.0"], "'rich~=13.0' has no lowest version"),
            (["rich>=13.0", "rich>=14.0"], "rich has two lowest versions"),
        ):
            with self.assertRaisesRegex(self.tryouts.Failed, words):
                self.tryouts.lowest(requirements)

    def test_constraints_have_no_extras(self) -> None:
        """As pip refuses those."""
        found = self.tryouts.lowest(["Twisted[tls]>=24.11", "rich>=13.0"])
        self.assertEqual(self.tryouts.constraints(found), "Twisted==24.11\nrich==13.0\n")


class WheelTests(TryoutCase):
    def wheel(self, **more: str) -> Path:
        """A wheel of the package, with other files, or without those that are empty."""
        path = self.folder / "ipython1-1.0-py3-none-any.whl"
        names = {name: name for name in self.tryouts.sources() if name.startswith("ipython1/")}
        names["ipython1-1.0.dist-info/licenses/LICENSE"] = "LICENSE"
        for page in (ROOT / "docs" / "man").glob("*.1"):
            names[f"ipython1-1.0.data/data/share/man/man1/{page.name}"] = "page"
        names.update(more)
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in names.items():
                if text:
                    archive.writestr(name, text)
        return path

    def setUp(self) -> None:
        super().setUp()
        try:
            self.tryouts.sources()
        except self.tryouts.Skipped as problem:
            raise unittest.SkipTest(str(problem)) from None

    def test_a_complete_wheel(self) -> None:
        self.wheels.check_wheel(self.wheel())

    def test_what_a_wheel_lacks_or_has_too_much_is_told(self) -> None:
        for more, words in (
            ({"ipython1/py.typed": ""}, "only in the second: ipython1/py.typed"),
            ({"tests/test_x.py": "x"}, "only in the first:  tests/test_x.py"),
            (
                {"ipython1/kernel/watching/web/index.html": ""},
                "only in the second: .*index.html",
            ),
        ):
            with self.assertRaisesRegex(self.tryouts.Failed, words):
                self.wheels.check_wheel(self.wheel(**more))

    def test_wheels_that_differ_are_told(self) -> None:
        """In anything but the builder's name and the list of checksums."""
        contents = self.wheels.contents
        info = "ipython1-1.0.dist-info/"
        one = contents(self.wheel(**{f"{info}WHEEL": "a", f"{info}RECORD": "a"}))
        same = contents(self.wheel(**{f"{info}WHEEL": "b", f"{info}RECORD": "b"}))
        self.assertEqual(one, same)
        other = contents(self.wheel(**{"ipython1/version.py": "other"}))
        with self.assertRaisesRegex(self.tryouts.Failed, "the wheels differ:\n.*version.py"):
            self.wheels._same("the wheels", one, other)


class EndTests(TryoutCase):
    def ended(self, problem: Exception | None) -> tuple[int, str]:
        folders: list[Path] = []

        def work(folder: Path) -> str:
            folders.append(folder)
            (folder / "file").write_text("")
            if problem is not None:
                raise problem
            return "it works"

        written = io.StringIO()
        with contextlib.redirect_stdout(written):
            status = self.tryouts.run("name", work)
        self.assertFalse(folders[0].exists())
        return status, written.getvalue()

    def test_the_last_line_says_how_it_ended(self) -> None:
        tryouts = self.tryouts
        self.assertEqual(self.ended(None), (0, "name: it works\n"))
        self.assertEqual(self.ended(tryouts.Failed("why")), (1, "why\nname: FAILED\n"))
        skipped = self.ended(tryouts.Skipped("no Python"))
        self.assertEqual(skipped, (77, "name: skipped: no Python\n"))

    def test_without_a_package_index_nothing_has_failed(self) -> None:
        output = "WARNING: Retrying ... NewConnectionError('<pip._vendor...>: Failed to ...')"
        with self.assertRaisesRegex(self.tryouts.Skipped, "the package index cannot be reached"):
            self.tryouts.skip_without_index(output)
        self.tryouts.skip_without_index("ERROR: ResolutionImpossible")

    def test_programs_see_nothing_of_the_checkout(self) -> None:
        """Neither its path, nor the user's settings; and they end in time, with an account of it."""
        self.patch(os, "environ", {**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": "/x"})
        place = self.tryouts.Place(self.folder / "place", sys.executable)
        code = "import os, sys; print(os.getcwd(), os.environ.get('PYTHONPATH'), os.environ['IPYTHONDIR'])"
        here = self.folder / "place"
        self.assertEqual(place.run("-c", code), f"{here} None {here / 'ipython'}\n")
        with self.assertRaisesRegex(self.tryouts.Failed, "(?s)-c import .*ModuleNotFoundError"):
            place.run("-c", "import ipython1")
        with self.assertRaisesRegex(self.tryouts.Failed, "stopped after 0.2 s"):
            place.run("-c", "import time; time.sleep(1000)", limit=0.2)


class CheckTests(TryoutCase):
    """The suite counts other checks by their exit status."""

    def count(self, code: str) -> str:
        suite = load_script("suite")
        self.patch(suite, "CHECK_LIMIT", 20.0)
        with contextlib.redirect_stdout(io.StringIO()):
            return str(suite.run_check("name", [sys.executable, "-c", code], self.folder))

    def test_counts(self) -> None:
        for status, counts in (
            (0, "1 passed, 0 failed"),
            (3, "0 passed, 1 failed"),
            (77, "0 passed, 0 failed, 1 skipped"),
        ):
            self.assertEqual(self.count(f"import sys; sys.exit({status})"), counts)

    def test_a_check_that_hangs_has_failed(self) -> None:
        suite = load_script("suite")
        self.patch(suite, "CHECK_LIMIT", 0.2)
        command = [sys.executable, "-c", "import time; time.sleep(1000)"]
        with contextlib.redirect_stdout(io.StringIO()):
            counts = suite.run_check("name", command, self.folder)
        self.assertEqual(str(counts), "0 passed, 1 failed")
