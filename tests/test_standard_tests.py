"""CPython's and joblib's own tests of executors and ``Parallel``, on engines; the programs list what does not apply."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from twisted.trial import unittest

from tests.interactive import OnSharedCluster

PROGRAMS = Path(__file__).resolve().parent / "programs"


def is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even its package
        return False


class StandardTests(OnSharedCluster):
    """Each program runs a number of tests that others wrote."""

    engines = 2

    def number_of_tests(self, program: str, kind: str) -> int:
        assert self.cluster is not None
        result = self.cluster.run_program(PROGRAMS / program, kind)
        found = re.match(r"(\d+) ", result.stdout.splitlines()[-1])
        assert found is not None, result.stdout
        return int(found[1])

    def test_executors(self) -> None:
        """Both executors pass CPython's tests of executors, and their futures those of futures."""
        if not is_installed("test.test_concurrent_futures"):
            raise unittest.SkipTest("this Python comes without test.test_concurrent_futures")
        for kind, least in (("mec", 35), ("tc", 20)):
            self.assertGreater(self.number_of_tests("standard_executor_tests.py", kind), least)

    def test_joblib(self) -> None:
        """The backend passes joblib's tests that apply to any backend."""
        for module in ("joblib.test.test_parallel", "pytest"):
            if not is_installed(module):
                raise unittest.SkipTest(f"{module} is not installed")
        self.assertGreater(self.number_of_tests("standard_joblib_tests.py", "mec"), 60)
