"""Temporary folders for tests, removed under every test runner (trial's own ``mktemp`` leaves them behind)."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from unittest import TestCase


def temporary_path(case: TestCase) -> str:
    """Return a nonexistent path in a new folder, which is removed when the test ``case`` ends."""
    folder = tempfile.mkdtemp(prefix="ipython1-test-")
    case.addCleanup(shutil.rmtree, folder, ignore_errors=True)
    return str(Path(folder) / "temporary")
