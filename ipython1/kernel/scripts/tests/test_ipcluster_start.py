"""Which command lines of ``ipcluster`` have a nanny started at once, and that none is left of those that are wrong."""

from __future__ import annotations

import contextlib
import io
import os

from twisted.trial.unittest import SynchronousTestCase

from ipython1.daemon import osprocess
from ipython1.daemon.starting import NewNanny
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

    def test_a_nanny_that_was_set_up_is_left_to_its_work(self):
        """After a second Ctrl-C, for example, it still ends what it has started."""
        nannies: list[NewNanny] = []

        def run(words: list[str], nanny: NewNanny | None) -> int:
            assert nanny is not None
            nannies.append(nanny)
            nanny.set_up()
            return 1

        self.patch(ipcluster, "run", run)
        self.assertEqual(ipcluster.main([]), 1)
        (nanny,) = nannies
        self.assertIsNone(nanny.process.poll())
        nanny.connection.close()
        self.assertEqual(nanny.process.wait(20), 0)

    def test_the_nanny_imports_the_controller(self):
        self.assertEqual(ipcluster.CONTROLLER_MODULE, CONTROLLER_MODULE)
