"""Finding launchers, and their options."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial import unittest
from zope.interface.verify import verifyClass, verifyObject

from ipython1.daemon.protocol import Message, Ready, Spawn, Started
from ipython1.daemon.supervisor import ProcessSupervisor
from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.config import config_manager
from ipython1.kernel.launchers import BUILT_IN, launcher_class, launcher_kinds
from ipython1.kernel.launchers.clusterconfig import ClusterConfig, ControllerOptions, SshOptions
from ipython1.kernel.launchers.clusterfile import HostSpec, read_cluster_file
from ipython1.kernel.launchers.interfaces import Context, IControllerLauncher, IEngineLauncher
from ipython1.kernel.launchers.local import LocalController, LocalEngines
from ipython1.kernel.launchers.mpi import check_mpi, find_program
from ipython1.kernel.launchers.remotefiles import RemoteFiles
from ipython1.kernel.launchers.sshcontroller import SshController
from ipython1.kernel.launchers.sshhost import remote_command
from ipython1.testing.folders import temporary_path


def of_the_checkout(name: str) -> Path:
    """A file or folder that is not installed."""
    path = Path(__file__).parents[4] / name
    if not path.exists():
        raise unittest.SkipTest(f"{name} is not installed")
    return path


class FakeNanny:
    def __init__(self) -> None:
        self.sent: list[Message] = []

    def send(self, message: Message) -> None:
        self.sent.append(message)


class FakeObserver:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def unit_ended(
        self, key: str, reason: str, lines: object, asked: bool, by_system: bool = False
    ) -> None:
        self.said.append(f"{key} {reason}")

    def unit_queued(self, key: str, reason: str | None) -> None: ...

    def unit_shrinks(self, rest: object, ends: object) -> None: ...

    def unit_comes_back(self, key: str, reason: str) -> None: ...

    def set_end_commands(self, key: str, commands: object) -> None: ...

    def jobs_changed(self) -> None: ...


class LauncherCase(unittest.SynchronousTestCase):
    def context(self, **options: Any) -> Context:
        self.nanny = FakeNanny()
        clock = Clock()
        supervisor = ProcessSupervisor(clock)
        supervisor.add_host("", self.nanny)
        self.addCleanup(supervisor.close)
        directory = Path(temporary_path(self)).absolute()
        config = ClusterConfig(**{"ipython_dir": str(directory), "cluster_id": "x", **options})
        nanny: Any = self.nanny
        return Context(config, config.files(), clock, supervisor, nanny, FakeObserver())

    def write(self, text: str, name: str = "hosts.py") -> str:
        path = Path(temporary_path(self))
        path.mkdir()
        (path / name).write_text(text)
        return str(path / name)


class FindingTests(LauncherCase):
    def test_every_built_in_one_is_a_launcher(self) -> None:
        for kind in BUILT_IN:
            cls = launcher_class(kind)
            self.assertTrue(verifyClass(IEngineLauncher, cls), kind)
            options = {}
            if kind == "ssh":
                options["ssh"] = SshOptions(cluster_file=self.write("engines = dict(a=1)"))
            launcher = cls(self.context(kind=kind, **options))
            self.assertTrue(verifyObject(IEngineLauncher, launcher), kind)
        for controller in (LocalController, SshController):
            self.assertTrue(verifyClass(IControllerLauncher, controller))

    def test_another_package_can_add_one(self) -> None:
        point = importlib.metadata.EntryPoint(
            "mygrid", f"{LocalEngines.__module__}:LocalEngines", "ipython1.launchers"
        )

        def entry_points(**what: str) -> importlib.metadata.EntryPoints:
            return importlib.metadata.EntryPoints([point]).select(**what)

        self.patch(importlib.metadata, "entry_points", entry_points)
        self.assertIs(launcher_class("mygrid"), LocalEngines)
        self.assertIn("mygrid", launcher_kinds())
        with self.assertRaisesRegex(ClusterError, "unknown launcher 'other'; .*local.*mygrid"):
            launcher_class("other")

    def test_the_entry_points_of_this_package_are_the_built_in_ones(self) -> None:
        text = of_the_checkout("pyproject.toml").read_text()
        for kind, target in BUILT_IN.items():
            self.assertIn(f'{kind} = "{target}"\n', text)

    def test_the_documentation_s_launcher(self) -> None:
        path = of_the_checkout("docs/examples/scratchlauncher.py")
        spec = importlib.util.spec_from_file_location("scratchlauncher", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        launcher = module.ScratchEngines(self.context(kind="scratch"))
        self.assertTrue(verifyObject(IEngineLauncher, launcher))
        launcher.start_one(0)
        (spawn,) = self.nanny.sent
        assert isinstance(spawn, Spawn)
        self.addCleanup(Path(spawn.cwd).rmdir)
        self.assertTrue(Path(spawn.cwd).is_dir())


class LocalTests(LauncherCase):
    def test_far_too_many_are_refused_before_any_is_started(self) -> None:
        failed = self.failureResultOf(self.ensure(LocalEngines(self.context()).start(range(10**9))))
        self.assertIn("1,000,000,000 engines are too many for this host", str(failed.value))
        self.assertEqual(self.nanny.sent, [])

    def test_engines_wait_for_the_controller_only_while_it_starts(self) -> None:
        options = ControllerOptions(client_port=0, client_location="")
        context = self.context(controller=options)
        controller = self.ensure(LocalController(context).start())
        engines = LocalEngines(context)
        self.ensure(engines.start([0]))
        context.supervisor.on_event(Started("controller", 7, 1.0))
        self.assertNoResult(controller)
        context.supervisor.on_event(Ready("controller"))
        self.successResultOf(controller)
        units = self.successResultOf(self.ensure(engines.start([3])))
        self.assertEqual([(unit.key, unit.ids) for unit in units], [("engine-3", (3,))])
        spawned = [each for each in self.nanny.sent if isinstance(each, Spawn)]
        self.assertEqual([each.after for each in spawned], ["", "controller", ""])
        directory = str(context.files.dirs.ipython_dir)
        self.assertEqual(
            spawned[0].argv,
            (
                *("ipcontroller", f"--ipython-dir={directory}", "--cluster-id=x"),
                *("--client-port=0", "--client-location="),
            ),
        )
        self.assertEqual(
            spawned[2].argv,
            ("ipengine", f"--ipython-dir={directory}", "--cluster-id=x", "--engine-id=3"),
        )
        self.assertEqual(spawned[2].log, f"{directory}/log/ipengine-x-3.log")

    def ensure(self, coroutine: Any) -> Any:
        from twisted.internet.defer import Deferred

        return Deferred.fromCoroutine(coroutine)


class MpiTests(LauncherCase):
    def test_what_the_code_imports_must_be_there(self) -> None:
        known = config_manager.get_config(temporary_path(self))["mpi"]
        with self.assertRaisesRegex(ClusterError, "needs the package 'PyTrilinos'.*pip install"):
            check_mpi("pytrilinos", known)
        with self.assertRaisesRegex(
            ClusterError, r"no setting 'x' in the \[mpi\] section.*mpi4py, pytrilinos"
        ):
            check_mpi("x", known)
        check_mpi("own", {"own": "import os.path\nfrom json import dumps\nmpi = 1"})

    def test_a_program_beside_python_comes_first(self) -> None:
        self.assertEqual(find_program(Path(sys.executable).name), sys.executable)
        with self.assertRaisesRegex(ClusterError, "program 'no-such-mpiexec' not found"):
            find_program("no-such-mpiexec")


class ClusterFileTests(LauncherCase):
    def test_which_hosts_use_a_tunnel(self) -> None:
        found = read_cluster_file(
            self.write(
                "[controller]\nhost = a\n[engines]\nb = 1\n[[c]]\ntunnel = False\n[defaults]\ntunnel = True",
                "hosts.ini",
            )
        )
        assert found.controller.host is not None
        hosts = (found.controller.host, *found.engines)
        self.assertEqual([each.tunnel for each in hosts], [True, True, False])
        with self.assertRaisesRegex(ClusterError, "engines: a: tunnel must be True or False"):
            read_cluster_file(self.write("engines = dict(a=dict(tunnel='some'))"))

    def test_the_form_of_the_reference(self) -> None:
        found = read_cluster_file(
            self.write(
                "controller = dict(host='myhost',\n"
                "                  engine_port=None, # default is any\n"
                "                  control_port=10105,\n"
                "             )\n"
                "engines = dict(node1=2,\n"
                "               node2=2,\n"
                "               )\n"
            )
        )
        self.assertEqual(found.controller.host, HostSpec("myhost", 0))
        self.assertEqual(
            (found.controller.engine_port, found.controller.control_port), (None, 10105)
        )
        self.assertEqual(found.engines, (HostSpec("node1", 2), HostSpec("node2", 2)))
        self.assertEqual(found.count, 4)

    def test_options_and_both_languages(self) -> None:
        python = self.write(
            "controller = dict(host='localhost')\n"
            "engines = {'node1': 1, 'ada@node2': dict(n=4, python='/p', env=dict(A=1), setup='x')}\n"
            "defaults = dict(cwd='/tmp', env=dict(B=2))\n"
        )
        ini = self.write(
            "[controller]\nhost = localhost\n"
            "[engines]\nnode1 = 1\n[[ada@node2]]\nn = 4\npython = /p\nsetup = x\n[[[env]]]\nA = 1\n"
            "[defaults]\ncwd = /tmp\n[[env]]\nB = 2\n",
            "hosts.ini",
        )
        expected = (
            HostSpec("node1", 1, cwd="/tmp", env={"B": "2"}),
            HostSpec("ada@node2", 4, python="/p", cwd="/tmp", env={"A": "1"}, setup=("x",)),
        )
        for path in (python, ini):
            found = read_cluster_file(path)
            self.assertEqual(found.engines, expected)
            self.assertIsNone(found.controller.host)

    def test_the_documentation_s_examples_say_the_same(self) -> None:
        examples = of_the_checkout("docs/examples")
        found = read_cluster_file(str(examples / "hosts.py"))
        self.assertEqual(found.count, 8)
        self.assertEqual(found.engines[2].env, {"OMP_NUM_THREADS": "1"})
        self.assertEqual(read_cluster_file(str(examples / "hosts.ini")), found)

    def test_errors_say_what_is_wrong(self) -> None:
        for text, words in (
            ("engines = dict(a=1, a=2)", "line 1: keyword argument repeated"),
            ("x = 1\nengines = dict(a=y)", "line 2: NameError: name 'y' is not defined"),
            ("controller = {}", "engines must give the number per host"),
            ("engines = {}", "engines must give the number per host"),
            ("engines = dict(a=-1)", "engines: a: n must be a number from 0"),
            ("engines = dict(a='many')", "engines: a: n must be a number from 0"),
            (
                "engines = dict(a=dict(pyton='x'))",
                "engines: a has no option 'pyton'; the options are n, python",
            ),
            ("engines = {'-oProxyCommand=x': 1}", "'-oProxyCommand=x' is not a valid host"),
            (
                "engines = dict(a=1)\ncontroller = dict(host='b', engine_port=70000)",
                "engine_port must be",
            ),
            ("engines = dict(a=1)\ncontroller = dict(hots='b')", "controller has no option 'hots'"),
        ):
            with self.assertRaisesRegex(ClusterError, words):
                read_cluster_file(self.write(text))
        with self.assertRaisesRegex(ClusterError, "unknown section 'engine'"):
            read_cluster_file(self.write("[engine]\na = 1\n", "x.ini"))
        with self.assertRaisesRegex(ClusterError, "cannot read the cluster file"):
            read_cluster_file("/no/such/file.py")


class RemoteTests(LauncherCase):
    def test_files_of_the_home_directory_are_in_the_home_directory_there(self) -> None:
        home = Path.home()
        context = self.context(ipython_dir=str(home / ".ipython"))
        remote = RemoteFiles(context.files, HostSpec("node1"))
        self.assertEqual(
            remote.security(context.files.engine_furl),
            "~/.ipython/security/ipcontroller-x-engine.furl",
        )
        self.assertEqual(
            remote.common_arguments(context.config), ["--ipython-dir=~/.ipython", "--cluster-id=x"]
        )
        other = RemoteFiles(context.files, HostSpec("node1", ipython_dir="/scratch/ip"))
        self.assertEqual(other.log(context.files.engine_log(3)), "/scratch/ip/log/ipengine-x-3.log")

    def test_the_remote_command_survives_any_shell(self) -> None:
        for spec in (HostSpec("a"), HostSpec("a", python="/opt/it's mine/python", setup=("x=1",))):
            command = remote_command(spec)
            self.assertTrue(command.startswith("exec sh -c '"))
            # csh would interpret these even within quotes.
            self.assertNotIn("!", command)
            self.assertNotIn("\n", command)
