"""The backend's name on engines, in processes that have not imported joblib."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

USE = """
with joblib.parallel_config("ipython1", n_jobs=2, targets=[0]):
    assert joblib.Parallel()(joblib.delayed(abs)(-n) for n in range(5)) == [0, 1, 2, 3, 4]
backend = joblib.Parallel(n_jobs=2, backend="ipython1")._backend
assert isinstance(backend, joblib.parallel.ThreadingBackend), backend
"""


class NestedBackendTests(SynchronousTestCase):
    if importlib.util.find_spec("joblib") is None:
        skip = "joblib is not installed"

    def run_code(self, code: str) -> None:
        offer = "from ipython1.kernel.objects.joblibcalls import offer_nested_backend\n"
        path = os.pathsep.join(path for path in sys.path if path)
        result = subprocess.run(
            [sys.executable, "-c", offer + code],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_it_is_there_when_joblib_is_imported(self) -> None:
        self.run_code(
            "import sys\noffer_nested_backend()\nassert 'joblib' not in sys.modules\nimport joblib"
            + USE
        )

    def test_it_is_there_if_joblib_was_imported_before(self) -> None:
        self.run_code("import joblib\noffer_nested_backend()" + USE)

    def test_a_backend_of_the_user_is_kept(self) -> None:
        self.run_code(
            "import joblib\njoblib.register_parallel_backend('ipython1', list)\noffer_nested_backend()\n"
            "assert joblib.parallel.BACKENDS['ipython1'] is list"
        )
