"""Command lines over ini files over defaults, and what wrong ones give."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import ipython1
from ipython1.kernel.controller.config import InterfaceSpec
from ipython1.kernel.host.logs import LogOptions
from ipython1.kernel.scripts.controlleroptions import parse_controller
from ipython1.kernel.scripts.engineoptions import parse_engine
from ipython1.testing.folders import temporary_path


class OptionsTestCase(SynchronousTestCase):
    def setUp(self):
        self.directory = Path(temporary_path(self)).absolute()
        self.directory.mkdir(parents=True)
        self.security = self.directory / "security"
        self.log = self.directory / "log"

    def ini(self, text, package="kernel"):
        path = self.directory / f"ipython1.{package}.ini"
        path.write_text(text)
        path.chmod(0o600)

    def controller(self, *arguments):
        return parse_controller([f"--ipython-dir={self.directory}", *arguments])

    def engine(self, *arguments):
        return parse_engine([f"--ipython-dir={self.directory}", *arguments])

    def assert_ends(self, status, parse, *arguments):
        """Parsing ends the process with one line on standard error; returns that line."""
        written = io.StringIO()
        with contextlib.redirect_stderr(written):
            self.assertEqual(self.assertRaises(SystemExit, parse, *arguments).code, status)
        self.assertEqual(written.getvalue().count("\n"), 1, written.getvalue())
        return written.getvalue()


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

    def test_wrong_ini_file_is_one_line_and_status_1(self):
        self.ini("[controller]\nclient_port = 99999\n[engine]\nconnect_timeout = soon\n")
        for parse in (self.controller, self.engine):
            line = self.assert_ends(1, parse)
            self.assertIn("[controller] client_port = 99999", line)
            self.assertIn(str(self.directory / "ipython1.kernel.ini"), line)


class ControllerTests(OptionsTestCase):
    def test_an_unknown_launcher_in_the_ini_file_is_told_with_its_place(self):
        self.ini("[cluster]\nkind = cloud\n")
        line = self.assert_ends(1, self.controller)
        self.assertIn("ipython1.kernel.ini: [cluster] kind = cloud: must be local, ", line)

    def test_defaults(self):
        config = self.controller()
        self.assertEqual(
            (config.client_ip, config.client_port, config.client_location), ("", 0, "")
        )
        self.assertEqual(config.client_cert_file, self.security / "ipcontroller.pem")
        self.assertEqual(config.engine_furl_file, self.security / "ipcontroller-engine.furl")
        self.assertFalse(config.reuse_furls)
        self.assertTrue(config.one_port)
        self.assertEqual(config.max_message_size, 4 * 2**30)
        self.assertEqual(
            config.interfaces,
            (
                InterfaceSpec(
                    "multiengine",
                    "ipython1.kernel.multiengine.IMultiEngine",
                    "ipython1.kernel.multienginefc.IFCMultiEngine",
                    self.security / "ipcontroller-mec.furl",
                ),
                InterfaceSpec(
                    "task",
                    "ipython1.kernel.task.ITaskController",
                    "ipython1.kernel.taskfc.IFCTaskController",
                    self.security / "ipcontroller-tc.furl",
                ),
            ),
        )
        self.assertEqual(config.task.scheduler, "ipython1.kernel.task.FIFOScheduler")
        self.assertEqual(config.task.kill_limit, 3)

    def test_cluster_id_is_in_every_files_name(self):
        config = self.controller("--cluster-id=x")
        self.assertEqual(config.client_cert_file, self.security / "ipcontroller-x.pem")
        self.assertEqual(config.engine_furl_file, self.security / "ipcontroller-x-engine.furl")
        self.assertEqual(
            [spec.furl_file.name for spec in config.interfaces],
            ["ipcontroller-x-mec.furl", "ipcontroller-x-tc.furl"],
        )

    def test_engines_side_is_the_clients_unless_given(self):
        config = self.controller(
            *("--client-ip=127.0.0.1", "--client-port=5", "--client-location=h", "-r"),
            "--client-cert-file=c.pem",
        )
        self.assertEqual(config.engine_ip, "127.0.0.1")
        self.assertEqual(config.engine_location, "h")
        self.assertEqual(config.engine_cert_file, Path.cwd() / "c.pem")
        self.assertTrue(config.one_port)
        self.assertTrue(config.reuse_furls)

    def test_engines_side_of_its_own(self):
        config = self.controller(
            *("--client-port=5", "--engine-ip=::1", "--engine-port=6"),
            *("--engine-location=[::1]:7,node1:8", "--engine-cert-file=e.pem"),
        )
        self.assertEqual((config.engine_ip, config.engine_port), ("::1", 6))
        self.assertEqual(config.engine_location, "[::1]:7,node1:8")
        self.assertEqual(config.engine_cert_file, Path.cwd() / "e.pem")
        self.assertFalse(config.one_port)
        self.assertFalse(self.controller("--client-port=5", "--engine-port=6").one_port)

    def test_furl_files_are_named_where_the_command_is_given(self):
        config = self.controller(
            *("--task-furl-file=t.furl", "--multiengine-furl-file=~/m.furl"),
            "--engine-furl-file=/e.furl",
        )
        self.assertEqual(
            [spec.furl_file for spec in config.interfaces],
            [Path.home() / "m.furl", Path.cwd() / "t.furl"],
        )
        self.assertEqual(config.engine_furl_file, Path("/e.furl"))

    def test_command_line_over_ini_over_default(self):
        self.ini(
            "[controller]\nclient_port = 10105\nclient_location = 'a,b:5'\nreuse_furls = True\n"
            "client_cert_file = my.pem\nmax_message_size = 1 GiB\n"
            "[task]\nscheduler = mine.Scheduler\nabort_grace = 1\n"
        )
        config = self.controller("--client-port=0")
        self.assertEqual(config.client_port, 0)
        self.assertEqual(config.client_location, "a,b:5")
        self.assertTrue(config.reuse_furls)
        self.assertEqual(config.client_cert_file, self.security / "my.pem")
        self.assertEqual(config.max_message_size, 2**30)
        self.assertEqual((config.task.scheduler, config.task.abort_grace), ("mine.Scheduler", 1.0))
        self.assertEqual(config.task.prefetch_max, 4096)

    def test_interfaces_are_added_changed_and_turned_off(self):
        self.ini(
            "[controller]\n[[controller_interfaces]]\n"
            "[[[task]]]\nenabled = False\n[[[multiengine]]]\nfurl_file = m.furl\n"
            "[[[mine]]]\ncontroller_interface = pkg.IMine\nfc_interface = pkg.IFCMine\n"
        )
        self.assertEqual(
            [
                (spec.name, spec.controller_adapter, spec.furl_file)
                for spec in self.controller().interfaces
            ],
            [
                (
                    "multiengine",
                    "ipython1.kernel.multiengine.IMultiEngine",
                    self.security / "m.furl",
                ),
                ("mine", "pkg.IMine", self.security / "ipcontroller-mine.furl"),
            ],
        )

    def test_interface_without_its_names_is_told(self):
        self.ini("[controller]\n[[controller_interfaces]]\n[[[mine]]]\nfc_interface = pkg.IX\n")
        line = self.assert_ends(1, self.controller)
        self.assertIn("[[[mine]]] controller_interface is missing", line)

    def test_two_interfaces_cannot_have_one_furl_file(self):
        line = self.assert_ends(
            2, self.controller, "--task-furl-file=a.furl", "--engine-furl-file=a.furl"
        )
        self.assertIn("a.furl", line)
        self.assertIn("task", line)

    def test_one_port_cannot_have_two_key_files(self):
        line = self.assert_ends(
            *(2, self.controller, "--client-port=5", "--engine-port=5"),
            "--engine-cert-file=other.pem",
        )
        self.assertIn("two key files", line)

    def test_wrong_values_are_refused(self):
        for argument in (
            *("--client-port=65536", "--client-port=-1", "--client-port=x", "--client-port=1.5"),
            *("--engine-port=", "--client-ip=not an address", "--engine-ip=a/b"),
            *("--client-location=h:x", "--client-location=h:0", "--client-location=a,,b"),
            *("--engine-location=::1:", "--client-location=pb://x", "--client-cert-file="),
        ):
            line = self.assert_ends(2, self.controller, argument)
            self.assertIn(argument.partition("=")[0], line)


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
