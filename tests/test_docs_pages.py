"""The shape of the documentation: drawings, links, and a reference in which nothing is missing."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from twisted.trial import unittest

from ipython1.kernel.scripts.clusterwords import WORDS
from tests.programs.doc_examples import pages
from tests.test_docs import DOCS, load

EXTENSIONS = DOCS / "_ext"
REFERENCE = DOCS / "reference"
PACKAGES_WITH_SETTINGS = ("ipython1.core", "ipython1.kernel", "ipython1.notebook")


class PageTests(unittest.SynchronousTestCase):
    """What a reader finds where."""

    def test_every_page_is_in_the_contents_once(self) -> None:
        """The order of pages is that of the index; a page that is listed twice would be shown twice."""
        index = (DOCS / "index.txt").read_text(encoding="utf-8")
        listed = re.findall(r"^   ([\w/]+)$", index, re.MULTILINE)
        self.assertEqual(len(listed), len(set(listed)))
        for name in listed:
            optional = ("gallery/", "coming_from", "roadmap", "guide/testing")
            self.assertTrue((DOCS / f"{name}.txt").exists() or name.startswith(optional), name)

    def test_no_page_repeats_its_own_contents(self) -> None:
        """The theme shows them beside the page."""
        for path in pages(DOCS):
            self.assertNotIn(".. contents::", path.read_text(encoding="utf-8"), path.name)

    def test_the_index_has_no_transcripts(self) -> None:
        shown, _, _ = (DOCS / "index.txt").read_text(encoding="utf-8").partition(".. toctree::")
        self.assertNotIn("transcripts", shown)
        for part in re.findall(r"\.\. (?:toctree|pages)::\n((?:   :.*\n)+)", shown):
            self.assertIn(":hidden:", part)


class ReferenceTests(unittest.SynchronousTestCase):
    """The reference is complete."""

    def arguments(self, directive: str) -> set[str]:
        return {
            argument.strip()
            for path in REFERENCE.rglob("*.txt")
            for argument in re.findall(
                rf"^\.\. {directive}:: (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE
            )
        }

    def test_every_command_has_its_options(self) -> None:
        commands = {"ipcluster", "ipcontroller", "ipcontroller furl", "ipengine"}
        commands |= {f"ipcluster {word}" for word in WORDS}
        self.assertEqual(self.arguments("options"), commands)

    def test_every_ini_file_has_its_settings(self) -> None:
        self.assertEqual(self.arguments("settings"), set(PACKAGES_WITH_SETTINGS))
        package = DOCS.parents[1] / "ipython1"
        found = {
            f"ipython1.{path.parents[1].name}" for path in package.glob("*/config/__init__.py")
        }
        self.assertEqual(found, set(PACKAGES_WITH_SETTINGS))

    def test_every_public_module_has_its_purpose(self) -> None:
        extension = load(EXTENSIONS / "from_the_code.py")
        names = extension.modules("ipython1.kernel")
        self.assertIn("ipython1.kernel.client", names)
        self.assertEqual(self.arguments("modules"), {"ipython1.kernel"})
        for name in names:
            self.assertTrue((sys.modules.get(name) or __import__(name, fromlist=["x"])).__doc__)

    def test_every_class_that_clients_export_is_described(self) -> None:
        """Whatever a user gets from ``ipython1.kernel.client`` is in the reference."""
        from ipython1.kernel import client, error

        described = {name.rpartition(".")[2] for name in self.arguments("auto(?:class|function)")}
        names = {name for name in client.__all__ if not hasattr(error, name)}
        short = {"Task": "StringTask", "default_mec_address": "", "default_task_address": ""}
        missing = {name for name in names if short.get(name, name) not in described | {""}}
        self.assertEqual(missing, set())


class DrawingTests(unittest.SynchronousTestCase):
    """Drawings can be read by everyone."""

    def test_drawings_follow_the_rules(self) -> None:
        check = load(EXTENSIONS / "drawings.py").problems
        drawn = [
            DOCS / argument.removeprefix("/")
            for path in pages(DOCS)
            for argument in re.findall(r"\.\. drawing:: (\S+)", path.read_text(encoding="utf-8"))
        ]
        self.assertGreaterEqual(len(drawn), 5)
        for path in drawn:
            self.assertEqual(check(path.read_text(encoding="utf-8")), [], path.name)

    def test_a_drawing_for_few_is_found(self) -> None:
        check = load(EXTENSIONS / "drawings.py").problems
        good = '<svg class="drawing" viewBox="0 0 1 1"><title id="t">T</title><desc id="d">D</desc></svg>'
        self.assertEqual(check(good), [])
        self.assertIn("desc", check(good.replace("<desc ", "<d "))[0])
        self.assertIn("colors", check(good.replace("</svg>", '<path fill="#fff"/></svg>'))[0])


class LinkTests(unittest.SynchronousTestCase):
    """Links that lead to nothing are found when the pages are built."""

    def setUp(self) -> None:
        self.links = load(EXTENSIONS / "links.py")

    def test_addresses(self) -> None:
        wrong = self.links.address_problem
        self.assertIsNone(wrong("https://docs.python.org/3/library/concurrent.futures.html#x"))
        self.assertIn("https", wrong("http://docs.python.org/3/"))
        self.assertIn("HOSTS", wrong("https://docs.pyhton.org/3/"))
        self.assertIn("well formed", wrong("https:///3/"))
        self.assertIsNone(wrong(self.links.OURS + "blob/main/README.txt"))
        self.assertIn("no gone.py", wrong(self.links.OURS + "blob/main/gone.py"))

    def test_paths_of_the_source_tree(self) -> None:
        wrong = self.links.path_problem
        for path in ("tests/test_docs.py", "ipython1/kernel", "docs/examples/", "some text"):
            self.assertIsNone(wrong(path), path)
        self.assertIn("no such file", wrong("docs/examples/gone.py"))

    def test_links_between_pages(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name).resolve()
            (folder / "b").mkdir()
            (folder / "b" / "c.html").write_text('<p id="there"><a href="../a.html">back</a>')
            (folder / "a.html").write_text(
                '<a href="b/c.html#there">1</a><a class="x" href="b/c.html#gone">2</a>'
                '<a href="gone.html">3</a><a href="#self">4</a><i id="self"></i><a href="#no">5</a>'
            )
            found = sorted(link for _, link in self.links.broken_links(folder))
        self.assertEqual(found, ["#no", "b/c.html#gone", "gone.html"])
