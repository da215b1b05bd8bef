"""What a release consists of besides code: metadata, README, licence, citation, recipe and manual pages agree."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import types
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from twisted.trial import unittest

from ipython1.testing.folders import temporary_path
from ipython1.version import __version__

ROOT = Path(__file__).resolve().parents[1]
OTHER_NAMES = {"service_identity", "idna"}
"""What ``Twisted[tls]`` brings besides, with pip."""


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def problems(text: str) -> str:
    """What docutils says about a text."""
    from docutils.core import publish_doctree

    said: list[str] = []

    class Said:
        def write(self, text: str) -> None:
            said.append(text)

    settings = {"warning_stream": Said(), "report_level": 1, "halt_level": 5}
    publish_doctree(text, settings_overrides=settings)
    return "".join(said)


class AgreementTests(unittest.SynchronousTestCase):
    def test_the_version_is_the_same_everywhere(self) -> None:
        citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
        self.assertEqual(citation["version"], __version__)
        self.assertEqual(self.recipe()["package"]["version"], __version__)

    def test_the_licence(self) -> None:
        project = pyproject()["project"]
        self.assertEqual(project["license"], "BSD-3-Clause")
        self.assertEqual(project["license-files"], ["LICENSE"])
        self.assertRegex((ROOT / "LICENSE").read_text(), r"\ABSD 3-Clause License\n")
        self.assertEqual(
            yaml.safe_load((ROOT / "CITATION.cff").read_text())["license"], project["license"]
        )
        self.assertEqual(self.recipe()["about"]["license"], project["license"])

    def test_the_recipe_needs_what_the_package_needs(self) -> None:
        settings = pyproject()
        project = settings["project"]
        needed = {self.pair(each) for each in project["dependencies"]}
        needed.add(("python", project["requires-python"]))
        requirements = self.recipe()["requirements"]
        run = {self.pair(each) for each in requirements["run"]}
        self.assertEqual({each for each in run if each[0] not in OTHER_NAMES}, needed)
        host = {self.pair(each) for each in requirements["host"]} - {("pip", "")}
        built = {self.pair(each) for each in settings["build-system"]["requires"]}
        self.assertEqual(host, built | {("python", project["requires-python"])})

    def test_the_recipe_has_the_commands(self) -> None:
        commands = dict(each.split(" = ") for each in self.recipe()["build"]["entry_points"])
        self.assertEqual(commands, pyproject()["project"]["scripts"])

    def test_the_documentation_says_what_each_dependency_is_for(self) -> None:
        """Each has a line in a table, and each extra, too."""
        pages = ("install.txt", "development.txt")
        page = "".join((ROOT / "docs" / "source" / name).read_text() for name in pages)
        settings = pyproject()
        extras = settings["project"]["optional-dependencies"]
        lists = [settings["project"]["dependencies"], *extras.values()]
        named = {self.pair(each)[0] for requirements in lists for each in requirements}
        rows = re.findall(r"^([\w.-]+(?:, [\w.-]+)*) {2,}\w", page, re.MULTILINE)
        shown = {name.lower() for row in rows for name in row.split(", ")}
        self.assertEqual(named - shown, set())
        self.assertLessEqual(set(extras), set(re.findall(r"^``(\w+)`` {2,}\w", page, re.MULTILINE)))

    @staticmethod
    def recipe() -> dict[str, Any]:
        text = (ROOT / "docs" / "deploy" / "conda" / "meta.yaml").read_text()
        found: dict[str, Any] = yaml.safe_load(text.replace("{{ PYTHON }}", "python"))
        return found

    @staticmethod
    def pair(requirement: str) -> tuple[str, str]:
        """A requirement's name and version, however it is written."""
        match = re.fullmatch(r"([\w.-]+)(?:\[\w+\])? ?(>=[\d.]+)?", requirement)
        assert match is not None, requirement
        return match[1].lower(), match[2] or ""


class TextTests(unittest.SynchronousTestCase):
    def test_they_render(self) -> None:
        for name in ("README.txt", "SECURITY.txt", "CONTRIBUTING.txt"):
            self.assertEqual(problems((ROOT / name).read_text()), "", name)

    def test_files_that_they_name_are_there(self) -> None:
        for name in ("README.txt", "SECURITY.txt", "CONTRIBUTING.txt"):
            text = (ROOT / name).read_text()
            paths = re.findall(r"``((?:docs|scripts)/[\w./-]+|[A-Z]\w+(?:\.txt|\.cff)?)``", text)
            for path in paths:
                if path != "docs/_build":
                    self.assertTrue((ROOT / path).exists(), f"{name}: {path}")

    def test_the_picture(self) -> None:
        """It is a file of the checkout, and an address for the package index."""
        (picture,) = re.findall(r"^\.\. image:: (\S+)$", (ROOT / "README.txt").read_text(), re.M)
        self.assertTrue((ROOT / picture).exists())
        told: dict[str, str] = {}
        stand_in = types.ModuleType("setuptools")
        stand_in.__dict__["setup"] = lambda **arguments: told.update(arguments)
        with mock.patch.dict(sys.modules, setuptools=stand_in):
            runpy.run_path(str(ROOT / "setup.py"))
        self.assertEqual(told["long_description_content_type"], "text/x-rst")
        (shown,) = re.findall(r"^\.\. image:: (\S+)$", told["long_description"], re.M)
        self.assertRegex(shown, f"^https://.*/{picture}$")

    def test_the_readme_has_a_name_that_others_render(self) -> None:
        link = ROOT / "README.rst"
        if not link.exists():
            raise unittest.SkipTest("only a checkout has it")
        self.assertEqual(link.read_text(), (ROOT / "README.txt").read_text())


class ManualTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = ROOT / "docs" / "man"

    def test_the_pages_are_those_of_the_parsers(self) -> None:
        """If not, write them anew: ``python docs/source/_ext/manpages.py``."""
        code = "import sys, json; sys.path[:0] = sys.argv[1:]; import manpages; print(json.dumps(manpages.pages()))"
        done = subprocess.run(
            [sys.executable, "-c", code, str(ROOT / "docs" / "source" / "_ext")],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        made = json.loads(done.stdout)
        kept = {path.name: path.read_text() for path in self.folder.glob("*")}
        self.assertEqual(set(made), set(kept))
        for name, text in made.items():
            self.assertEqual(kept[name], text, name)

    def test_there_is_nothing_to_complain_about(self) -> None:
        """groff and man show each page, and have no warnings."""
        if shutil.which("groff") is None:
            raise unittest.SkipTest("groff is not installed")
        for path in sorted(self.folder.glob("*.1")):
            done = subprocess.run(
                ["groff", "-man", "-Tutf8", "-ww", "-rCHECKSTYLE=3", "-P-cbou", str(path)],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
            self.assertEqual(done.stderr, "", path.name)
            self.assertIn("NAME", done.stdout)

    def test_what_is_typed_is_shown_so(self) -> None:
        """Options can be copied: their dashes are no hyphens, and nothing begins a request."""
        directory = Path(temporary_path(self))
        directory.mkdir()
        text = (self.folder / "ipcluster.1").read_text()
        self.assertIn(r"\fB\-\-restart\-engines\fR [\fIN\fR]", text)
        self.assertIn(r"ipcluster \-n 4 \-\-daemonize", text)
        known = r"\.(?:\\\"|TH|SH|SS|B|BR|TP|PP|RS|RE|nf|fi|br|nh)(?: |$)"
        for path in self.folder.glob("*.1"):
            for line in path.read_text().splitlines():
                if line.startswith((".", "'")):
                    self.assertRegex(line, f"^{known}", path.name)
