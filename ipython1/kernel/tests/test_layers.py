"""The order of the layers, enforced by import-linter; its contracts are in ``pyproject.toml``."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from twisted.trial import unittest

import ipython1

ROOT = Path(ipython1.__file__).resolve().parents[1]
KERNEL = ROOT / "ipython1" / "kernel"


def layers() -> list[str]:
    """Return the layers, highest first; packages in the same layer are separated by colons."""
    path = ROOT / "pyproject.toml"
    if not path.exists():
        raise unittest.SkipTest("the contracts are in pyproject.toml, which is not installed")
    settings: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    found: list[str] = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    return found


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    """Check the package in ``root`` against its contracts."""
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class LayerTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        try:
            import importlinter  # noqa: F401
        except ImportError:
            raise unittest.SkipTest("import-linter is not installed") from None
        layers()

    def test_each_module_imports_only_what_lies_below_it(self) -> None:
        checked = lint(ROOT)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        self.assertIn("5 kept, 0 broken", checked.stdout)

    def test_wrong_imports_are_found_wherever_they_hide(self) -> None:
        """Inside a function, for type checkers only, through a third module, and in a cycle within one folder."""
        folder = tempfile.TemporaryDirectory(prefix="ipython1-layers-")
        self.addCleanup(folder.cleanup)
        root = Path(folder.name)
        shutil.copy(ROOT / "pyproject.toml", root)
        shutil.copytree(
            ROOT / "ipython1", root / "ipython1", ignore=shutil.ignore_patterns("__pycache__")
        )
        kernel = root / "ipython1" / "kernel"
        for name, text in (
            ("host/furl.py", "def late() -> None:\n    import ipython1.kernel.wire.frames\n"),
            (
                "wire/frames.py",
                "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import ipython1.kernel.client\n",
            ),
            ("tasks/progress.py", "import ipython1.kernel.tub.strangers\n"),
            ("tub/strangers.py", "import ipython1.kernel.controller.inspection\n"),
            ("host/lockfile.py", "import ipython1.kernel.host.logs\n"),
            ("host/logs.py", "import ipython1.kernel.host.lockfile\n"),
        ):
            with (kernel / name).open("a", encoding="utf-8") as file:
                file.write(text)
        checked = lint(root)
        self.assertEqual(checked.returncode, 1, checked.stderr)
        said = " ".join(checked.stdout.split())
        for expected in (
            "ipython1.kernel.host.furl -> ipython1.kernel.wire.frames",
            "ipython1.kernel.wire.frames -> ipython1.kernel.client",
            "ipython1.kernel.tasks is not allowed to import ipython1.kernel.controller",
            "No cycles are allowed in ipython1.kernel.host",
        ):
            self.assertIn(expected, said)

    def test_everything_in_the_kernel_has_its_place(self) -> None:
        """A new folder or file must be added to the layers, or its imports would not be checked."""
        placed = {name.strip() for layer in layers() for name in layer.split(":")}
        for path in KERNEL.iterdir():
            name = f"ipython1.kernel.{path.stem}"
            if path.stem not in ("__init__", "__pycache__", "tests"):
                self.assertIn(name, placed)

    def test_the_documentation_has_all_rooms_in_their_order(self) -> None:
        page = ROOT / "docs" / "source" / "development.txt"
        if not page.exists():
            raise unittest.SkipTest("the documentation is not installed")
        rows = re.findall(
            r"^``ipython1/kernel/(\w+)`` +(.+)$", page.read_text(encoding="utf-8"), re.MULTILINE
        )
        rooms = [
            name.removeprefix("ipython1.kernel.")
            for name in reversed(layers())
            if name.startswith("ipython1.kernel.") and ":" not in name
        ]
        self.assertEqual([name for name, _ in rows], rooms)
        for name, text in rows:
            doc = importlib.import_module(f"ipython1.kernel.{name}").__doc__ or ""
            self.assertEqual(text, doc.split("\n\n")[0].strip())


class SizeTests(unittest.SynchronousTestCase):
    """What is too long to be read in one sitting hides things."""

    def test_modules_and_functions_are_short(self) -> None:
        """A module of more than 500 lines says in its docstring why it is long; a function has up to 50."""
        for path in (ROOT / "ipython1").rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            tree = ast.parse(text)
            if "tests" not in path.parts and text.count("\n") > 500:
                self.assertRegex(ast.get_docstring(tree) or "", r"\blong\b.*\bbecause\b", path)
            for node in ast.walk(tree):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    lines = (node.end_lineno or node.lineno) - node.lineno + 1
                    if "tests" not in path.parts:
                        self.assertLessEqual(lines, 50, f"{path}: {node.name}")
