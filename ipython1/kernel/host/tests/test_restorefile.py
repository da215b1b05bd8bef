"""The file by which engines are told what to do before they can be used."""

from __future__ import annotations

from pathlib import Path

from twisted.trial import unittest

from ipython1.kernel.basics.error import ClientError, SecurityError
from ipython1.kernel.host.restorefile import NAMES, SOURCE, read_restore, write_restore
from ipython1.testing.folders import temporary_path


class RestoreFileTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        directory = Path(temporary_path(self))
        directory.mkdir(mode=0o700)
        self.path = directory / "ipcluster.restore"

    def test_what_is_written_is_read(self) -> None:
        for kind, content in ((SOURCE, "a = 'ä'\n".encode()), (NAMES, bytes(range(256)) * 20_000)):
            write_restore(self.path, kind, content)
            self.assertEqual(read_restore(self.path), (kind, content))
            self.assertTrue(self.path.read_bytes().isascii())  # it can travel as text

    def test_a_file_that_others_can_read_is_refused(self) -> None:
        write_restore(self.path, SOURCE, b"a = 1")
        self.path.chmod(0o644)
        self.assertRaises(SecurityError, read_restore, self.path)

    def test_a_damaged_file_is_told(self) -> None:
        write_restore(self.path, SOURCE, b"a = 1")
        whole = self.path.read_bytes()
        for damaged in (whole[:-4], whole.replace(b"restore 1", b"restore 9"), b"x"):
            self.path.write_bytes(damaged)
            self.assertIn(
                "is damaged", str(self.assertRaises(ClientError, read_restore, self.path))
            )
