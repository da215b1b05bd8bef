"""The gallery: every program runs on a real cluster, prints what its page shows, and draws the figure.

With ``IPYTHON1_GALLERY_PICTURES=docs/source/pictures/gallery``, a run of these tests renews the pictures of the pages.
"""

from __future__ import annotations

import ast
import doctest
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from twisted.trial import unittest

from ipython1.testing.processes import private_environ
from tests.sharedcluster import SharedClusterCase

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "docs" / "examples" / "gallery"
PAGES = ROOT / "docs" / "source" / "gallery"
PICTURES = ROOT / "docs" / "source" / "pictures" / "gallery"
KEEP_IN = os.environ.get("IPYTHON1_GALLERY_PICTURES")
"""The directory for the figures; without it, they are looked at and removed."""

NAMES = sorted(path.stem for path in PROGRAMS.iterdir() if path.suffix in (".py", ".ipynb"))
LARGEST = 80_000
"""Bytes that a picture may have."""

TIMEOUT = 120.0


def program(name: str) -> Path:
    """Return the program with a name.

    :raises SkipTest: if a package is not installed that it imports.
    """
    path = PROGRAMS / f"{name}.py"
    missing = sorted(name for name in imported(path) if importlib.util.find_spec(name) is None)
    if missing:
        raise unittest.SkipTest(f"{', '.join(missing)} is not installed")
    return path


def imported(path: Path) -> set[str]:
    """The packages that a program imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


class GalleryCase(unittest.SynchronousTestCase):
    """What all programs have in common."""

    def setUp(self) -> None:
        super().setUp()
        directory = tempfile.TemporaryDirectory(prefix="ipython1-gallery-")
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def picture(self, name: str) -> Path:
        """Where a program is to draw its figure."""
        return ROOT / (KEEP_IN or self.directory) / f"{name}.png"

    def run_alone(
        self,
        name: str,
        environ: Mapping[str, str] | None = None,
        python: str = sys.executable,
        timeout: float = TIMEOUT,
    ) -> None:
        """Run and check a program that starts its own cluster, in an IPython directory of its own."""
        path = program(name)
        try:
            done = subprocess.run(
                [python, str(path), str(self.picture(name))],
                env={**private_environ(self.directory), **(environ or {})},
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            self.fail(
                f"{name} did not exit within {timeout:g} s:\n{late.stdout!r}\n{late.stderr!r}"
            )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.check(name, done.stdout)

    def check(self, name: str, printed: str) -> None:
        """Check what a program has printed and drawn."""
        want = (PROGRAMS / f"{name}.out").read_text(encoding="utf-8")
        checker, options = doctest.OutputChecker(), doctest.ELLIPSIS
        if not checker.check_output(want, printed, options):
            self.fail(checker.output_difference(doctest.Example("", want), printed, options))
        self.check_picture(self.picture(name))
        kept = PICTURES / f"{name}.png"
        self.assertEqual(size_of(self.picture(name)), size_of(kept), f"{kept} is out of date")

    def check_picture(self, path: Path) -> None:
        """A picture is a PNG of a sensible size, and shows something."""
        from PIL import Image

        self.assertLessEqual(path.stat().st_size, LARGEST, path.name)
        with Image.open(path) as image:
            self.assertEqual(image.format, "PNG")
            self.assertTrue(600 <= image.width <= 1200 and 300 <= image.height <= 1200, image.size)
            grey = image.convert("L").histogram()
        commonest = max(grey) / sum(grey)
        self.assertLess(commonest, 0.99, f"{path.name} is blank")


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of a PNG in pixels."""
    header = path.read_bytes()[:24]
    return int.from_bytes(header[16:20]), int.from_bytes(header[20:24])


class OnTheRunningClusterTests(GalleryCase, SharedClusterCase):
    """Programs whose reader has started ``ipcluster -n 4`` before."""

    def show(self, name: str) -> None:
        """Run and check a program."""
        assert self.cluster is not None
        done = self.cluster.run_program(program(name), str(self.picture(name)), timeout=TIMEOUT)
        self.check(name, done.stdout)

    def test_option_pricing(self) -> None:
        """The prices differ from those of Black and Scholes by a few standard errors at most, as printed."""
        self.show("option_pricing")


class WithAClusterOfItsOwnTests(GalleryCase):
    """Programs that start special engines, or end some on purpose."""


class PagesTests(unittest.SynchronousTestCase):
    """Everything in the gallery is complete."""

    def test_every_program_is_tested(self) -> None:
        tested = {
            method.removeprefix("test_")
            for case in GalleryCase.__subclasses__()
            for method in dir(case)
        }
        self.assertEqual([name for name in NAMES if name not in tested], [])

    def test_every_program_has_a_page_that_shows_it(self) -> None:
        self.assertEqual(NAMES, sorted(page.stem for page in PAGES.glob("*.txt")
                                       if page.stem != "index"))  # fmt: skip
        for name in NAMES:
            text = (PAGES / f"{name}.txt").read_text(encoding="utf-8")
            self.assertIn(f"../../examples/gallery/{name}.", text)
            figure = re.search(rf"figure:: ../pictures/gallery/{name}.png\n +:alt: \S", text)
            self.assertTrue(figure, f"{name}: no figure with a description")
            if (PROGRAMS / f"{name}.py").exists():
                self.assertIn(f"literalinclude:: ../../examples/gallery/{name}.out", text)

    def test_every_program_has_a_picture(self) -> None:
        self.assertEqual(NAMES, sorted(path.stem for path in PICTURES.glob("*.png")))
        for path in PICTURES.glob("*.png"):
            self.assertLessEqual(path.stat().st_size, LARGEST, path.name)

    def test_every_program_has_a_card(self) -> None:
        """With its picture; the cards and the table of contents have the same order."""
        index = (PAGES / "index.txt").read_text(encoding="utf-8")
        cards = re.findall(
            r"container:: card\n\n +\.\. image:: \.\./pictures/gallery/(\w+)\.png\n"
            r" +:alt: .+\n\n +:doc:`(\w+)`\n\n +\S.+$",
            index,
            re.MULTILINE,
        )
        self.assertEqual(sorted(name for name, _ in cards), NAMES)
        self.assertEqual([name for name, _ in cards], [page for _, page in cards])
        listed = re.findall(r"^   (\w+)$", index, re.MULTILINE)
        self.assertEqual(listed, [page for _, page in cards])

    def test_every_program_says_how_to_run_it(self) -> None:
        for name in NAMES:
            path = PROGRAMS / f"{name}.py"
            if path.exists():
                text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
                self.assertIn(f"python {name}.py", text)
