"""``ipcluster`` as users run it: what it prints, what it leaves, and that nothing stays behind."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pexpect
from twisted.trial import unittest

from ipython1.daemon import osprocess
from ipython1.kernel.clusters.status import ClusterStatus
from ipython1.kernel.host.security import ClusterFiles, IPythonDirs, read_furl
from ipython1.kernel.scripts.statusaction import find_status
from ipython1.testing.processes import private_environ, start_program

LIMIT = 60.0
MARK = "IPYTHON1_TEST_MARK"


def until(condition: Callable[[], object], limit: float = LIMIT) -> None:
    """Wait for something that other processes do."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it did not happen in time")
        time.sleep(0.01)


class IpclusterCase(unittest.SynchronousTestCase):
    """A private IPython directory, and a mark in the environment by which every process is found again.

    :cvar python: the interpreter to run everything with.
    """

    python = sys.executable

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="ipython1-test-"))
        self.mark = uuid.uuid4().hex
        self.environ = {
            **private_environ(self.directory),
            MARK: self.mark,
            "PYTHONUNBUFFERED": "1",
        }
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.addCleanup(self.kill_all)

    def command(self, *arguments: str) -> list[str]:
        return [self.python, "-P", "-m", "ipython1.kernel.scripts.ipcluster", *arguments]

    def run_ipcluster(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run it to its end and check its exit status."""
        return self.run_to_end(self.command(*arguments), status)

    def run_to_end(
        self,
        command: Sequence[str],
        status: int = 0,
        environ: Mapping[str, str] | None = None,
        limit: float = LIMIT,
    ) -> subprocess.CompletedProcess[str]:
        """Run any program to its end, which takes at most ``limit`` seconds, and check its exit status."""
        done = subprocess.run(
            command,
            env=environ or self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done

    def start_program(
        self, command: Sequence[str], environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start any program; it is killed when the test ends."""
        process = start_program(command, environ or self.environ)
        self.addCleanup(process.stdout.close)  # type: ignore[union-attr]
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def start(self, *arguments: str, program: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Start it, by a program that runs it if wanted; returns when it has printed that it is up."""
        process = self.start_program([*program, *self.command(*arguments)])
        self.wait_until_up(process)
        return process

    def wait_until_up(self, process: subprocess.Popen[str]) -> None:
        """Wait until it has printed that it is up; ``printed`` has its lines."""
        self.printed: list[str] = []
        while "Ctrl-C ends it." not in "".join(self.printed):
            line = process.stdout.readline()  # type: ignore[union-attr]
            if not line:
                raise AssertionError(f"it did not come up: {''.join(self.printed)}")
            self.printed.append(line)

    def start_controller(self) -> subprocess.Popen[str]:
        """Start ``ipcontroller`` by itself; returns when it listens."""
        process = self.start_program(
            [self.python, "-P", "-m", "ipython1.kernel.scripts.ipcontroller"]
        )
        self.assertIn("listening", process.stdout.readline())  # type: ignore[union-attr]
        return process

    def status(self) -> ClusterStatus:
        """What the default cluster tells of itself."""
        found, silent = find_status(ClusterFiles(IPythonDirs(self.directory)))
        self.assertEqual(silent, "")
        return found

    def processes(self) -> list[int]:
        """All that live and were started by this test, in whatever way."""
        return [
            entry.pid
            for entry in osprocess.process_table().values()
            if entry.state != "Z" and osprocess.environment_of(entry.pid).get(MARK) == self.mark
        ]

    def kill_all(self) -> None:
        for pid in self.processes():
            osprocess.send_signal(pid, signal.SIGKILL)

    def nothing_is_left(self) -> None:
        """Every process is gone within seconds."""
        until(lambda: not self.processes(), 20.0)

    def nothing_but(self, pid: int) -> None:
        """Every process but one is gone within seconds."""
        until(lambda: self.processes() == [pid], 20.0)

    def run_python(self, code: str, limit: float = LIMIT) -> str:
        """What a program with a client prints."""
        return self.run_to_end([self.python, "-c", code], limit=limit).stdout


LEAVE_GRANDCHILDREN = """
from ipython1.kernel import client
mec = client.MultiEngineClient()
mec.execute('''
import subprocess
children = [subprocess.Popen(["sleep", "300"]), subprocess.Popen(["sleep", "300"], start_new_session=True)]
''')
mec.execute("import time; time.sleep(300)", block=False)
"""


class EndTests(IpclusterCase):
    """However it ends, engines that are busy and what they started end with it."""

    def up(self) -> subprocess.Popen[str]:
        process = self.start("-n", "2")
        self.run_python(LEAVE_GRANDCHILDREN)
        self.assertEqual(len(self.processes()), 1 + 1 + 1 + 2 + 4)
        return process

    def check_gone(self) -> None:
        self.nothing_is_left()
        security = self.directory / "security"
        self.assertFalse((security / "ipcluster.json").exists())
        self.assertFalse((security / "ipcluster.sock").exists())

    def test_ctrl_c(self) -> None:
        process = self.up()
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(LIMIT), 0)
        self.assertEqual(self.processes(), [])
        self.check_gone()

    def test_sigterm(self) -> None:
        process = self.up()
        process.terminate()
        self.assertEqual(process.wait(LIMIT), 0)
        self.check_gone()

    def test_kill_9(self) -> None:
        process = self.up()
        process.kill()
        process.wait()
        self.nothing_is_left()
        # What the killed one left does not stand in the way of the next one.
        self.assertIn("tidied up", self.run_ipcluster("stop").stdout)
        self.check_gone()

    def test_kill_9_of_the_nanny(self) -> None:
        process = self.up()
        (nanny,) = [
            entry.pid
            for entry in osprocess.process_table().values()
            if entry.parent == process.pid and entry.state != "Z"
        ]
        os.kill(nanny, signal.SIGKILL)
        self.assertEqual(process.wait(LIMIT), 1)
        self.assertIn("was killed", process.stdout.read())  # type: ignore[union-attr]
        self.check_gone()

    def test_closed_terminal(self) -> None:
        command, *arguments = self.command("-n", "2")
        terminal = pexpect.spawn(
            command,
            arguments,
            env=self.environ,
            timeout=LIMIT,
            encoding="utf-8",
            # The tests themselves may run under nohup.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )
        terminal.expect_exact("Ctrl-C ends it.")
        self.run_python(LEAVE_GRANDCHILDREN)
        # Closing the other side is what a terminal window does.
        terminal.ptyproc.fileobj.close()
        self.check_gone()
        os.waitpid(terminal.pid, 0)

    def test_a_closed_terminal_under_nohup(self) -> None:
        process = self.start("-n", "1", program=("nohup",))
        process.send_signal(signal.SIGHUP)
        self.assertEqual(self.status().state, "running")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(LIMIT), 0)
        self.check_gone()

    def test_ipcluster_stop(self) -> None:
        process = self.up()
        self.assertEqual(self.run_ipcluster("stop").stdout, "the cluster is stopped\n")
        self.assertEqual(self.processes(), [])
        self.assertEqual(process.wait(LIMIT), 0)
        self.check_gone()

    def test_kill_of_all_by_a_client(self) -> None:
        process = self.start("-n", "2")
        self.run_python(
            "from ipython1.kernel import client; client.MultiEngineClient().kill(controller=True)"
        )
        self.assertEqual(process.wait(LIMIT), 0)
        self.check_gone()


class TerminalTests(IpclusterCase):
    def spawn(self, *arguments: str) -> pexpect.spawn[str]:
        command, *rest = self.command(*arguments)
        terminal: pexpect.spawn[str] = pexpect.spawn(
            command, rest, env=self.environ, timeout=LIMIT, encoding="utf-8", dimensions=(24, 200)
        )
        terminal.delaybeforesend = None
        self.addCleanup(terminal.close, force=True)
        return terminal

    def test_progress_and_ctrl_c(self) -> None:
        """One line shows the engines coming and is replaced; Ctrl-C ends in good order; modes are as before."""
        terminal = self.spawn("-n", "3")
        terminal.expect(r"starting engines: \d of 3")
        terminal.expect(r"\r\x1b\[K.*the cluster is up: 3 engines \(0-2\)\.")
        terminal.expect_exact("mec = client.MultiEngineClient()")
        terminal.expect_exact("Ctrl-C ends it.")
        terminal.sendintr()
        terminal.expect(pexpect.EOF)
        terminal.wait()
        self.assertEqual((terminal.exitstatus, terminal.signalstatus), (0, None))
        self.assertEqual(self.processes(), [])

    def test_engines_that_others_add_are_shown(self) -> None:
        terminal = self.spawn("-n", "1")
        terminal.expect_exact("Ctrl-C ends it.")
        self.run_ipcluster("engines", "-n", "2")
        terminal.expect(r"\r\x1b\[Kengines that are usable: 0-2\r\n")

    def test_a_second_ctrl_c_does_not_wait(self) -> None:
        terminal = self.spawn("-n", "1")
        terminal.expect_exact("Ctrl-C ends it.")
        self.run_python(
            "from ipython1.kernel import client\n"
            "mec = client.MultiEngineClient()\n"
            "mec.execute('import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)')\n"
        )
        begin = time.monotonic()
        terminal.sendintr()
        terminal.expect_exact("Ctrl-C again")
        terminal.sendintr()
        terminal.expect(pexpect.EOF)
        self.assertLess(time.monotonic() - begin, 5.0)  # the grace is 10 s
        self.nothing_is_left()

    def test_a_job_in_the_background_of_a_shell(self) -> None:
        """It ends while another program has the terminal, whose modes are that program's."""
        bash = shutil.which("bash")
        if bash is None:
            raise unittest.SkipTest("there is no bash")
        shell: pexpect.spawn[str] = pexpect.spawn(
            bash,
            ["--norc", "-i"],
            env={**self.environ, "PS1": "$ "},
            timeout=LIMIT,
            encoding="utf-8",
            echo=False,
        )
        self.addCleanup(shell.close, force=True)
        shell.sendline(f"{shlex.join(self.command('-n', '1'))} &")
        shell.expect_exact("Ctrl-C ends it.")
        shell.sendline("stty -icanon; echo 'the terminal' is taken; exec cat")
        shell.expect_exact("the terminal is taken")
        self.run_ipcluster("stop")
        self.nothing_but(shell.pid)
        shell.send("no line")
        shell.expect_exact("no line")

    def test_ctrl_c_while_it_starts(self) -> None:
        terminal = self.spawn("-n", "2")
        until(lambda: len(self.processes()) >= 2)
        terminal.sendintr()
        terminal.expect(pexpect.EOF)
        terminal.wait()
        self.assertNotIn("Traceback", terminal.before)
        self.nothing_is_left()


class UseTests(IpclusterCase):
    def test_it_prints_lines_that_connect(self) -> None:
        self.start("-n", "2", "--cluster-id", "My.x")
        text = "".join(self.printed)
        self.assertIn("cluster 'My.x' is up: 2 engines (0-1).\n", text)
        lines = [line.strip() for line in self.printed if line.startswith("    ")]
        self.assertEqual(len(lines), 3)
        code = "\n".join(
            [*lines[:2], "print(mec.get_ids(), mec.pull('x') if mec.push({'x': 7}) else 0)"]
        )
        self.assertEqual(self.run_python(code), "[0, 1] [7, 7]\n")
        names = sorted(path.name for path in (self.directory / "security").iterdir())
        for name in ("ipcluster-My.x.json", "ipcontroller-My.x-mec.furl", "ipcontroller-My.x.pem"):
            self.assertIn(name, names)
        for path in (self.directory / "security").iterdir():
            self.assertEqual(path.stat().st_mode & 0o077, 0, path)

    def test_a_second_cluster_of_the_same_id_is_refused(self) -> None:
        process = self.start("-n", "1")
        error = self.run_ipcluster("-n", "1", status=1).stderr
        self.assertEqual(
            error,
            f"ipcluster: the cluster is already running (process {process.pid}); end it with: ipcluster stop, "
            "or choose another --cluster-id\n",
        )
        self.assertEqual(self.status().ids, (0,))

    def test_clusters_in_the_background(self) -> None:
        """--daemonize, list, status, engines and stop, each from a shell of its own."""
        up = self.run_ipcluster("-n", "1", "--daemonize", "--cluster-id=a").stdout
        self.assertIn("cluster 'a' is up: 1 engine (0).", up)
        self.assertIn("ipcluster stop --cluster-id=a", up)
        self.run_ipcluster("-n", "2", "--daemonize")
        listed = self.run_ipcluster("list").stdout
        self.assertRegex(listed, r"(?m)^a: running, local, 1 engine \(0\)")
        self.assertRegex(listed, r"(?m)^\(default\): running, local, 2 engines \(0-1\)")
        self.assertEqual(self.run_ipcluster("engines", "-n", "2").stdout, "added: engines 2-3\n")
        self.assertEqual(self.status().ids, (0, 1, 2, 3))
        self.run_ipcluster("stop")
        self.run_ipcluster("status", status=1)
        self.assertRegex(self.run_ipcluster("status", "--cluster-id=a").stdout, "engine 0  running")
        self.run_ipcluster("stop", "--cluster-id=a")
        self.assertEqual(self.run_ipcluster("list").stdout, f"no clusters in {self.directory}\n")
        self.nothing_is_left()

    def test_engines_for_a_controller_that_was_started_by_itself(self) -> None:
        controller = self.start_controller()
        engines = self.start("engines", "-n", "2")
        code = "from ipython1.kernel import client; print(client.MultiEngineClient().get_ids())"
        self.assertEqual(self.run_python(code), "[0, 1]\n")
        engines.send_signal(signal.SIGINT)
        self.assertEqual(engines.wait(LIMIT), 0)
        self.assertIsNone(controller.poll())
        self.assertEqual(self.run_python(code), "[]\n")
        controller.kill()
        controller.wait()
        error = self.run_ipcluster("engines", "-n", "2", status=1).stderr
        self.assertRegex(
            error, r"^ipcluster: nothing listens at \S+ .*is the controller running\?.*\n$"
        )
        self.nothing_is_left()

    def listens_at(self) -> set[str]:
        furl = read_furl(self.directory / "security" / "ipcontroller-engine.furl")
        return {host for host, _ in furl.hints}

    def test_a_local_cluster_listens_for_this_host_only(self) -> None:
        """Engines of other hosts are refused, with the command that lets them come."""
        self.start("-n", "1")
        self.assertEqual(self.listens_at(), {"127.0.0.1"})
        hosts = self.directory / "hosts.py"
        hosts.write_text("engines = {'node1': 2}\n")
        for arguments in (("slurm", "-n", "2"), ("-f", str(hosts)), ("ssh", "-f", str(hosts))):
            refused = self.run_ipcluster("engines", *arguments, status=1).stderr
            self.assertIn("listens at 127.0.0.1, for this host only", refused)
            self.assertIn("ipcluster local -n 1 --client-ip=::", refused)
            self.assertEqual(refused.count("\n"), 1)
        added = self.run_ipcluster("engines", "local", "-n", "1").stdout
        self.assertEqual(added, "added: engine 1\n")

    def test_a_local_cluster_listens_where_it_is_told_to(self) -> None:
        self.start("-n", "1", "--client-location=localhost")
        self.assertEqual(self.listens_at(), {"localhost"})

    def test_engines_import_from_where_they_were_started(self) -> None:
        """But nothing in that directory takes the place of the standard library."""
        place = self.directory / "project"
        place.mkdir()
        (place / "mymodule.py").write_text("value = 5\n")
        (place / "json.py").write_text("raise SystemExit('not the one')\n")
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir(place)
        self.start("-n", "1")
        os.chdir(here)
        printed = self.run_python(
            "from ipython1.kernel import client\n"
            "mec = client.MultiEngineClient()\n"
            "mec.execute('import json, mymodule; value = mymodule.value')\n"
            "print(mec.pull('value'))\n"
        )
        self.assertEqual(printed, "[5]\n")


class FailureTests(IpclusterCase):
    def test_an_engine_that_cannot_start_is_told_at_once_with_its_last_lines(self) -> None:
        begin = time.monotonic()
        error = self.run_ipcluster("-n", "2", "--engine-argument=--nonsense", status=1).stderr
        self.assertLess(time.monotonic() - begin, 20.0)  # not the start's time limit of 60 s
        told = "engines 0-1 exited with status 2: ipengine: unrecognized arguments: --nonsense"
        self.assertIn(told, error)
        self.assertIn("ipcluster: no engine could be started", error)
        self.nothing_is_left()

    def test_a_controller_that_cannot_start_is_told_at_once(self) -> None:
        error = self.run_ipcluster("-n", "1", "--client-ip=192.0.2.77", status=1).stderr
        self.assertRegex(error, r"^ipcluster: the controller exited with status 1: .*192\.0\.2\.77")
        self.assertEqual(error.count("\n"), 1)
        self.nothing_is_left()

    def test_usage_errors(self) -> None:
        for arguments, words in (
            (["-n", "-1"], "engines: '-1' is not a whole number from 0 up"),
            (["ssh", "-n", "2"], "give --hosts=HOST,... or -f FILE"),
            (["stop", "--daemonize"], "unrecognized arguments: --daemonize"),
            (["engines", "--daemonize"], "--daemonize cannot be used with engines"),
            (["slurm", "--mpi=mpi4py"], "is for mpiexec and mpirun, not for 'slurm'"),
        ):
            error = self.run_ipcluster(*arguments, status=2).stderr
            self.assertIn(words, error)
            self.assertEqual(error.count("\n"), 1)
        error = self.run_ipcluster("magic", "-n", "1", status=1).stderr
        self.assertIn(
            "unknown launcher 'magic'; available launchers: flux, htcondor, kubernetes, local, lsf, mpiexec",
            error,
        )
        self.assertEqual(self.run_ipcluster("stop", status=1).stderr.count("\n"), 1)

    def test_a_dead_engine_is_told_and_shown(self) -> None:
        process = self.start("-n", "2")
        victim = self.status().engines[1]
        os.kill(victim.pid, signal.SIGKILL)
        line = process.stdout.readline()  # type: ignore[union-attr]
        self.assertRegex(line, r"^ipcluster: engine 1 was killed by signal SIGKILL")
        shown = self.run_ipcluster("status").stdout
        self.assertRegex(shown, r"engine 0  running +\d+ ")
        self.assertRegex(shown, r"engine 1  ended .* was killed by signal SIGKILL")

    def test_engines_are_restarted_when_asked_to_be(self) -> None:
        self.start("-n", "1", "--restart-engines")
        first = self.status().engines[0]
        os.kill(first.pid, signal.SIGKILL)
        until(lambda: self.status().engines[0].pid not in (0, first.pid))
        until(lambda: self.status().ids == (0,))
        self.assertEqual(self.status().engines[0].restarts, 1)
        # User code that ends its process has not told the engine to end.
        for restarts, status in ((2, 0), (3, 86)):
            self.run_python(
                "from ipython1.kernel import client; mec = client.MultiEngineClient()\n"
                f"try: mec.execute('import os; os._exit({status})')\n"
                "except client.CompositeError: pass"
            )
            until(
                lambda restarts=restarts: (
                    self.status().engines[0].restarts == restarts and self.status().ids == (0,)
                )
            )
        self.run_python(
            "from ipython1.kernel import client; client.MultiEngineClient().kill(targets=0)"
        )
        until(lambda: self.status().engines[0].state == "ended")
        self.assertEqual(self.status().engines[0].restarts, 3)

    def test_a_killed_controller_comes_back_with_its_engines(self) -> None:
        process = self.start("-n", "2")
        self.run_python(
            "from ipython1.kernel import client; client.MultiEngineClient().push({'kept': 5})"
        )
        before = self.status()
        assert before.controller is not None
        os.kill(before.controller.pid, signal.SIGKILL)
        self.assertEqual(
            process.stdout.readline(),  # type: ignore[union-attr]
            "ipcluster: the controller was killed by signal SIGKILL; restarting it\n",
        )
        until(lambda: self.controller_pid() not in (0, before.controller.pid))
        until(lambda: self.status().ids == (0, 1))
        self.assertEqual([e.pid for e in self.status().engines], [e.pid for e in before.engines])
        printed = self.run_python(
            "from ipython1.kernel import client; print(client.MultiEngineClient().pull('kept'))"
        )
        self.assertEqual(printed, "[5, 5]\n")

    def controller_pid(self) -> int:
        controller = self.status().controller
        return controller.pid if controller is not None and controller.state == "running" else 0


class ByHandTests(IpclusterCase):
    """Engines that somebody has started in a terminal."""

    def ipengine(self) -> pexpect.spawn:
        child = pexpect.spawn(
            self.python,
            ["-P", "-m", "ipython1.kernel.scripts.ipengine"],
            env=self.environ,
            timeout=LIMIT,
        )
        self.addCleanup(child.close, force=True)
        return child

    def ends_with_ctrl_c(self, child: pexpect.spawn) -> None:
        child.sendintr()
        child.expect(pexpect.EOF)
        child.close()
        self.assertEqual((child.exitstatus, child.signalstatus), (0, None), child.before)

    def test_ctrl_c_ends_them(self) -> None:
        self.start_controller()
        idle, busy = self.ipengine(), self.ipengine()
        log = "registered as engine {}"
        logs = self.directory / "log"
        until(
            lambda: all(any(log.format(n) in f.read_text() for f in logs.iterdir()) for n in (0, 1))
        )
        self.run_python(
            "from ipython1.kernel import client; mec = client.MultiEngineClient()\n"
            f"pid, = [r['id'] for r in mec.execute('import os; os.getpid() == {busy.pid}')"
            " if r['result']['text/plain'] == 'True']\n"
            "mec.execute('import time; time.sleep(1000)', targets=pid, block=False)"
        )
        self.ends_with_ctrl_c(idle)
        self.ends_with_ctrl_c(busy)

    def test_ctrl_c_ends_one_that_waits_for_a_controller(self) -> None:
        child = self.ipengine()
        logs = self.directory / "log"
        until(lambda: logs.is_dir() and any(logs.iterdir()))
        child.sendintr()
        child.expect(pexpect.EOF)
        self.assertNotIn(b"Traceback", child.before)


class ForkedEnginesTests(IpclusterCase):
    def test_engines_share_the_memory_of_the_process_they_were_forked_from(self) -> None:
        self.start("-n", "2")
        for engine in self.status().engines:
            text = Path(f"/proc/{engine.pid}/smaps_rollup").read_text()
            private = sum(int(kb) for kb in re.findall(r"^Private_\w+: +(\d+)", text, re.M))
            self.assertLess(
                private, 40_000
            )  # kB; a Python with all the imports has more than 60,000
