"""Log files: what gets in, what never does, and that they stay small."""

import io
import os
import stat
import subprocess
import sys
from pathlib import Path

from twisted.logger import Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import KernelError
from ipython1.kernel.host.logs import LOG_FILES_KEPT, make_observer, open_log_file
from ipython1.testing.folders import temporary_path

SECRET = "s3cr3t" * 6
FURL = f"pb://abcdefghijklmnopqrstuvwxyz234567@tcp:127.0.0.1:10105/{SECRET}"


class ObserverTests(SynchronousTestCase):
    def log(self, level="info"):
        self.file = io.StringIO()
        return Logger("here", observer=make_observer(self.file, level))

    def test_messages_from_the_level_up(self):
        log = self.log("warn")
        for level in LogLevel.iterconstants():
            log.emit(level, "a {what} message", what=level.name)
        lines = self.file.getvalue().splitlines()
        self.assertEqual([line.split()[-2] for line in lines], ["warn", "error", "critical"])

    def test_secrets_in_messages_and_in_tracebacks_are_hidden(self):
        log = self.log("debug")
        log.info("connecting to {furl}", furl=FURL)
        try:
            raise KeyError(f"no reference for {SECRET}")
        except KeyError:
            log.failure("while looking up {furl}", Failure(), furl=FURL)
        text = self.file.getvalue()
        self.assertNotIn("s3cr3t", text)
        self.assertIn(
            "connecting to pb://abcdefghijklmnopqrstuvwxyz234567@tcp:127.0.0.1:10105/", text
        )
        self.assertIn("KeyError", text)
        self.assertIn("Traceback", text)

    def test_what_others_say_cannot_look_like_an_entry_or_control_a_terminal(self):
        log = self.log()
        for forged in (
            "x\n2026-01-01 [-] engine 0 registered",
            "\r\x1b[2Jx",
            "\x9b31m",
            "\u202eabc",
            "a\u2028b",
        ):
            log.info("a peer said {words}", words=forged)
            try:
                raise ValueError(forged)
            except ValueError:
                log.failure("it failed: {words}", words=forged)
        text = self.file.getvalue()
        self.assertTrue(text.replace("\n", "").replace("\t", "").isprintable())
        for line in text.splitlines():
            self.assertTrue(line.startswith("\t") or " [here#" in line, line)
        self.assertIn(r"said x\n2026-01-01 [-] engine 0", text)
        self.assertIn(r"\r\x1b[2Jx", text)
        self.assertIn("Überschrift 漢字 😀", self.shown("Überschrift 漢字 😀"))

    def shown(self, text):
        log = self.log()
        log.info("{text}", text=text)
        return self.file.getvalue()

    def test_a_failure_without_words(self):
        log = self.log()
        log.emit(LogLevel.error, "", log_failure=Failure(ValueError("why")))
        self.assertIn("why", self.file.getvalue())


