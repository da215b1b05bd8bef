"""The options that ``ipcontroller`` and ``ipengine`` share, and what wrong usage and wrong ini files give."""

import contextlib
import io
import os
from pathlib import Path

import ipython1
from ipython1.kernel.host.logs import LogOptions
from ipython1.kernel.scripts import furlactions
from ipython1.kernel.scripts.controlleroptions import parse_controller
from ipython1.kernel.scripts.engineoptions import parse_engine
from ipython1.kernel.scripts.tests.optionscase import OptionsTestCase
from ipython1.testing.folders import temporary_path


class CommonTests(OptionsTestCase):
    def test_directory_from_option_and_environment(self):
        other = Path(temporary_path(self)).absolute()
        self.patch(os, "environ", {**os.environ, "IPYTHONDIR": str(other)})
        self.assertEqual(parse_engine([]).ipython_dir, other)
        self.assertEqual(self.engine().ipython_dir, self.directory)

    def test_log_goes_to_the_directory_under_the_clusters_name(self):
        self.assertEqual(
            self.controller().log_options("ipcontroller"), LogOptions(self.log / "ipcontroller.log")
        )
        self.assertEqual(
            self.controller("--cluster-id", "x").log_options("ipcontroller").path,
            self.log / "ipcontroller-x.log",
        )
        self.assertEqual(
            self.engine("--engine-id=3").log_options().path, self.log / "ipengine-3.log"
        )
        self.assertEqual(
            self.engine("--cluster-id=x").log_options().path,
            self.log / f"ipengine-x-{os.getpid()}.log",
        )

    def test_log_options(self):
        config = self.engine("-l", "a.log", "--log-level=warn")
        self.assertEqual(config.log_options(), LogOptions(Path.cwd() / "a.log", "warn"))
        self.assertIsNone(self.engine("--logfile", "-").log_options().path)
        self.ini("[engine]\nlog_level = debug\nlog_size = 1 MiB\n")
        self.assertEqual((self.engine().log_level, self.engine().log_size), ("debug", 2**20))
        self.assertEqual(self.engine("--log-level=error").log_level, "error")
        self.assertEqual(self.controller().log_level, "info")

    def test_version_and_help(self):
        for parse in (parse_controller, parse_engine):
            for option, shown in (("--version", ipython1.__version__), ("--help", "--cluster-id")):
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    self.assertEqual(self.assertRaises(SystemExit, parse, [option]).code, 0)
                self.assertIn(shown, printed.getvalue())

    def test_wrong_usage_is_one_line_with_the_way_to_help_and_status_2(self):
        for arguments in (
            ["--no-such-option"],
            ["stray"],
            ["--cluster-id=../x"],
            ["--cluster-id=a/b"],
            ["--log-level=loud"],
            ["--logfile="],
            ["--ipython-dir", __file__],
            ["--ipython-dir", "~no-such-user-here/x"],
            ["--cluster"],
        ):
            for name, parse in (("ipcontroller", parse_controller), ("ipengine", parse_engine)):
                line = self.assert_ends(2, parse, arguments)
                self.assertTrue(line.startswith(f"{name}: "), line)
                self.assertIn(f"{name} --help", line)

    def test_a_mistyped_word_is_recognized(self):
        self.assertIn("did you mean 'furl'?", self.assert_ends(2, self.controller, "fulr"))
        line = self.assert_ends(2, self.engine, "--furl-fiel=x")
        self.assertIn("did you mean '--furl-file'?", line)
        for words, meant in ((["lst"], "'list'"), (["list", "--jsn"], "'--json'")):
            line = self.assert_ends(2, furlactions.make_parser().parse_args, words)
            self.assertIn(f"did you mean {meant}?", line)

    def test_wrong_ini_file_is_one_line_and_status_1(self):
        self.ini("[controller]\nclient_port = 99999\n[engine]\nconnect_timeout = soon\n")
        for parse in (self.controller, self.engine):
            line = self.assert_ends(1, parse)
            self.assertIn("[controller] client_port = 99999", line)
            self.assertIn(str(self.directory / "ipython1.kernel.ini"), line)
