"""What ``ipcluster`` makes of its command line."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.clusters.launch import command_options
from ipython1.kernel.scripts.clusteroptions import ANY_NUMBER, engines_like, parse_cluster
from ipython1.kernel.scripts.tests.optionscase import OptionsTestCase


class ClusterTests(OptionsTestCase):
    def config(self, *arguments: str) -> Any:
        return parse_cluster([f"--ipython-dir={self.directory}", *arguments]).config

    def test_the_number_of_engines(self) -> None:
        for option in ("-n", "--num", "--n", "--engines"):
            self.assertEqual(self.config(option, "4").n, 4)
            self.assertEqual(self.config(option, "0").n, 0)
            line = self.assert_ends(2, self.config, option, "-1")
            self.assertIn("'-1' is not a whole number from 0 up", line)
        self.assertEqual(self.config("-n", "0").count, 0)
        self.assertGreater(self.config().count, 0)

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
            (["engines", "stopp"], ", torque"),
            (["magic"], ", torque"),
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
            (
                ["--queue=main"],
                "--queue is for slurm, sge, pbs, torque, lsf and flux, not for 'local'",
            ),
            (["ssh", "-f", "x", "--setup=ls"], "--setup is for slurm, sge"),
            (["slurm", "--mpiexec=mpirun"], "--mpiexec is for mpiexec and mpirun, not for 'slurm'"),
            (["local", "--ssh=ssh -v"], "--ssh is for ssh, not for 'local'"),
            (["local", "--tunnel"], "--tunnel is for ssh, not for 'local'"),
            (["slurm", "--restart-engines"], "--restart-engines is for local and ssh"),
            (["mpiexec", "--restart-engines=2"], "add others in their place"),
            (["local", "--hosts=a"], "--hosts is for ssh, not for 'local'"),
            (["--hosts=a", "-f", "x"], "--cluster-file and --hosts both name the hosts"),
            (["ssh"], "ssh needs to know the hosts: give --hosts=HOST,... or -f FILE"),
            (["slurm", "--mpi=mpi4py"], "--mpi is for mpiexec and mpirun, not for 'slurm'"),
            (["engines", "-n", "2", "--restore=setup.cfg"], "cannot read"),
        ):
            self.assertIn(words, self.assert_ends(2, self.config, *arguments))
        for arguments in (
            ["slurm", "--restart-engines=0"],
            ["engines", "-n", "2"],
            ["engines", "slurm", "--queue=main", "--engine-argument=--mpi=x"],
            ["engines", "--setup=ls"],
        ):
            self.config(*arguments)

    def test_what_engines_are_given(self) -> None:
        config = self.config(
            "--env=A=b c", "--env", "B=d=e\nf", "--env=A=", "--cwd=~/x", "--python=bin/python"
        )
        self.assertEqual(config.env, (("A", ""), ("B", "d=e\nf")))
        self.assertEqual(config.cwd, os.path.expanduser("~/x"))
        self.assertEqual(config.python, os.path.abspath("bin/python"))
        self.assertEqual(self.config("--python=python3").python, "python3")
        # On other hosts, paths are theirs.
        config = self.config("--hosts=a=2, b", "--hosts=me@c=0", "--cwd=~/x", "--python=~/python")
        self.assertEqual((config.cwd, config.python, config.kind), ("~/x", "~/python", "ssh"))
        self.assertEqual(config.ssh.hosts, (("a", 2), ("b", 1), ("me@c", 0)))
        for option in ("--env=A", "--env=1=b", "--env==b", "--env=a-b=c"):
            self.assertIn("is not NAME=VALUE", self.assert_ends(2, self.config, option))
        for option, words in (
            ("--hosts=a=x", "'a=x': the number of engines must be from 0 to 100,000"),
            ("--hosts=a,,b", "'' is not a host"),
            ("--hosts=-oProxyCommand=x", "is not a host"),
            ("--hosts=a,a", "the host 'a' is named twice"),
        ):
            self.assertIn(words, self.assert_ends(2, self.config, option))

    def test_what_engines_are_given_by_the_ini_file(self) -> None:
        (self.directory / "ipython1.kernel.ini").write_text(
            "[cluster]\ncwd = /a\npython = /b\nn = 0\n[[env]]\nA = b\nC = d\n"
            "[[ssh]]\nhosts = x, y=3\n[[batch]]\npython = /nodes\n"
        )
        config = self.config("--env=C=e")
        self.assertEqual(config.env, (("A", "b"), ("C", "e")))
        self.assertEqual((config.cwd, config.python, config.n), ("/a", "/b", None))
        self.assertEqual(config.ssh.hosts, (("x", 1), ("y", 3)))
        self.assertEqual(config.batch.python, "/nodes")
        self.assertEqual(self.config("slurm", "--python=/c").batch.python, "")
        self.assertEqual(self.config("ssh", "-f", "/hosts.py").ssh.hosts, ())
        (self.directory / "ipython1.kernel.ini").write_text("[cluster]\n[[env]]\na-b = c\n")
        problem = self.assertRaises(ClusterError, self.config)
        self.assertIn("'a-b' cannot be the name of an environment variable", str(problem))

    def test_engines_that_are_added(self) -> None:
        """What is not given is as the cluster was started; options that mean nothing are refused."""
        base = self.config("slurm", "--queue=a", "--env=A=b", "--setup=x", "-n", "7")
        like = engines_like(base, ["engines", "--queue=b", "--env=C=d", "--setup=y"], "/")
        self.assertEqual((like.kind, like.n, like.batch.queue), ("slurm", None, "b"))
        self.assertEqual((like.env, like.batch.setup), ((("A", "b"), ("C", "d")), ("x", "y")))
        self.assertEqual(engines_like(base, ["engines", "-n", "2"], "/"), replace(base, n=2))
        self.assertEqual(engines_like(base, ["engines", "--hosts=h"], "/").kind, "ssh")
        local = engines_like(base, ["engines", "local", "--cwd=b"], "/usr")
        self.assertEqual((local.kind, local.cwd), ("local", "/usr/b"))
        for words, message in (
            (["--mpiexec=mpirun"], "--mpiexec is for mpiexec and mpirun, not for 'slurm'"),
            (["local", "--client-port=5"], "--client-port is for starting a controller"),
            (["--restart-stuck=5"], "--restart-stuck is for starting a controller"),
            (["--no-such"], "unrecognized arguments: --no-such"),
            (["magic"], "unknown launcher 'magic'"),
        ):
            problem = self.assertRaises(ClusterError, engines_like, base, ["engines", *words], "/")
            self.assertTrue(str(problem).startswith(message), str(problem))

    def test_what_python_passes_on(self) -> None:
        self.assertEqual(
            command_options(
                {"env": {"A": "b c", "N": 1, "P": Path("/x")}, "cwd": Path("/y"), "python": "p"}
            ),
            ["--env=A=b c", "--env=N=1", "--env=P=/x", "--cwd=/y", "--python=p"],
        )
        for hosts, words in (
            ("a", ["--hosts=a"]),
            (["a", "b=2"], ["--hosts=a", "--hosts=b=2"]),
            ({"a": 2, "b": 1}, ["--hosts=a=2", "--hosts=b=1"]),
        ):
            self.assertEqual(command_options({"hosts": hosts}), words)
        for options, error, message in (
            ({"env": "A=b"}, TypeError, "env must be a dict of environment variables, not 'A=b'"),
            ({"env": {"a b": "c"}}, ValueError, "'a b' cannot be the name of an"),
            ({"env": {"A": None}}, TypeError, "env: A must be a str, a number or a path, not None"),
            ({"env": {"A": "\0"}}, ValueError, "env: A contains a null character"),
            ({"hosts": 3}, TypeError, "hosts must be a host, a list of hosts, or a dict"),
            ({"hosts": []}, TypeError, "hosts must name at least one host"),
            ({"hosts": {"a": "2"}}, TypeError, "must be a whole number, not '2'"),
            ({"quue": "a"}, TypeError, "no option 'quue'; did you mean 'queue'"),
            ({"clientip": "a"}, TypeError, "did you mean 'client_ip'"),
            ({"zzz": 1}, TypeError, "there are: n, kind, cluster_id, "),
        ):
            problem = self.assertRaises(error, command_options, options)
            self.assertIn(message, str(problem))

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
