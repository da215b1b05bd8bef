"""The steps of the Containerfile, in a clean root: what they make is an image in which clusters run."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from twisted.trial import unittest

from ipython1.kernel.scripts.engineoptions import parse_engine
from tests.cleanroot import CleanRoot, archive, why_not

ROOT = Path(__file__).resolve().parents[1]

PROGRAM = """
import getpass, os
from ipython1.kernel.client import Cluster
with Cluster(1) as cluster:
    mec = cluster.multiengine()
    mec.execute("import os; uid, here = os.getuid(), os.getcwd()")
    print(mec.pull("uid"), mec.pull("here"))
"""


class ContainerfileTests(unittest.SynchronousTestCase):
    def test_a_cluster_runs_in_what_it_makes(self) -> None:
        reason = why_not()
        if reason:
            raise unittest.SkipTest(reason)
        try:
            archive()
        except OSError as problem:
            raise unittest.SkipTest(str(problem)) from None
        folder = Path(tempfile.mkdtemp(prefix="ipython1-root-"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        root = CleanRoot(folder / "root")
        root.unpack()
        text = (ROOT / "docs" / "deploy" / "Containerfile").read_text()
        program, *words = json.loads(root.follow(text, ROOT))
        self.assertEqual(program, "ipengine")
        parse_engine(words)
        done = root.run(["python3", "-c", PROGRAM])
        self.assertEqual(done.stdout, "[1000] ['/home/ipython1']\n", done.stderr)
        done = root.run(["ipcluster", "kubernetes", "-n", "1", "--image=i"])
        self.assertIn("there is no usable Kubernetes configuration", done.stderr)
