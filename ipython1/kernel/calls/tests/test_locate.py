"""From what a user names to the FURL of a controller; no connection is made."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import ClientError, NoController, NoDefaultAddress, SecurityError
from ipython1.kernel.calls.locate import default_address, furl_path, locate
from ipython1.kernel.host.furl import Furl
from ipython1.kernel.host.security import IPythonDirs, write_furl
from ipython1.testing.folders import temporary_path

TUB = "a" * 32
SECRET = "s" * 32


class LocateTest(SynchronousTestCase):
    def setUp(self):
        self.directory = Path(temporary_path(self)).absolute()
        self.patch(os, "environ", {**os.environ, "IPYTHONDIR": str(self.directory)})
        IPythonDirs.resolve().prepare()

    def write(
        self, interface: str = "multiengine", cluster_id: str = "", port: int = 10105
    ) -> Path:
        path = furl_path(interface, cluster_id)
        write_furl(path, Furl(TUB, (("10.0.0.1", port), ("::1", port)), SECRET))
        return path

    def test_the_files_of_interfaces_and_clusters(self):
        folder = self.directory / "security"
        self.assertEqual(furl_path("multiengine"), folder / "ipcontroller-mec.furl")
        self.assertEqual(furl_path("task"), folder / "ipcontroller-tc.furl")
        self.assertEqual(furl_path("multiengine", "x"), folder / "ipcontroller-x-mec.furl")
        self.assertEqual(furl_path("race"), folder / "ipcontroller-race.furl")

    def test_nothing_means_the_default_cluster(self):
        path = self.write()
        place = locate("", "multiengine")
        self.assertEqual(place.furl.hints[0], ("10.0.0.1", 10105))
        self.assertIn(str(path), place.description)

    def test_a_furl_in_the_environment_goes_before_the_default_file_only(self):
        self.write(port=1111)
        self.write("task", port=2222)
        for name, interface in (("MEC", "multiengine"), ("TASK", "task"), ("MONITOR", "monitor")):
            os.environ[f"IPYTHON1_{name}_FURL"] = f" pb://{TUB}@tcp:10.0.0.9:9/{SECRET}\n"
            place = locate("", interface)
            self.assertEqual(place.furl.hints, (("10.0.0.9", 9),))
            self.assertIn(f"IPYTHON1_{name}_FURL", place.description)
            self.assertNotIn(SECRET, place.description)
            moved = locate(("10.0.0.8", 8), interface)
            self.assertEqual((moved.furl.hints, moved.furl.name), ((("10.0.0.8", 8),), SECRET))
        path = self.write(cluster_id="mine", port=3333)
        for given in ("mine", path, str(path)):
            self.assertEqual(locate(given, "multiengine").furl.hints[0][1], 3333)
        self.assertEqual(default_address("task"), ("10.0.0.9", 9))

    def test_something_else_in_the_environment_is_told_and_not_shown(self):
        os.environ["IPYTHON1_TASK_FURL"] = f"pb://{TUB}@10.0.0.9 {SECRET}"
        with self.assertRaisesRegex(
            SecurityError, "^IPYTHON1_TASK_FURL in the .* is not a FURL"
        ) as caught:
            locate("", "task")
        self.assertNotIn(SECRET, str(caught.exception))
        os.environ["IPYTHON1_TASK_FURL"] = ""
        self.write("task", port=2222)
        self.assertEqual(locate("", "task").furl.hints[0][1], 2222)

    def test_each_interface_has_its_own(self):
        self.write("multiengine", port=1111)
        self.write("task", port=2222)
        self.assertEqual(locate("", "task").furl.hints[0][1], 2222)
        self.assertEqual(locate("", "multiengine").furl.hints[0][1], 1111)

    def test_a_cluster_id(self):
        self.write(cluster_id="mine", port=3333)
        self.assertEqual(locate("mine", "multiengine").furl.hints[0][1], 3333)

    def test_a_file_in_every_spelling(self):
        path = self.write()
        home = self.directory / "home"
        home.mkdir()
        write_furl(home / "copy.furl", path.read_text().strip())
        self.patch(os, "environ", {**os.environ, "HOME": str(home)})
        for name in (str(path), path, "~/copy.furl"):
            self.assertEqual(locate(name, "multiengine").furl.name, SECRET)
        here = Path.cwd()
        os.chdir(home)
        self.addCleanup(os.chdir, here)
        write_furl(home / "plain", path.read_text().strip())
        for name in ("copy.furl", "./copy.furl", "plain", Path("plain")):
            self.assertEqual(locate(name, "multiengine").furl.name, SECRET)

    def test_an_address_keeps_the_capability(self):
        self.write()
        place = locate(("192.168.1.1", 10113), "multiengine")
        self.assertEqual(place.furl, Furl(TUB, (("192.168.1.1", 10113),), SECRET))
        self.assertEqual(locate(default_address("multiengine"), "multiengine").furl.name, SECRET)

    def test_what_is_not_there_is_no_matter_of_security(self):
        error = self.assertRaises(NoController, locate, "", "multiengine")
        self.assertRegex(str(error), r"^no cluster is running here: there is no FURL file \S+; ")
        self.assertNotIsInstance(error, SecurityError)
        error = self.assertRaises(NoController, locate, "theirs", "multiengine")
        self.assertIn("no cluster 'theirs' is running here", str(error))

    def test_an_address_as_text_is_told_how_to_be_given(self):
        for text, host in (
            ("127.0.0.1:5000", "127.0.0.1"),
            ("localhost:5000", "localhost"),
            ("tcp://node7.example:5000", "node7.example"),
            ("[::1]:5000", "::1"),
        ):
            error = self.assertRaises(ClientError, locate, text, "multiengine")
            self.assertIn(f"as a tuple, ('{host}', 5000)", str(error))

    def test_a_default_address_needs_a_location(self):
        self.assertRaises(NoDefaultAddress, default_address, "multiengine")
        write_furl(furl_path("multiengine"), Furl(TUB, (), SECRET))
        self.assertRaises(NoDefaultAddress, default_address, "multiengine")
        self.write()
        self.assertEqual(default_address("multiengine"), ("10.0.0.1", 10105))

    def test_no_description_and_no_error_shows_the_secret(self):
        path = self.write()
        shown = [repr(locate("", "multiengine")), locate(("1.2.3.4", 5), "multiengine").description]
        path.write_text(f"pb://short@tcp:1.2.3.4:5/{SECRET}\n")
        path.chmod(0o600)
        shown.append(str(self.assertRaises(SecurityError, locate, "", "multiengine")))
        shown.append(str(self.assertRaises(SecurityError, locate, f"pb://x@y/{SECRET}", "task")))
        for text in shown:
            self.assertNotIn(SECRET, text)

    def test_a_file_that_others_can_read_is_refused(self):
        path = self.write()
        path.chmod(0o644)
        error = self.assertRaises(SecurityError, locate, "", "multiengine")
        self.assertIn("chmod", str(error))
