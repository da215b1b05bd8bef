"""The scripts that run the suite and the main job."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from twisted.trial import unittest

from ipython1.testing.folders import temporary_path

ROOT = Path(__file__).resolve().parent.parent


def load_script(name: str) -> ModuleType:
    """The module of a Python script in ``scripts``."""
    spec = importlib.util.spec_from_file_location(
        f"ipython1_script_{name}", ROOT / "scripts" / f"{name}.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class SuiteTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.suite = load_script("suite")

    def counts(self, output: str, status: int) -> str:
        return str(self.suite.read_summary(output, status))

    def test_counts_are_those_of_trial(self) -> None:
        """The counts come from trial's last lines."""
        for output, status, counts in (
            ("Ran 3 tests in 0.1s\n\nPASSED (successes=3)\n", 0, "3 passed, 0 failed"),
            ("PASSED (skips=2, successes=5)\n", 0, "5 passed, 0 failed, 2 skipped"),
            ("PASSED (skips=2)\n", 0, "0 passed, 0 failed, 2 skipped"),
            (
                "FAILED (skips=1, failures=2, errors=3, successes=4)\n",
                1,
                "4 passed, 5 failed, 1 skipped",
            ),
            (
                "PASSED (expectedFailures=1, successes=4)\n",
                0,
                "5 passed, 0 failed",
            ),
            ("FAILED (unexpectedSuccesses=1, successes=4)\n", 1, "4 passed, 1 failed"),
        ):
            self.assertEqual(self.counts(output, status), counts)

    def test_what_a_test_prints_does_not_count(self) -> None:
        """Only the last line of that form counts."""
        output = "PASSED (successes=999)\nFAILED (errors=1, successes=2)\n"
        self.assertEqual(self.counts(output, 1), "2 passed, 1 failed")

    def test_run_that_broke_off_is_a_failure(self) -> None:
        """A missing or empty summary, or one that contradicts the exit status."""
        self.assertEqual(self.counts("", -9), "0 passed, 1 failed")
        self.assertEqual(self.counts("PASSED (successes=3)\n", 1), "3 passed, 1 failed")
        self.assertEqual(self.counts("Ran 0 tests in 0.0s\n\nPASSED\n", 0), "0 passed, 1 failed")

    def test_failures_are_shown_again_at_the_end(self) -> None:
        """Whoever sees only the last lines of a run learns what failed, and not what passed or was skipped."""
        directory = self.mktemp_directory()
        (directory / "test_sad.py").write_text(
            "import unittest\n"
            "class Sad(unittest.TestCase):\n"
            "    def test_a(self): self.assertEqual('apples', 'pears')\n"
            "    def test_b(self): raise KeyError('plums')\n"
            "    def test_c(self): self.skipTest('cherries')\n"
        )
        result = subprocess.run(
            [sys.executable, ROOT / "scripts" / "suite.py", "test_sad"],
            env={**os.environ, "PYTHONPATH": str(directory)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        _, first, second = result.stdout.split("once more, what failed:\n")
        for shown, words in ((first, ("pears", "Sad.test_a")), (second, ("plums", "Sad.test_b"))):
            for word in words:
                self.assertIn(word, shown)
            self.assertNotIn("cherries", shown)
        self.assertEqual(second.splitlines()[-1], "0 passed, 2 failed, 1 skipped")

    def test_named_tests_are_run_and_counted(self) -> None:
        """It runs from another directory, with the count on the last line."""
        result = subprocess.run(
            [sys.executable, ROOT / "scripts" / "suite.py", "ipython1.config.tests.test_kinds"],
            cwd=self.mktemp_directory(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertRegex(result.stdout.splitlines()[-1], r"^\d+ passed, 0 failed$")

    def test_unknown_test_is_a_failure(self) -> None:
        """A misspelled name must not look like success."""
        result = subprocess.run(
            [sys.executable, ROOT / "scripts" / "suite.py", "ipython1.no_such_tests"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stdout.splitlines()[-1], "0 passed, 1 failed")

    def test_every_module_is_in_one_part(self) -> None:
        """Listed times are those of modules that exist, and the part that takes longest comes first."""
        names = [name for part in self.suite.parts() for name in part]
        self.assertEqual(len(names), len(set(names)))
        for top in (ROOT / "ipython1", ROOT / "tests"):
            for path in top.rglob("test_*.py"):
                self.assertIn(".".join(path.relative_to(ROOT).with_suffix("").parts), names)
        self.assertEqual(set(self.suite.SECONDS) - set(names), set())
        longest = max(self.suite.SECONDS, key=self.suite.SECONDS.__getitem__)
        self.assertIn(longest, self.suite.parts()[0])

    def test_parts_side_by_side(self) -> None:
        """They are all counted, and the output of each is shown in one piece."""
        names = ["test_kinds", "no_such_tests", "test_manager"]
        parts = [[f"ipython1.config.tests.{name}"] for name in names]
        code = (
            f"import pathlib\nimport suite\nprint(suite.run_tests({parts}, pathlib.Path.cwd()))\n"
        )
        result = subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.mktemp_directory(),
            env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        before, *shown = result.stdout.split("$ trial ")
        self.assertEqual((before, len(shown)), ("", 3), result.stdout + result.stderr)
        counted = 0
        for piece in shown:
            name = piece.split("\n")[0]
            ended = re.findall(r"^(?:PASSED|FAILED) \(.*\)$", piece, re.MULTILINE)
            self.assertEqual(len(ended), 1, piece)
            self.assertEqual(ended[0].startswith("FAILED"), "no_such_tests" in name)
            self.assertIn(name, piece[len(name) :])
            counted += self.suite.read_summary(piece, int("no_such_tests" in name)).passed
        self.assertEqual(result.stdout.splitlines()[-1], f"{counted} passed, 1 failed")

    def mktemp_directory(self) -> Path:
        directory = Path(temporary_path(self))
        directory.mkdir(parents=True)
        return directory


class MainJobTests(unittest.SynchronousTestCase):
    def test_main_job_says_what_it_computed(self) -> None:
        """It uses four engines, and gets the right number."""
        result = subprocess.run(
            [sys.executable, ROOT / "scripts" / "main_job.py"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertEqual(
            result.stdout.splitlines()[-1], "the main job is done: 4 engines computed pi = 3.141592"
        )
