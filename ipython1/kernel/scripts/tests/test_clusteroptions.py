"""What ``ipcluster`` makes of its command line."""

from typing import Any

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.clusters.launch import command_options
from ipython1.kernel.scripts.clusteroptions import ANY_NUMBER, parse_cluster
from ipython1.kernel.scripts.tests.optionscase import OptionsTestCase


class ClusterTests(OptionsTestCase):
    def config(self, *arguments: str) -> Any:
        return parse_cluster([f"--ipython-dir={self.directory}", *arguments]).config

    def test_the_number_of_engines(self) -> None:
        for option in ("-n", "--num", "--n", "--engines"):
            self.assertEqual(self.config(option, "4").n, 4)
            line = self.assert_ends(2, self.config, option, "0")
            self.assertIn("must be at least 1, not 0", line)

    def test_the_queue(self) -> None:
        for option in ("-q", "--queue"):
            config = self.config("sge", "--num=4", option, "all.q")
            self.assertEqual((config.kind, config.n, config.batch.queue), ("sge", 4, "all.q"))

    def test_restarts_of_engines(self) -> None:
        self.assertEqual(self.config("-n", "2").restart_engines, 0)
        self.assertEqual(self.config("--restart-engines=3").restart_engines, 3)
        self.assertEqual(self.config("--restart-engines", "-n", "2").restart_engines, ANY_NUMBER)
        self.assertEqual(command_options({"restart": True}), ["--restart-engines"])
        self.assertEqual(command_options({"restart_engines": False}), [])
        self.assertEqual(command_options({"restart": 3}), ["--restart-engines=3"])

    def test_what_is_restored(self) -> None:
        path = self.directory / "setup.py"
        path.write_text("a = 1\n")
        self.assertEqual(self.config(f"--restore={path}").restore, "a = 1\n")
        line = self.assert_ends(2, self.config, "--restore=/nosuch.py")
        self.assertIn("cannot read /nosuch.py: No such file", line)

    def test_words_for_starting(self) -> None:
        for words, kind in (
            (["start", "-n", "2"], "local"),
            (["start", "local", "-n", "2"], "local"),
            (["slurm", "-n", "2"], "slurm"),
            (["start", "slurm", "-n", "2"], "slurm"),
            (["--cluster-id=a", "start", "-n", "2"], "local"),
        ):
            command = parse_cluster([f"--ipython-dir={self.directory}", *words])
            self.assertEqual((command.action, command.config.kind), ("start", kind))
            self.assertEqual(command.config.n, 2)
        self.assertEqual(parse_cluster(["engines", "-n", "2"]).action, "engines")
        line = self.assert_ends(2, parse_cluster, ["-n", "2", "stop"])
        self.assertIn("'stop' must come first: ipcluster stop", line)
        line = self.assert_ends(2, self.config, "local", "ssh")
        self.assertIn("unrecognized arguments: ssh", line)

    def test_a_mistyped_word(self) -> None:
        for words, meant in (
            (["stopp"], "; did you mean 'stop'?"),
            (["satus"], "; did you mean 'status'?"),
            (["loca", "-n", "2"], "; did you mean 'local'?"),
            (["engines", "slrum"], "; did you mean 'slurm'?"),
            (["engines", "stopp"], ", ssh"),
            (["magic"], ", ssh"),
            (["strat", "-n", "2"], "; did you mean 'start'?"),
            (["lgos"], "; did you mean 'logs'?"),
        ):
            problem = self.assertRaises(ClusterError, parse_cluster, words)
            self.assertTrue(str(problem).endswith(meant), str(problem))

    def test_a_mistyped_option(self) -> None:
        for option in ("--deamonize", "--ipython-dri=/tmp"):
            line = self.assert_ends(2, parse_cluster, ["-n", "2", option])
            meant = {"--deamonize": "--daemonize"}.get(option, "--ipython-dir")
            self.assertIn(f"unrecognized arguments: {option}; did you mean {meant!r}?", line)
        line = self.assert_ends(2, parse_cluster, ["--log-level=inf"])
        self.assertIn("did you mean 'info'? (see ipcluster --help)", line)
        line = self.assert_ends(2, parse_cluster, ["--something-else"])
        self.assertNotIn("did you mean", line)

    def test_options_that_mean_nothing_are_refused(self) -> None:
        for arguments, words in (
            (["--queue=main"], "--queue is for slurm, sge, pbs and lsf, not for 'local'"),
            (["ssh", "-f", "x", "--setup=ls"], "--setup is for slurm, sge"),
            (["slurm", "--mpiexec=mpirun"], "--mpiexec is for mpiexec and mpirun, not for 'slurm'"),
            (["local", "--ssh=ssh -v"], "--ssh is for ssh, not for 'local'"),
            (["local", "--tunnel"], "--tunnel is for ssh, not for 'local'"),
            (["slurm", "--restart-engines"], "--restart-engines is for local and ssh"),
            (["mpiexec", "--restart-engines=2"], "add others in their place"),
            (["engines", "--setup=ls"], "--setup means nothing here"),
            (["engines", "-n", "2", "--restore=setup.cfg"], "cannot read"),
            (["engines", "local", "--client-port=5"], "--client-port is for starting a controller"),
        ):
            self.assertIn(words, self.assert_ends(2, self.config, *arguments))
        for arguments in (
            ["slurm", "--restart-engines=0"],
            ["engines", "-n", "2"],
            ["engines", "slurm", "--queue=main", "--engine-argument=--mpi=x"],
        ):
            self.config(*arguments)

    def test_a_local_controller_listens_for_this_host(self) -> None:
        self.assertEqual(self.config("-n", "2").controller.client_ip, "127.0.0.1")
        self.assertIsNone(self.config("slurm", "-n", "2").controller.client_ip)
        self.assertEqual(self.config("--client-ip=0.0.0.0").controller.client_ip, "0.0.0.0")

    def test_the_journal(self) -> None:
        for words, expected in (((), []), (("--journal=off",), ["--journal=off"])):
            arguments = self.config("-n", "2", "--client-ip=", *words).controller.arguments()
            self.assertEqual([word for word in arguments if "journal" in word], expected)
        self.assertEqual(command_options({"journal": "off"}), ["--journal=off"])
        [option] = command_options({"journal": False})
        self.assertEqual(self.config(option).controller.journal, False)

    def test_flags_from_python(self) -> None:
        self.assertEqual(command_options({"reuse_furls": True}), ["--reuse-furls"])
        self.assertEqual(command_options({"reuse_furls": False}), [])
        [option] = command_options({"tunnel": True})
        self.assertTrue(self.config("ssh", "-f", "hosts.py", option).ssh.tunnel)
        self.assertRaisesRegex(
            TypeError, "^reuse_furls must be True or False", command_options, {"reuse_furls": "no"}
        )
