"""Which command lines of ``ipcluster`` have a nanny started at once, and that none is left of those that are wrong."""

from __future__ import annotations

import contextlib
import io
import os

from twisted.trial.unittest import SynchronousTestCase

from ipython1.daemon import osprocess
from ipython1.kernel.launchers.programs import CONTROLLER_MODULE
from ipython1.kernel.scripts import ipcluster


class StartTest(SynchronousTestCase):
    def test_only_those_that_start_a_cluster_here(self):
        for words in ([], ["-n", "4"], ["local", "-n", "4"], ["--cluster-id=stop"]):
            self.assertTrue(ipcluster.starts_here(words), words)
        for words in (
            ["stop"],
            ["status", "--json"],
            ["engines", "local"],
            ["ssh", "-f", "hosts"],
            ["--help"],
            ["-n", "4", "--daemonize"],
        ):
            self.assertFalse(ipcluster.starts_here(words), words)

    def test_a_wrong_one_leaves_no_process(self):
        before = osprocess.descendants(os.getpid())
        with contextlib.redirect_stderr(io.StringIO()), self.assertRaises(SystemExit) as raised:
            ipcluster.main(["-n", "many"])
        self.assertEqual(raised.exception.code, 2)
        self.assertEqual(osprocess.descendants(os.getpid()), before)

    def test_the_nanny_imports_the_controller(self):
        self.assertEqual(ipcluster.CONTROLLER_MODULE, CONTROLLER_MODULE)
