"""The words of ``ipcluster``, their command lines, and what they print."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ipython1.kernel.basics.error import ClientError, ClusterError
from ipython1.kernel.clusters.status import ClusterStatus, EngineInfo, ProcessInfo
from ipython1.kernel.host.security import ClusterFiles, IPythonDirs
from ipython1.kernel.launchers.interfaces import HostInfo
from ipython1.kernel.scripts import logsaction, restartaction, statusaction
from ipython1.kernel.scripts.arguments import engine_ids
from ipython1.kernel.scripts.clusterwords import STARTING, WORDS, find_word, run_word
from ipython1.kernel.scripts.completion import completion_parser
from ipython1.kernel.scripts.ipcluster import starts_here
from ipython1.kernel.scripts.look import Looked
from ipython1.kernel.scripts.tables import aligned
from ipython1.kernel.scripts.tests.optionscase import OptionsTestCase
from ipython1.kernel.watching.tests.test_top import NOW, engine, news, work


class WordTests(OptionsTestCase):
    def printed(self, *words: str) -> str:
        written = io.StringIO()
        with contextlib.redirect_stdout(written):
            self.assertEqual(run_word(*find_word(words)), 0)
        return written.getvalue()

    def test_where_the_word_is(self) -> None:
        for line, word, others in (
            ("stop", "stop", ""),
            ("--cluster-id stop status --json", "status", "--cluster-id stop --json"),
            ("--json status", "status", "--json"),
            ("logs engine 3", "logs", "engine 3"),
            ("-n 4 stop", "", "-n 4 stop"),
            ("start -n 4", "", "start -n 4"),
            ("local", "", "local"),
            ("", "", ""),
        ):
            self.assertEqual(find_word(line.split()), (word, others.split()), line)

    def test_only_what_starts_here_has_a_nanny_at_once(self) -> None:
        for line in ("", "-n 4", "local -n 4", "start", "start -n 4", "start local"):
            self.assertTrue(starts_here(line.split()), line)
        for line in ("ssh", "start ssh", "stop", "--json status", "engines -n 2", "--version"):
            self.assertFalse(starts_here(line.split()), line)

    def test_each_word_explains_itself(self) -> None:
        overview = self.printed("help")
        for word in WORDS:
            text = self.printed("help", word)
            self.assertIn(f"usage: ipcluster {word}", text)
            if word != "help":
                self.assertIn(f"ipcluster {word}", overview)
            self.assertTrue(all(len(line) <= 80 for line in text.splitlines()), text)
        for word in (*STARTING, "slurm"):
            self.assertEqual(self.printed("help", word), overview)
        problem = self.assertRaises(ClientError, run_word, "help", ["lgos"])
        self.assertEqual(str(problem), "there is no word 'lgos'; did you mean 'logs'?")

    def test_a_mistyped_option_of_a_word(self) -> None:
        for words, meant in (
            (["stop", "--forse"], "--force"),
            (["status", "--jsn"], "--json"),
            (["logs", "--folow"], "--follow"),
            (["restart", "engine"], "engines"),
            (["logs", "controler"], "controller"),
        ):
            line = self.assert_ends(2, run_word, *find_word(words))
            self.assertIn(f"did you mean {meant!r}?", line)
            self.assertIn(f"(see ipcluster {words[0]} --help)", line)

    def test_wrong_ids(self) -> None:
        self.assertEqual(engine_ids("0-2,7"), [0, 1, 2, 7])
        for text in ("", "x", "3-1", "-1", "1-", "0-999999999"):
            self.assertRaises(argparse.ArgumentTypeError, engine_ids, text)
        for words in (
            ["remove"],
            ["remove", "x"],
            ["restart", "controller", "3"],
            ["logs", "engine"],
        ):
            self.assert_ends(2, run_word, *find_word(words))

    def test_without_a_cluster(self) -> None:
        place = f"--ipython-dir={self.directory}"
        for words in ("status", "stop", "restart", "remove 1", "top", "top --once"):
            problem = self.assertRaises(ClusterError, run_word, *find_word([*words.split(), place]))
            self.assertIn(f"there is no cluster in {self.directory}", str(problem))
        self.assertEqual(self.printed("list", place), f"no clusters in {self.directory}\n")
        self.assertEqual(json.loads(self.printed("list", "--json", place)), [])
        self.assertRaises(ClusterError, run_word, "logs", [place])
        self.assertRaises(ClusterError, run_word, "logs", ["engine", "3", place])

    def test_logs_of_one_cluster_are_not_those_of_another(self) -> None:
        place = f"--ipython-dir={self.directory}"
        self.log.mkdir(mode=0o700)
        for name, text in (
            ("ipengine-other-3.log", "registered as engine 3\n"),
            ("ipengine-4711.log", "first\nregistered as engine 3\nlast\n"),
        ):
            (self.log / name).write_text(text)
        written = io.StringIO()
        with contextlib.redirect_stderr(written):
            self.assertEqual(self.printed("logs", "3", "-n", "1", place), "last\n")
        self.assertIn(
            f"does not run; its last log is {self.log}/ipengine-4711.log", written.getvalue()
        )
        problem = self.assertRaises(ClusterError, run_word, "logs", ["4", place])
        self.assertIn("there is no log of engine 4", str(problem))
        files = logsaction.files_of(logsaction.make_parser().parse_args([place]))
        running = status(ids=(0,), engines=(EngineInfo(id=0, state="running", host="far"),))
        self.assertIsNone(logsaction.log_path(files, running, "engine", 0))
        problem = self.assertRaises(ClusterError, logsaction.log_path, files, running, "engine", 3)
        self.assertIn("there is no engine 3 in the cluster; there are: 0", str(problem))


def status(**fields: Any) -> ClusterStatus:
    values: dict[str, Any] = {
        "cluster_id": "",
        "kind": "local",
        "state": "running",
        "host": "one",
        "pid": 100,
        "pid_started": 1.0,
        "started": NOW,
        "ipython_dir": "/x",
        "ids": (0, 1),
        "controller": ProcessInfo(state="running", pid=101),
        "engines": (
            EngineInfo(id=0, state="running", pid=4000),
            EngineInfo(id=1, state="ended", pid=4001, reason="was killed", lines=("last",)),
        ),
    }
    return ClusterStatus(**{**values, **fields})


class StatusTests(OptionsTestCase):
    def lines(self, found: ClusterStatus, looked: Looked | None = None) -> str:
        return "\n".join(statusaction.status_lines(found, looked))

    def test_what_engines_use_and_do(self) -> None:
        busy = engine(0, doing="task", what="f", since=NOW - 5, cpu=97.6, memory=2.5e9, tasks=2)
        added = engine(7, host="two", queued=1)
        text = self.lines(status(), Looked(news(engines=(busy, added), work=(work(),)), ""))
        for line in (
            r"the cluster: running, local, 2 engines \(0-1\), for .*, process 100 on one",
            r"  controller: running, process 101, 2 clients",
            r"  tasks: 12 waiting, 4 running, 1,034 done, 3 failed, 120/s",
            r"  simulate: 400 of 1,000 items, 4 running, 3 failed, 75 s or more left \(ada@one\)",
            r"            state    process  host   CPU  memory  queue  tasks",
            r"  engine 0  running     4000        98 %  2.5 GB      0      2  f for 5 s",
            r"  engine 1  ended                      -       -      -      -  was killed",
            r"      last",
            # Somebody else's engine, which only the controller knows.
            r"  engine 7  running     4007  two      -       -      1      0",
        ):
            self.assertRegex(text, f"(?m)^{line}$")

    def test_hosts_that_are_not_there(self) -> None:
        hosts = (
            HostInfo("node1", "there", engines=(0,)),
            HostInfo("node2", "away", "node2: \x1b refused", 3, 7.6, engines=(1, 2, 3)),
            HostInfo("node3", "silent", silent=61.0, engines=(4,)),
        )
        text = self.lines(status(hosts=hosts))
        self.assertNotIn("host node1", text)
        self.assertIn("host node2: away, tried again in 8 s, engines 1-3: \\x1b refused\n", text)
        self.assertIn("host node3: silent, no answer for 61 s, engine 4\n", text)
        content = json.loads(json.dumps(status(hosts=hosts).to_json()))
        self.assertEqual(content["hosts"][1]["retry_in"], 7.6)
        self.assertEqual(ClusterStatus.from_json(content).hosts, hosts)

    def test_what_processes_have_said_does_not_control_the_terminal(self) -> None:
        said = ("\x1b]0;mine\x07\x1b[2J",)
        ended = EngineInfo(id=0, state="ended", reason="said \x1b[1m", lines=said)
        controller = ProcessInfo(state="ended", lines=said)
        text = self.lines(status(engines=(ended,), controller=controller, warnings=said))
        self.assertEqual(text.count(r"\x1b]0;mine\x07\x1b[2J"), 3)
        self.assertIn(r"said \x1b[1m", text)
        self.assertNotIn("\x1b", text)

    def test_only_engines_that_are_there_are_restarted(self) -> None:
        files = ClusterFiles(IPythonDirs(Path(self.mktemp())))
        self.assertEqual(restartaction._chosen(status(), [[1], [0]], files), [0, 1])
        with self.assertRaisesRegex(ClusterError, "no engine 7-9 in .*; nothing was restarted"):
            restartaction._chosen(status(), [[0], [7, 8, 9]], files)

    def test_without_an_answer_of_the_controller(self) -> None:
        text = self.lines(status(), Looked(None, "it is away"))
        self.assertIn("  CPU, memory and queues are not known: it is away\n", text)
        self.assertRegex(text, r"(?m)^            state    process$")
        self.assertRegex(text, r"(?m)^  engine 0  running     4000$")

    def test_as_json(self) -> None:
        content = statusaction.to_json(
            status(), Looked(news(engines=(engine(0, cpu=5.0),), work=(work(),)), "")
        )
        self.assertEqual([each["cpu"] for each in content["engines"]], [5.0, None])
        self.assertEqual((content["tasks"]["failed"], content["work"][0]["left"]), (3, 75.0))
        again = ClusterStatus.from_json(json.loads(json.dumps(content)))
        self.assertEqual(again.engines, status().engines)
        content = statusaction.to_json(status(), Looked(None, "x"))
        self.assertFalse(content["controller_answers"])

    def test_a_table(self) -> None:
        self.assertEqual(aligned([("a", "bb"), ("ccc", "d")], {1}), ["a    bb", "ccc   d"])
        self.assertEqual(aligned([]), [])


class CompletionTests(OptionsTestCase):
    def complete(self, line: str) -> list[str]:
        """What a shell is told by the real command."""
        out = self.directory / "out"
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "IPYTHONDIR": str(self.directory),
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_IFS": "\n",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(out),
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
        }
        command = [sys.executable, "-P", "-m", f"ipython1.kernel.scripts.{line.split()[0]}"]
        subprocess.run(command, env=environ, timeout=60, check=True)
        return [each.strip() for each in out.read_text().splitlines()]

    def test_words_options_and_clusters(self) -> None:
        self.security.mkdir(mode=0o700)
        (self.security / "ipcontroller-mine.lock").touch()
        self.assertEqual(self.complete("ipcluster st"), ["status", "stop", "start"])
        self.assertEqual(self.complete("ipcluster stop --cluster-id "), ["mine"])
        self.assertEqual(self.complete("ipcontroller furl ro"), ["rotate"])
        self.assertEqual(self.complete("ipengine --furl"), ["--furl-file"])

    def test_every_word_has_its_options(self) -> None:
        for word in (*WORDS, *STARTING, "slurm"):
            parser = completion_parser("ipcluster", ["ipcluster", word])
            given = parser.parse_args(
                [word, "--cluster-id=x"] + ["1"] * (word in ("remove", "adapt"))
            )
            self.assertEqual(given.cluster_id, "x")

    def test_a_start_does_not_load_it(self) -> None:
        code = (
            "import sys; from ipython1.kernel.scripts import ipcluster; "
            "print([name for name in ('argcomplete', 'argparse', 'rich', 'dataclasses') if name in sys.modules])"
        )
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            [sys.executable, "-I", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"],
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        self.assertEqual(done.stdout, "[]\n")
