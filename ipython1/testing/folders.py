"""Folders of tests, gone afterwards under every runner (trial's own ``mktemp`` leaves them where it runs)."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from unittest import TestCase


def temporary_path(case: TestCase) -> str:
    """A path at which nothing is yet, in a new folder that is removed when ``case`` is over."""
    folder = tempfile.mkdtemp(prefix="ipython1-test-")
    case.addCleanup(shutil.rmtree, folder, ignore_errors=True)
    return str(Path(folder) / "temporary")
