"""The words of ``ipcluster`` on a real cluster, as a user gives them one after the other; and its live view."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from ipython1.daemon import osprocess
from ipython1.kernel.clusters.status import ClusterStatus, read_state
from tests.test_ipcluster import LIMIT, IpclusterCase, until

WORK = """
import signal, sys
from ipython1.kernel import client
mec, tc = client.MultiEngineClient("mine"), client.TaskClient("mine")
def simulate(number):
    import os, time
    while not os.path.exists(sys_path):
        time.sleep(0.01)
mec.push({"sys_path": sys.argv[1]})
tc.run_many([client.MapTask(simulate, (number,)) for number in range(20)])
print("sent", flush=True)
signal.pause()
"""


class TranscriptTests(IpclusterCase):
    def words(self, *words: str, status: int = 0) -> str:
        done = self.run_ipcluster(*words, "--cluster-id=mine", status=status)
        if status:
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        return done.stderr if status else done.stdout

    def title(self, pid: int) -> str:
        text = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        return text.decode().strip()

    def state(self) -> ClusterStatus:
        """What is written down of the cluster, which takes less time than to ask it."""
        found = read_state(self.directory / "security" / "ipcluster-mine.json")
        assert found is not None
        return found

    def kill(self, engine: int) -> None:
        victim = next(each for each in self.state().engines if each.id == engine)
        os.kill(victim.pid, signal.SIGKILL)
        until(lambda: engine not in self.state().ids)

    def test_a_cluster_from_its_start_to_its_end(self) -> None:
        up = self.words("start", "-n", "3", "--daemonize")
        self.assertIn("cluster 'mine' is up: 3 engines (0-2).", up)
        self.processes_tell_what_they_are()
        self.work_is_seen()
        self.engines_come_and_go()
        self.logs_are_shown()
        self.assertIn("is restarted", self.words("restart"))
        self.assertEqual(self.words("stop"), "cluster 'mine' is stopped\n")
        self.assertIn("is the controller running?", self.words("top", status=1))
        self.nothing_is_left()

    def processes_tell_what_they_are(self) -> None:
        if not osprocess.is_linux():
            return
        found = self.state()
        assert found.controller is not None and found.nanny is not None
        self.assertEqual(self.title(found.pid), "ipcluster [mine]")
        self.assertEqual(self.title(found.controller.pid), "ipcontroller [mine]")
        self.assertEqual(self.title(found.nanny.pid), "ipython1-nanny [mine]")
        for engine in found.engines:
            self.assertEqual(self.title(engine.pid), f"ipengine {engine.id} [mine]")

    def work_is_seen(self) -> None:
        """The status, and the view in a terminal that is no terminal."""
        until_there = self.directory / "go"
        program = self.start_program([self.python, "-c", WORK, str(until_there)])
        self.assertEqual(program.stdout.readline(), "sent\n")  # type: ignore[union-attr]
        # On a machine with much to do, the controller may not answer in time to be shown.
        shown = self.shown_when(lambda shown: shown.count("simulate for") == 3, "status")
        self.assertRegex(shown, r"(?m)^  simulate: 0 of 20 tasks, 3 running")
        self.assertRegex(
            shown, r"(?m)^  engine 0  running +\d+ +\d+ % +\d+ MB +\d+ +\d+  simulate for "
        )
        content = json.loads(
            self.shown_when(lambda shown: '"controller_answers": true' in shown, "status", "--json")
        )
        self.assertEqual([each["what"] for each in content["engines"]], ["simulate"] * 3)
        self.assertTrue(all(each["memory"] > 1e6 for each in content["engines"]))
        once = self.words("top", "--once")
        self.assertRegex(once, r"(?m)^cluster 'mine'  up .* 3 engines")
        self.assertRegex(once, r"(?m)^simulate +0 of 20 tasks")
        self.assertRegex(once, r"(?m)^ +2  busy +\d+ .*simulate$")
        self.output_cannot_be_written()
        until_there.touch()
        self.shown_when(lambda shown: '"succeeded": 20' in shown, "status", "--json")
        program.kill()

    def shown_when(self, condition: Callable[[str], bool], *words: str) -> str:
        """Return what ``ipcluster`` prints, once that meets a condition."""
        shown = ""

        def is_met() -> bool:
            nonlocal shown
            shown = self.words(*words)
            return condition(shown)

        until(is_met)
        return shown

    def output_cannot_be_written(self) -> None:
        reader, closed = os.pipe()
        os.close(reader)
        said = "ipcluster: the output cannot be written: No space left on device\n"
        for output, told in ((os.open("/dev/full", os.O_WRONLY), (1, said)), (closed, (0, ""))):
            for words in (["status"], ["logs"]):
                done = subprocess.run(
                    self.command(*words, "--cluster-id=mine"),
                    env=self.environ,
                    stdout=output,
                    stderr=subprocess.PIPE,
                    text=True,
                    timeout=LIMIT,
                    check=False,
                )
                self.assertEqual((done.returncode, done.stderr), told, words)
            os.close(output)

    def engines_come_and_go(self) -> None:
        self.assertIn("no engine has ended", self.words("restart", "engines", status=1))
        self.kill(1)
        self.assertRegex(
            self.words("status"), r"(?m)^  engine 1  ended .* was killed by signal SIGKILL$"
        )
        self.assertEqual(self.words("restart", "engines"), "restarted: engine 1\n")
        self.kill(0)
        # The ids of lost engines come first.
        self.assertEqual(self.words("engines", "-n", "2"), "added: engines 0,3\n")
        self.assertEqual(self.words("remove", "1-2"), "removed: engines 1-2\n")
        self.assertIn("there is no engine 1", self.words("remove", "1", status=1))
        self.assertEqual(self.state().ids, (0, 3))

    def logs_are_shown(self) -> None:
        self.assertIn("registered as engine 3", self.words("logs", "engine", "3"))
        self.assertIn("engine 0 registered", self.words("logs", "-n", "1000"))
        self.assertIn("there is no engine 9", self.words("logs", "9", status=1))
        follow = self.start_program(self.command("logs", "-f", "-n", "1", "--cluster-id=mine"))
        line = follow.stdout.readline()  # type: ignore[union-attr]
        self.words("engines", "-n", "1")
        while "engine 1 registered" not in line:
            self.assertTrue(line)
            line = follow.stdout.readline()  # type: ignore[union-attr]
        follow.send_signal(signal.SIGINT)
        self.assertEqual(follow.wait(LIMIT), 0)

    def test_what_was_started_by_hand_is_seen_and_ended(self) -> None:
        controller = self.start_controller()
        engine = self.start_program([self.python, "-P", "-m", "ipython1.kernel.scripts.ipengine"])
        until(lambda: "1 engine (0)" in self.run_ipcluster("list").stdout)
        listed = self.run_ipcluster("list").stdout
        self.assertRegex(
            listed, rf"^\(default\): running, by hand, 1 engine \(0\), .* process {controller.pid} "
        )
        shown = self.run_ipcluster("status").stdout
        self.assertRegex(shown, rf"(?m)^  controller: running, process {controller.pid}, ")
        self.assertRegex(shown, rf"(?m)^  engine 0  running +{engine.pid} ")
        error = self.run_ipcluster("restart", status=1).stderr
        self.assertIn("was started by hand, so ipcluster cannot restart it", error)
        done = self.run_ipcluster("stop").stdout
        self.assertEqual(done, "the cluster is ended: 2 processes that were started by hand\n")
        self.assertEqual((controller.wait(LIMIT), engine.wait(LIMIT)), (0, 0))
        self.assertEqual(list((self.directory / "security").glob("*.byhand")), [])
        self.nothing_is_left()


class TopTests(IpclusterCase):
    """The live view, in a terminal of its own."""

    def tmux(self, *arguments: str) -> str:
        return subprocess.run(
            ["tmux", "-S", str(self.directory / "tmux.socket"), *arguments],
            env=self.environ,
            check=True,
            capture_output=True,
            text=True,
            timeout=20,
        ).stdout

    def wait_for(self, pattern: str, lines: int | None = None) -> str:
        end = time.monotonic() + LIMIT
        while True:
            screen = self.tmux("capture-pane", "-p")
            if re.search(pattern, screen, re.MULTILINE):
                return screen
            self.assertLess(time.monotonic(), end, f"{pattern!r} is not on the screen:\n{screen}")
            time.sleep(0.05)

    def test_keys_and_sizes(self) -> None:
        self.environ["TERM"] = "xterm-256color"
        self.environ.pop("TMUX", None)
        self.start("-n", "2")
        command = shlex.join(self.command("top", "--interval=0.2"))
        script = "trap : INT" + f"; {command}; echo status $?; read answer" * 3
        self.tmux(
            *("-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "20", "sh", "-c", script)
        )
        self.addCleanup(self.tmux, "kill-server")
        screen = self.wait_for(r"^engines 2, by id$")
        self.assertRegex(screen, r"(?m)^default cluster  up .* 2 engines")
        self.assertRegex(screen, r"(?m)^ +1  idle +\d+ ")
        self.tmux("send-keys", "m")
        self.wait_for(r"^engines 2, by memory$")
        self.tmux("send-keys", "m")
        self.wait_for(r"^engines 2, by memory \(reversed\)$")
        self.tmux("resize-window", "-x", "70", "-y", "8")
        self.wait_for(r"^engines \d-\d of 2, by memory|^engines 2, by memory")
        self.tmux("resize-window", "-x", "100", "-y", "20")
        self.run_ipcluster("engines", "-n", "1")
        self.wait_for(r"^engines 3, by memory")
        self.run_ipcluster("restart")
        self.wait_for(r"3 engines · 1 client")
        self.tmux("send-keys", "q")
        # The screen is what it was before.
        self.assertNotIn("engines 3", self.wait_for(r"^status 0$"))
        self.tmux("send-keys", "Enter")
        self.wait_for(r"^engines 3, by id$")
        self.tmux("send-keys", "C-c")
        self.wait_for(r"^status 0\n(.*\n)*status 0$")
        self.tmux("send-keys", "Enter")
        self.wait_for(r"^engines 3, by id$")
        shell = int(self.tmux("list-panes", "-F", "#{pane_pid}"))
        (top,) = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        os.kill(int(top), signal.SIGTERM)
        self.assertNotIn("engines 3", self.wait_for(r"^status 143$"))
