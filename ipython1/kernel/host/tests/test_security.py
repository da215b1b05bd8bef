"""Directories and files of a cluster, and FURL files."""

import os
import stat
import subprocess
import sys
from pathlib import Path

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ipython1.config import ConfigError
from ipython1.kernel.basics.error import ClientError, FileTimeoutError, SecurityError
from ipython1.kernel.host.furl import parse_furl
from ipython1.kernel.host.security import (
    BAD_FILE_SECONDS,
    ClusterFiles,
    IPythonDirs,
    read_furl,
    wait_for_furl,
    write_furl,
)
from ipython1.testing.folders import temporary_path

FURL = parse_furl(
    "pb://abcdefghijklmnopqrstuvwxyz234567@tcp:127.0.0.1:10105/s3cr3ts3cr3ts3cr3ts3cr3t"
)


class DirsTests(SynchronousTestCase):
    def test_option_over_environment_over_home(self):
        environ = {"IPYTHONDIR": "/from/environ"}
        self.assertEqual(IPythonDirs.resolve("/given", environ).ipython_dir, Path("/given"))
        self.assertEqual(IPythonDirs.resolve(None, environ).ipython_dir, Path("/from/environ"))
        self.assertEqual(IPythonDirs.resolve("", environ).ipython_dir, Path("/from/environ"))
        self.assertEqual(IPythonDirs.resolve(None, {}).ipython_dir, Path.home() / ".ipython")
        self.assertEqual(
            IPythonDirs.resolve(None, {"IPYTHONDIR": ""}), IPythonDirs.resolve(None, {})
        )

    def test_path_is_absolute_and_home_is_expanded(self):
        self.assertEqual(IPythonDirs.resolve("~/x").ipython_dir, Path.home() / "x")
        self.assertEqual(IPythonDirs.resolve("a/../b").ipython_dir, Path.cwd() / "b")

    def test_unknown_home_says_what_to_do(self):
        with self.assertRaisesRegex(ConfigError, "--ipython-dir"):
            IPythonDirs.resolve("~no-such-user-here/x")

    def test_prepare_makes_closed_directories_and_refuses_open_ones(self):
        dirs = IPythonDirs.resolve(temporary_path(self))
        dirs.prepare()
        for directory in (dirs.security, dirs.log):
            self.assertEqual(stat.S_IMODE(os.stat(directory).st_mode), 0o700)
        dirs.prepare()
        dirs.security.chmod(0o770)
        with self.assertRaisesRegex(SecurityError, f"chmod 700 {dirs.security}"):
            dirs.prepare()
        dirs.security.chmod(0o700)
        dirs.log.chmod(0o755)
        with self.assertRaisesRegex(SecurityError, f"chmod 700 {dirs.log}"):
            dirs.prepare()
        dirs.log.chmod(0o700)
        dirs.prepare()

    def test_prepare_refuses_a_directory_in_which_others_can_replace_everything(self):
        dirs = IPythonDirs.resolve(temporary_path(self))
        dirs.ipython_dir.mkdir()
        dirs.ipython_dir.chmod(0o777)
        with self.assertRaisesRegex(SecurityError, f"chmod go-w {dirs.ipython_dir}"):
            dirs.prepare()
        self.assertEqual(os.listdir(dirs.ipython_dir), [])
        dirs.ipython_dir.chmod(0o1777)
        dirs.prepare()

    def test_a_new_directory_is_not_open_to_others_whatever_the_umask(self):
        self.addCleanup(os.umask, os.umask(0))
        dirs = IPythonDirs.resolve(temporary_path(self)).prepare()
        self.assertEqual(stat.S_IMODE(os.stat(dirs.ipython_dir).st_mode), 0o700)


class ClusterFilesTests(SynchronousTestCase):
    dirs = IPythonDirs(Path("/i"))

    def names(self, cluster_id):
        files = ClusterFiles(self.dirs, cluster_id)
        return [
            str(path)
            for path in (
                files.certificate,
                files.engine_furl,
                files.multiengine_furl,
                files.task_furl,
                files.state,
                files.controller_log,
                files.engine_log(3),
                files.cluster_log,
            )
        ]

    def test_names_of_the_default_cluster(self):
        self.assertEqual(
            self.names(""),
            [
                "/i/security/ipcontroller.pem",
                "/i/security/ipcontroller-engine.furl",
                "/i/security/ipcontroller-mec.furl",
                "/i/security/ipcontroller-tc.furl",
                "/i/security/ipcluster.json",
                "/i/log/ipcontroller.log",
                "/i/log/ipengine-3.log",
                "/i/log/ipcluster.log",
            ],
        )

    def test_names_of_a_cluster_with_an_id(self):
        self.assertEqual(
            self.names("a-1.b"),
            [
                "/i/security/ipcontroller-a-1.b.pem",
                "/i/security/ipcontroller-a-1.b-engine.furl",
                "/i/security/ipcontroller-a-1.b-mec.furl",
                "/i/security/ipcontroller-a-1.b-tc.furl",
                "/i/security/ipcluster-a-1.b.json",
                "/i/log/ipcontroller-a-1.b.log",
                "/i/log/ipengine-a-1.b-3.log",
                "/i/log/ipcluster-a-1.b.log",
            ],
        )

    def test_ids_that_could_lead_elsewhere_are_refused(self):
        for bad in (
            "..",
            ".",
            "a/b",
            "/etc",
            "a\\b",
            "-n",
            ".x",
            "a b",
            "ä",
            "a\n",
            "a\0",
            "x" * 65,
        ):
            with self.assertRaisesRegex(ClientError, "cluster id"):
                ClusterFiles(self.dirs, bad)


