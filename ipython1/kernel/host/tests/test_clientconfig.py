"""The clients' section of the configuration file."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ipython1.config.error import ConfigError
from ipython1.kernel.host import clientconfig


class BringSizeTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = self.mktemp()
        os.mkdir(folder, 0o700)
        self.file = Path(folder, "ipython1.kernel.ini")
        self.patch(os, "environ", {**os.environ, "IPYTHONDIR": folder})
        self.patch(clientconfig, "_settings", None)

    def test_without_a_file(self) -> None:
        self.assertEqual(clientconfig.bring_size(), 1024**2)

    def test_it_is_read_whatever_else_is_there(self) -> None:
        text = "[controller]\nclient_port = 4\n[client]\nbring_size = 3 KiB\n[nothing]\n[[known]]\n"
        self.file.write_text(text)
        self.assertEqual(clientconfig.bring_size(), 3072)

    def test_a_wrong_value_is_told(self) -> None:
        self.file.write_text("[client]\nbring_size = much\n")
        problem = self.assertRaises(ConfigError, clientconfig.bring_size)
        self.assertIn("[client] bring_size = much: must be a size in bytes", str(problem))
