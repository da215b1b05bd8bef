"""Calls as users of other packages would write them, on a real cluster."""

from __future__ import annotations

import tempfile
from pathlib import Path

from twisted.trial import unittest

from ipython1.kernel.tests.wiresupport import run_program
from ipython1.testing import RealCluster

PROGRAM = Path(__file__).parent / "programs" / "natural_calls.py"


class NaturalCallsTests(unittest.SynchronousTestCase):
    def test_what_a_user_reaches_for_first(self) -> None:
        """Views, results one by one, waiting for engines, and errors that say what to do."""
        with RealCluster(4) as cluster:
            result = cluster.run_program(PROGRAM)
        self.assertEqual(result.stdout.splitlines()[-1], "everything comes naturally")

    def test_no_cluster_is_one_line_in_ipython(self) -> None:
        """IPython shows no traceback of code that the user has not written."""
        with tempfile.TemporaryDirectory() as directory:
            run_program(
                f"""
                import contextlib, io, os
                os.environ["IPYTHONDIR"] = {directory!r}
                from IPython.core.interactiveshell import InteractiveShell
                shell = InteractiveShell.instance()
                with contextlib.redirect_stdout(io.StringIO()) as shown:
                    shell.run_cell("from ipython1.kernel import client; client.MultiEngineClient()")
                lines = shown.getvalue().splitlines()
                assert len(lines) == 1 and lines[0].startswith("NoController: no cluster is"), lines
                """
            )