class FurlFileTestCase(SynchronousTestCase):
    def setUp(self):
        self.directory = Path(temporary_path(self))
        self.directory.mkdir(mode=0o700, parents=True)
        self.path = self.directory / "ipcontroller-mec.furl"

    def put(self, data):
        self.path.write_bytes(data)
        self.path.chmod(0o600)


class FurlFileTests(FurlFileTestCase):
    def test_what_is_written_is_read(self):
        write_furl(self.path, FURL)
        self.assertEqual(read_furl(self.path), FURL)
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)

    def test_what_is_there_already_is_not_written_again(self):
        write_furl(self.path, FURL)
        before = self.path.stat()
        write_furl(self.path, FURL)
        self.assertEqual(self.path.stat().st_ino, before.st_ino)
        self.path.chmod(0o644)
        write_furl(self.path, FURL)  # a file that others could read is replaced
        self.assertEqual(read_furl(self.path), FURL)

    def test_missing_file_says_what_to_do(self):
        with self.assertRaisesRegex(
            SecurityError, f"{self.path} does not exist.*start a controller"
        ):
            read_furl(self.path)

    def test_damaged_files_name_the_file_and_what_to_do_and_keep_the_secret(self):
        for data in (b"", b"\n", b"\xff\xfe", str(FURL)[:-30].encode(), b"x" + str(FURL).encode()):
            self.put(data)
            message = str(self.assertRaises(SecurityError, read_furl, self.path))
            self.assertIn(str(self.path), message)
            self.assertIn("remove it", message)
            self.assertNotIn("s3cr3t", message)


class WaitTests(FurlFileTestCase):
    def setUp(self):
        super().setUp()
        self.clock = Clock()
        self.waiting = ensureDeferred(wait_for_furl(self.path, 10.0, self.clock))

    def pass_time(self, seconds):
        self.clock.pump([0.05] * round(seconds / 0.05))

    def test_file_that_is_there(self):
        self.pass_time(1)
        write_furl(self.path, FURL)
        self.assertEqual(
            self.successResultOf(ensureDeferred(wait_for_furl(self.path, 0, Clock()))), FURL
        )
        self.pass_time(0.05)
        self.assertEqual(self.successResultOf(self.waiting), FURL)

    def test_file_that_comes_late_is_found_soon(self):
        self.assertNoResult(self.waiting)
        self.pass_time(9)
        write_furl(self.path, FURL)
        self.pass_time(0.3)
        self.assertEqual(self.successResultOf(self.waiting), FURL)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_file_that_is_being_written_is_waited_for(self):
        text = str(FURL).encode()
        for part in (b"", text[:30], text[:-30]):
            self.put(part)
            self.pass_time(0.5)
            self.assertNoResult(self.waiting)
        self.put(text)
        self.pass_time(0.5)
        self.assertEqual(self.successResultOf(self.waiting), FURL)

    def test_file_that_stays_bad_is_told_soon(self):
        self.put(b"")
        self.pass_time(BAD_FILE_SECONDS + 0.2)
        self.assertIn("empty", str(self.failureResultOf(self.waiting, SecurityError).value))

    def test_open_file_is_told_with_its_remedy(self):
        self.put(str(FURL).encode())
        self.path.chmod(0o644)
        self.pass_time(BAD_FILE_SECONDS + 0.2)
        self.assertIn("chmod 600", str(self.failureResultOf(self.waiting, SecurityError).value))

    def test_file_that_never_comes(self):
        self.pass_time(9.9)
        self.assertNoResult(self.waiting)
        self.pass_time(0.2)
        message = str(self.failureResultOf(self.waiting, FileTimeoutError).value)
        self.assertIn(str(self.path), message)
        self.assertIn("10 s", message)
        self.assertIn("start the controller", message)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ImportTests(SynchronousTestCase):
    def test_importing_it_brings_neither_reactor_nor_network(self):
        code = (
            "import sys, ipython1.kernel.host.security\n"
            "print([m for m in ('twisted', 'foolscap', 'OpenSSL', 'cryptography', 'configobj')"
            " if m in sys.modules])"
        )
        printed = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
        )
        self.assertEqual(printed.stdout.strip(), "[]")