class FileTests(SynchronousTestCase):
    def setUp(self):
        self.path = Path(temporary_path(self)) / "log" / "ipengine-0.log"

    def open(self, path=None, size=1000):
        file = open_log_file(path or self.path, size)
        self.addCleanup(file.close)
        return file

    def test_directory_and_file_are_made_for_their_owner(self):
        self.open()
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(self.path.parent).st_mode), 0o700)

    def test_lines_are_added_behind_old_ones(self):
        for line in ("first\n", "second é\n"):
            self.open().write(line)
        self.assertEqual(self.path.read_text("utf-8"), "first\nsecond é\n")

    def test_files_stay_small_and_few(self):
        file = self.open(size=1000)
        for number in range(200):
            file.write(f"{number:099}\n")
        found = sorted(path.name for path in self.path.parent.iterdir())
        self.assertEqual(
            found,
            [self.path.name, *(f"{self.path.name}.{n}" for n in range(1, LOG_FILES_KEPT + 1))],
        )
        for name in found:
            path = self.path.parent / name
            self.assertLessEqual(path.stat().st_size, 1100)
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        self.assertIn(f"{199:099}", self.path.read_text())

    def test_processes_that_share_a_file_add_whole_lines(self):
        one, other = self.open(size=0), self.open(size=0)
        for number in range(50):
            one.write(f"{number} é\n")
            other.write(f"{number} \udcff\n")
        lines = self.path.read_text().splitlines()
        self.assertEqual(lines[:2], ["0 é", r"0 \udcff"])
        self.assertEqual(len(lines), 100)

    def test_rotation_does_not_follow_links_and_goes_on_without_a_new_file(self):
        file = self.open(size=100)
        precious = self.path.parent / "precious"
        precious.write_text("precious")
        file.write("x" * 100)
        rename = os.replace

        def replace(old, new):
            rename(old, new)
            self.path.symlink_to(precious)

        self.patch(os, "replace", replace)
        file.write("more")
        self.assertEqual(precious.read_text(), "precious")
        self.assertEqual(Path(f"{self.path}.1").read_text(), "x" * 100 + "more")

    def test_a_closed_file_takes_nothing(self):
        file = self.open()
        file.close()
        file.close()
        self.assertRaises(OSError, file.write, "x")

    def test_a_link_is_refused_with_what_to_do(self):
        self.path.parent.mkdir(mode=0o700, parents=True)
        self.path.symlink_to(self.path.parent / "precious")
        with self.assertRaisesRegex(KernelError, "symbolic link"):
            open_log_file(self.path, 1000)

    def test_device_is_written_and_left_as_it_is(self):
        before = os.stat("/dev/null").st_mode
        self.open(Path("/dev/null")).write(b"x\n")
        self.assertEqual(os.stat("/dev/null").st_mode, before)

    def test_full_disk_does_not_stop_the_process(self):
        file = self.open(Path("/dev/full"))
        log = Logger("here", observer=make_observer(file, "info"))
        self.assertRaises(OSError, log.info, "lost")
        # What such an observer is part of in a running process.
        everything = LogPublisher(make_observer(file, "info"))
        Logger("here", observer=everything).info("lost, and the process goes on")

    def test_file_that_cannot_be_opened_is_one_clear_error(self):
        blocked = Path(temporary_path(self))
        blocked.write_text("")
        for path in (blocked / "x.log", Path("/")):
            message = str(self.assertRaises(KernelError, open_log_file, path, 1000))
            self.assertIn(str(path), message)
            self.assertIn("--logfile", message)


class ProcessTests(SynchronousTestCase):
    def run_python(self, code, *arguments):
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )

    def test_process_logs_what_it_said_before_and_after_and_keeps_its_output(self):
        path = Path(temporary_path(self)).absolute()
        code = (
            "import sys; from pathlib import Path\n"
            "from twisted.logger import Logger\n"
            "from ipython1.kernel.host.logs import LogOptions, start_logging\n"
            "log = Logger('here'); log.info('early {f}', f=sys.argv[2])\n"
            "running = start_logging(LogOptions(Path(sys.argv[1])))\n"
            "log.info('middle'); log.debug('unseen'); print('printed'); running.close(); log.info('late')\n"
            "again = start_logging(LogOptions(Path(sys.argv[1]))); log.info('again')\n"
        )
        result = self.run_python(code, str(path), FURL)
        self.assertEqual((result.stdout, result.stderr), ("printed\n", ""))
        text = path.read_text()
        self.assertNotIn(SECRET, text)
        self.assertEqual(
            [line.split("]")[1].split()[0] for line in text.splitlines()],
            ["early", "middle", "again"],
        )

    def test_standard_error_when_no_file_is_wanted(self):
        code = (
            "from twisted.logger import Logger\n"
            "from ipython1.kernel.host.logs import LogOptions, start_logging\n"
            "start_logging(LogOptions(None)); Logger('here').info('shown')\n"
        )
        result = self.run_python(code)
        self.assertIn("shown", result.stderr)

    def test_importing_it_does_not_import_twisted(self):
        code = "import sys, ipython1.kernel.host.logs; print('twisted' in sys.modules)"
        self.assertEqual(self.run_python(code).stdout, "False\n")
