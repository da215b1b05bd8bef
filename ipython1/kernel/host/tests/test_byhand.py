"""Notes of what was started by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ipython1.daemon.children import OWNER_VARIABLE
from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.clusters.byhand import all_by_hand, status_by_hand, stop_by_hand
from ipython1.kernel.host.byhand import CONTROLLER, ENGINE, Note, is_by_hand, notes_of
from ipython1.kernel.host.processstate import name_process
from ipython1.kernel.host.security import ClusterFiles, IPythonDirs
from ipython1.testing.folders import temporary_path


class NoteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.dirs = IPythonDirs(Path(temporary_path(self))).prepare()
        self.files = ClusterFiles(self.dirs, "mine")

    def note(self, program: str = CONTROLLER) -> Note:
        note = Note(self.files, program, self.files.controller_log)
        self.addCleanup(note.remove)
        return note

    def changed(self, name: str, **fields: object) -> None:
        path = self.files.dirs.security / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    def test_who_was_started_by_hand(self) -> None:
        self.assertTrue(is_by_hand(False, {"PATH": "/bin"}))
        self.assertFalse(is_by_hand(True, {}))
        for variable in (OWNER_VARIABLE, "SLURM_JOB_ID", "OMPI_COMM_WORLD_RANK"):
            self.assertFalse(is_by_hand(False, {variable: "1"}))

    def test_a_controller_and_an_engine_are_a_cluster(self) -> None:
        self.assertIsNone(status_by_hand(self.files))
        self.note().write()
        self.note(ENGINE).write(3)
        status = status_by_hand(self.files)
        assert status is not None
        self.assertEqual((status.kind, status.pid, status.ids), ("by hand", os.getpid(), (3,)))
        self.assertTrue(status.is_here and status.is_alive)
        self.assertEqual([each.cluster_id for each in all_by_hand(self.dirs)], ["mine"])
        self.assertIsNone(status_by_hand(ClusterFiles(self.dirs)))

    def test_it_goes_with_the_process_and_not_with_another(self) -> None:
        note = self.note()
        note.write()
        if os.fork() == 0:
            note.remove()
            os._exit(0)
        os.wait()
        self.assertEqual(len(notes_of(self.files)), 1)
        note.remove()
        self.assertEqual(notes_of(self.files), [])

    def test_a_later_process_with_the_same_number_is_not_taken_for_it(self) -> None:
        self.note().write()
        self.changed("ipcontroller-mine.byhand", pid_started=12.0)
        self.assertEqual(notes_of(self.files), [])
        # It is not looked at again.
        self.assertFalse((self.dirs.security / "ipcontroller-mine.byhand").exists())

    def test_what_runs_elsewhere_is_known_and_left_alone(self) -> None:
        self.note().write()
        self.changed("ipcontroller-mine.byhand", host="elsewhere", node="far", pid_started=12.0)
        status = status_by_hand(self.files)
        assert status is not None
        self.assertEqual((status.host, status.is_here), ("far", False))
        problem = self.assertRaises(
            ClusterError, stop_by_hand, self.files, lambda files, limit: self.fail("asked"), True
        )
        self.assertIn("runs on far; stop it there", str(problem))

    def test_a_process_that_cannot_be_asked_is_ended_by_a_signal(self) -> None:
        for force in (False, True):
            process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            name = name_process(process.pid)
            assert name is not None
            self.note(ENGINE).write(0)
            (path,) = self.dirs.security.glob("*.byhand")
            self.changed(path.name, pid=process.pid, pid_started=name.started)
            self.assertEqual(stop_by_hand(self.files, lambda files, limit: None, force), 1)
            self.assertEqual(process.wait(10), -9 if force else -15)
            self.assertFalse(path.exists())
            self.assertEqual(notes_of(self.files), [])

    def test_notes_that_make_no_sense_are_passed_over(self) -> None:
        for text in ("", "[]", "{}", "x"):
            (self.dirs.security / "ipcontroller-mine.byhand").write_text(text)
            self.assertEqual(notes_of(self.files), [])
