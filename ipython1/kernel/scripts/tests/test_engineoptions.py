"""What ``ipengine`` makes of its command line and the ini file."""

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.scripts.engineoptions import parse_engine
from ipython1.kernel.scripts.tests.optionscase import OptionsTestCase
from ipython1.testing.folders import temporary_path


class EngineTests(OptionsTestCase):
    def test_defaults(self):
        config = self.engine()
        self.assertEqual(config.furl_file, self.security / "ipcontroller-engine.furl")
        self.assertEqual((config.controller_ip, config.controller_port), (None, None))
        self.assertEqual((config.mpi, config.mpi_code, config.engine_id), ("", "", None))
        self.assertEqual(config.connect_timeout, 60.0)

    def test_everything_given(self):
        config = self.engine(
            *("--furl-file=e.furl", "--controller-ip=host0", "--controller-port=10000"),
            *("--engine-id=0", "--connect-timeout=1.5", "--mpi=mpi4py"),
        )
        self.assertEqual(config.furl_file, Path.cwd() / "e.furl")
        self.assertEqual((config.controller_ip, config.controller_port), ("host0", 10000))
        self.assertEqual((config.engine_id, config.connect_timeout), (0, 1.5))
        self.assertEqual(config.mpi, "mpi4py")
        compile(config.mpi_code, "mpi", "exec")
        self.assertIn("from mpi4py import MPI as mpi", config.mpi_code)

    def test_a_furl_in_the_environment(self):
        """It is for engines that were started by themselves; and their user code does not see it."""
        text = f"pb://{'a' * 32}@tcp:10.0.0.1:5/{'s' * 32}"
        for arguments in (
            [f"--ipython-dir={self.directory}"],
            ["--cluster-id=x"],
            ["--furl-file=f"],
        ):
            self.patch(os, "environ", {**os.environ, "IPYTHON1_ENGINE_FURL": text})
            self.assertIsNone(parse_engine(arguments).furl)
            self.assertIn("IPYTHON1_ENGINE_FURL", os.environ)
        os.environ["IPYTHONDIR"] = str(self.directory)
        config = parse_engine(["--controller-ip=host0"])
        self.assertEqual(str(config.furl), text)
        self.assertNotIn("s" * 32, repr(config))
        self.assertNotIn("IPYTHON1_ENGINE_FURL", os.environ)
        self.assertIsNone(parse_engine([]).furl)

    def test_ini_file(self):
        self.ini(
            "[engine]\nfurl_file = ~/e.furl\nmpi = mine\nconnect_timeout = 5\n"
            '[mpi]\nmine = """\nimport mine as mpi\n"""\n'
        )
        self.ini("[interpreter]\noutput_size = 1 MiB\n", "core")
        config = self.engine()
        self.assertEqual(config.furl_file, Path.home() / "e.furl")
        self.assertEqual((config.mpi, config.mpi_code), ("mine", "\nimport mine as mpi\n"))
        self.assertEqual((config.connect_timeout, config.output_size), (5.0, 2**20))
        self.assertEqual(self.engine("--mpi=mpi4py", "--connect-timeout=7").mpi, "mpi4py")
        self.assertEqual(self.engine("--mpi=").mpi_code, "")

    def test_unknown_mpi_name_lists_the_known_ones(self):
        self.ini("[mpi]\nmine = import mine as mpi\n")
        line = self.assert_ends(2, self.engine, "--mpi=open-mpi")
        self.assertIn("'open-mpi'; known are mine, mpi4py, pytrilinos", line)
        self.ini("[engine]\nmpi = open-mpi\n")
        line = self.assert_ends(1, self.engine)
        self.assertIn("[engine] mpi = open-mpi", line)
        self.assertIn("known are mpi4py, pytrilinos", line)

    def test_wrong_values_are_refused(self):
        for argument in (
            *(
                "--controller-port=0",
                "--controller-port=70000",
                "--controller-ip=",
                "--engine-id=-1",
            ),
            *("--engine-id=x", "--engine-id=1.0", "--connect-timeout=nan", "--connect-timeout=-1"),
            *("--connect-timeout=inf", "--connect-timeout=soon", "--furl-file="),
        ):
            line = self.assert_ends(2, self.engine, argument)
            self.assertIn(argument.partition("=")[0], line)


class ImportTests(SynchronousTestCase):
    def test_parsing_brings_neither_reactor_nor_network(self):
        code = (
            "import sys\n"
            "from ipython1.kernel.scripts.engineoptions import parse_engine\n"
            "parse_engine(['--ipython-dir', sys.argv[1]])\n"
            "print([m for m in ('configobj', 'twisted', 'foolscap', 'IPython') if m in sys.modules])"
        )
        printed = subprocess.run(
            [sys.executable, "-c", code, temporary_path(self)],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        self.assertEqual(printed.stdout.strip(), "[]")
