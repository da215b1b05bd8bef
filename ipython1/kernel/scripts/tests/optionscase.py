"""What the tests of command lines have in common."""

import contextlib
import io
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

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
