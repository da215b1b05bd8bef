"""What ``ipcontroller`` makes of its command line and the ini file."""

import os
from pathlib import Path

from ipython1.kernel.basics.error import SecurityError
from ipython1.kernel.controller.config import InterfaceSpec
from ipython1.kernel.scripts.tests.optionscase import OptionsTestCase


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
        self.assertTrue(config.reuse_furls)
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
                InterfaceSpec(
                    "monitor",
                    "ipython1.kernel.monitor.IMonitor",
                    "ipython1.kernel.monitorfc.IFCMonitor",
                    self.security / "ipcontroller-monitor.furl",
                ),
            ),
        )
        self.assertEqual(config.task.scheduler, "ipython1.kernel.task.FIFOScheduler")
        self.assertEqual(config.task.kill_limit, 3)

    def test_a_gateway_names_its_upstream(self):
        self.assertIsNone(self.controller().upstream)
        upstream = self.controller("--upstream=up.furl").upstream
        self.assertEqual((upstream.furl, upstream.file), (None, Path.cwd() / "up.furl"))
        self.ini("[controller]\nupstream = up.furl\n")
        self.assertEqual(self.controller().upstream.file, self.security / "up.furl")
        self.assertEqual(self.controller("--upstream=/x.furl").upstream.file, Path("/x.furl"))

    def test_a_gateway_may_have_the_furl_itself(self):
        text = f"pb://{'a' * 32}@tcp:10.0.0.1:5/{'s' * 32}"
        self.assertEqual(str(self.controller(f"--upstream={text}").upstream.furl), text)
        line = self.assert_ends(2, self.controller, "--upstream")
        self.assertIn("put that FURL into $IPYTHON1_ENGINE_FURL", line)
        self.patch(os, "environ", {**os.environ, "IPYTHON1_ENGINE_FURL": text})
        self.assertIsNone(self.controller().upstream)
        config = self.controller("--upstream")
        self.assertEqual(str(config.upstream.furl), text)
        self.assertNotIn("s" * 32, repr(config))
        self.assertNotIn("IPYTHON1_ENGINE_FURL", os.environ)
        problem = self.assertRaises(SecurityError, self.controller, "--upstream=pb://secret")
        self.assertNotIn("secret", str(problem))

    def test_the_journal(self):
        journal = self.controller().journal
        self.assertTrue(journal.enabled)
        self.assertEqual(journal.directory, self.directory / "journal" / "state")
        self.assertEqual((journal.sync, journal.keep_age), ("normal", 86400.0))
        self.assertEqual(journal.keep_size, 10 * 2**30)
        self.assertEqual(self.controller("--cluster-id=x").journal.directory.name, "state-x")
        self.assertFalse(self.controller("--journal=off").journal.enabled)
        self.ini(
            "[journal]\nenabled = no\njournal_sync = full\ndirectory = other/place\nkeep_size = 1 MiB\n"
        )
        journal = self.controller().journal
        self.assertEqual((journal.enabled, journal.sync), (False, "full"))
        self.assertEqual(journal.directory, self.directory / "other" / "place" / "state")
        self.assertEqual(journal.keep_size, 2**20)
        self.assertTrue(self.controller("--journal=on").journal.enabled)
        line = self.assert_ends(2, self.controller, "--journal=perhaps")
        self.assertIn("'perhaps' is neither on nor off", line)

    def test_cluster_id_is_in_every_files_name(self):
        config = self.controller("--cluster-id=x")
        self.assertEqual(config.client_cert_file, self.security / "ipcontroller-x.pem")
        self.assertEqual(config.engine_furl_file, self.security / "ipcontroller-x-engine.furl")
        self.assertEqual(
            [spec.furl_file.name for spec in config.interfaces],
            ["ipcontroller-x-mec.furl", "ipcontroller-x-tc.furl", "ipcontroller-x-monitor.furl"],
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
            *("--monitor-furl-file=/o.furl", "--engine-furl-file=/e.furl"),
        )
        self.assertEqual(
            [spec.furl_file for spec in config.interfaces],
            [Path.home() / "m.furl", Path.cwd() / "t.furl", Path("/o.furl")],
        )
        self.assertEqual(config.engine_furl_file, Path("/e.furl"))

    def test_command_line_over_ini_over_default(self):
        self.ini(
            "[controller]\nclient_port = 10105\nclient_location = 'a,b:5'\nreuse_furls = True\n"
            "client_cert_file = my.pem\nmax_message_size = 1 GiB\nspool_size = 1 MiB\n"
            "[task]\nscheduler = mine.Scheduler\nabort_grace = 1\n"
        )
        config = self.controller("--client-port=0")
        self.assertEqual(config.client_port, 0)
        self.assertEqual(config.client_location, "a,b:5")
        self.assertTrue(config.reuse_furls)
        self.assertEqual(config.client_cert_file, self.security / "my.pem")
        self.assertEqual((config.max_message_size, config.spool_size), (2**30, 2**20))
        self.assertEqual((config.task.scheduler, config.task.abort_grace), ("mine.Scheduler", 1.0))
        self.assertEqual(config.task.prefetch_max, 4096)

    def test_interfaces_are_added_changed_and_turned_off(self):
        self.ini(
            "[controller]\n[[controller_interfaces]]\n"
            "[[[task]]]\nenabled = False\n[[[monitor]]]\nenabled = False\n[[[multiengine]]]\nfurl_file = m.furl\n"
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
