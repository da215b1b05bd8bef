"""The monitor's page in a browser, on a real cluster: it shows what the cluster does.

The pictures in ``docs/source/pictures`` are made by::

    IPYTHON1_MONITOR_PICTURES=docs/source/pictures trial tests.test_monitor_page
"""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial import unittest

from ipython1.testing import RealCluster
from ipython1.testing.processes import private_environ, start_program
from tests.browser import browser, look, screenshot, why_not

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ROOT / "tests" / "programs"
IPCLUSTER = [sys.executable, "-m", "ipython1.kernel.scripts.ipcluster"]
LIMIT = 60.0

PICTURES = os.environ.get("IPYTHON1_MONITOR_PICTURES", "")
"""The directory into which the pictures of the documentation are written, of a cluster that has worked for a while."""

BROWSER = """#!{python}
import sys
with open({told!r}, "w") as file:
    file.write("\\n".join(sys.argv[1:]))
"""
"""A browser that notes what it is told."""


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for something.

    :raises AssertionError: if it does not come.
    """
    end = time.monotonic() + LIMIT
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not after {LIMIT:g} s: {what}")
        time.sleep(0.05)
    return found


def end(process: subprocess.Popen[str]) -> None:
    """End a program."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


class MonitorPageTests(unittest.SynchronousTestCase):
    skip = why_not() or None

    def test_the_page_shows_what_the_cluster_does(self) -> None:
        with RealCluster(4) as cluster, browser() as driver:
            self.cluster, self.driver = cluster, driver
            self.security = cluster.ipython_dir / "security"
            self.start_work()
            self.start_monitor()
            self.check_strangers_are_refused()
            self.check_entering()
            self.check_what_is_shown()
            self.make_pictures()
            self.check_controls()
            self.check_restart()
            self.check_the_end()

    def start_work(self) -> None:
        items = 600 if PICTURES else 120
        work = subprocess.Popen(
            [sys.executable, str(PROGRAMS / "monitored_work.py"), str(items)],
            env=self.cluster.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(end, work)
        assert work.stdout is not None
        self.assertEqual(work.stdout.readline(), "working\n")

    def start_monitor(self) -> None:
        folder = self.cluster.ipython_dir / "tmp"
        self.told = folder / "told"
        program = folder / "browser"
        program.write_text(BROWSER.format(python=sys.executable, told=str(self.told)))
        program.chmod(0o700)
        environ = {**self.cluster.environ, "BROWSER": str(program)}
        self.monitor = start_program([*IPCLUSTER, "monitor"], environ)
        self.addCleanup(end, self.monitor)
        assert self.monitor.stdout is not None
        found = re.fullmatch(
            r"the cluster is shown at: (http://127\.0\.0\.1:(\d+)/\?token=(\S+))\n",
            self.monitor.stdout.readline(),
        )
        assert found is not None
        self.url, self.port, self.token = found[1], int(found[2]), found[3]

    # -- entering

    def check_strangers_are_refused(self) -> None:
        for address in (f"http://127.0.0.1:{self.port}/", self.url[:-1]):
            self.driver.get(address)
            self.assertIn("This address has no valid token", self.body())

    def check_entering(self) -> None:
        """The browser gets a private file, and no token on its command line."""
        words = until(
            lambda: self.told.exists() and self.told.read_text(), "the browser is started"
        )
        self.assertNotIn(self.token, words)
        path = Path(words.removeprefix("file://"))
        self.assertEqual(path.parent, self.security)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.driver.get(words)
        until(
            lambda: self.driver.current_url.startswith(f"http://127.0.0.1:{self.port}/"),
            "it leads on",
        )
        until(lambda: self.text("link") == "live", "the page is live")
        self.assertNotIn(self.token, self.driver.current_url)
        until(lambda: not path.exists(), "the file is removed")

    # -- what is shown

    def body(self) -> str:
        return str(self.driver.execute_script("return document.body.innerText"))

    def text(self, id: str) -> str:
        return str(
            self.driver.execute_script(
                "return document.getElementById(arguments[0])?.innerText ?? ''", id
            )
        )

    def rows(self, selector: str) -> list[str]:
        return list(
            self.driver.execute_script(
                "return [...document.querySelectorAll(arguments[0])].map((each) => each.innerText)",
                selector,
            )
        )

    def check_what_is_shown(self) -> None:
        self.assertEqual(self.text("name"), "Default cluster")
        until(lambda: self.text("t-busy") == "4", "all engines are busy")
        self.assertEqual(self.text("t-engines"), "of 4 busy")
        rows = until(lambda: self.engine_rows("simulate_orbit"), "an engine runs it")
        pids = {str(self.pid_of(number)) for number in range(4)}
        self.assertEqual({row.split("\t")[-1] for row in self.rows("#rows tr:not(.spacer)")}, pids)
        self.assertTrue(
            all("MB" in row and socket.gethostname().split(".")[0] in row for row in rows)
        )
        jobs = until(
            lambda: len(self.rows("#work .job")) == 3 and self.rows("#work .job"), "three maps"
        )
        done = next(each for each in jobs if each.startswith("checksum"))
        self.assertIn("300 items", done)
        until(
            lambda: any(
                each.startswith("simulate_orbit") and "failed" in each
                for each in self.rows("#work .job")
            ),
            "a failed item",
        )
        self.check_failures()
        until(lambda: "simulate_orbit" in self.text("legend"), "the timeline knows the function")
        self.assertIn("ipcontroller", self.text("log-name"))
        until(lambda: "engine 3 registered" in self.text("log"), "the log is shown")
        errors = [each for each in self.driver.get_log("browser") if "403" not in each["message"]]
        self.assertEqual(errors, [])

    def engine_rows(self, word: str) -> list[str]:
        return [row for row in self.rows("#rows tr:not(.spacer)") if word in row]

    def pid_of(self, number: int) -> int:
        log = (self.cluster.ipython_dir / "log" / "ipcontroller.log").read_text()
        found = re.search(rf"engine {number} registered: process (\d+)", log)
        assert found is not None
        return int(found[1])

    def check_failures(self) -> None:
        until(
            lambda: "orbit 5 does not close" in self.text("failures"), "the failed item is listed"
        )
        self.assertIn("NameError", self.text("failures"))
        self.driver.execute_script(
            "[...document.querySelectorAll('.failure')].find((each) => each.innerText.includes('orbit 5'))"
            ".querySelector('summary').click()"
        )
        shown = until(
            lambda: "".join(self.rows(".failure pre")).strip("…"), "the traceback is there"
        )
        self.assertIn("raise ValueError", shown)
        self.driver.execute_script("document.querySelector('.failure[open] summary').click()")

    def make_pictures(self) -> None:
        folder = ROOT / (PICTURES or tempfile.mkdtemp(dir=self.cluster.ipython_dir))
        if PICTURES:
            folder.mkdir(exist_ok=True)
            time.sleep(50)
        for name, width, height, dark in (
            ("monitor-light.png", 1240, 1060, False),
            ("monitor-dark.png", 1240, 1060, True),
            ("monitor-phone.png", 390, 1180, False),
        ):
            look(self.driver, width, height, dark)
            theme = "dark" if dark else "light"
            script = "return document.documentElement.dataset.theme"
            until(lambda: self.driver.execute_script(script) == theme, f"it is {theme}")
            wide = "return document.documentElement.scrollWidth <= innerWidth"
            self.assertTrue(self.driver.execute_script(wide), f"{name} is too wide")
            time.sleep(1.5 if PICTURES else 0)
            screenshot(self.driver, folder / name)
            self.assertEqual((folder / name).read_bytes()[:4], b"\x89PNG")
        look(self.driver, 1240, 1060)

    def check_controls(self) -> None:
        run = self.driver.execute_script
        run("document.querySelector('#theme').click(); document.querySelector('#theme').click()")
        self.assertEqual(run("return document.documentElement.dataset.theme"), "dark")
        run("filter.value = '2'; filter.dispatchEvent(new Event('input'))")
        self.assertEqual(self.text("engine-count"), "1 of 4")
        self.assertEqual(len(self.rows("#rows tr:not(.spacer)")), 1)
        run("filter.value = ''; filter.dispatchEvent(new Event('input'))")
        run("document.querySelector('.h-id button').click()")
        self.assertEqual(
            [row.split("\t")[0] for row in self.rows("#rows tr:not(.spacer)")], ["3", "2", "1", "0"]
        )
        run(
            "document.querySelector('#timeline-canvas').dispatchEvent(new WheelEvent('wheel', {deltaY: 120, "
            "cancelable: true}))"
        )
        self.assertRegex(self.text("timeline-range"), r"last 1 min \d+ s")
        run("document.querySelector('#earlier').click()")
        self.assertIn("until", self.text("timeline-range"))
        run("document.querySelector('#live').click()")
        self.assertIn("last", self.text("timeline-range"))

    # -- what happens to it

    def check_restart(self) -> None:
        self.driver.execute_script(
            "window.seen = []; new MutationObserver(() => seen.push(trouble.innerText))"
            ".observe(trouble, {childList: true, characterData: true, subtree: true})"
        )
        subprocess.run(
            [*IPCLUSTER, "restart"],
            env=self.cluster.environ,
            check=True,
            timeout=LIMIT,
            capture_output=True,
        )
        until(
            lambda: any(
                "out of reach since" in each for each in self.driver.execute_script("return seen")
            ),
            "away",
        )
        until(
            lambda: self.text("link") == "live" and self.text("t-engines").startswith("of 4"),
            "it is back",
        )

    def check_the_end(self) -> None:
        self.monitor.send_signal(signal.SIGINT)
        self.assertEqual(self.monitor.wait(LIMIT), 0)
        assert self.monitor.stdout is not None
        self.assertEqual(self.monitor.stdout.read(), "")
        until(lambda: "may have ended" in self.text("trouble"), "the page says so")
        with socket.socket() as probe:
            self.assertNotEqual(probe.connect_ex(("127.0.0.1", self.port)), 0)
        self.assertEqual(list(self.security.glob("*.html")), [])
        log = (self.cluster.ipython_dir / "log" / "ipmonitor.log").read_text()
        self.assertNotIn(self.token, log)


class MonitorProgramTests(unittest.SynchronousTestCase):
    def test_monitors_of_programs_and_wrong_use(self) -> None:
        with RealCluster(1) as cluster:
            done = cluster.run_program(PROGRAMS / "monitor_objects.py")
            self.assertEqual(done.stdout, "blocking: well\nasynchronous: well\n")
            url = cluster.run_program(PROGRAMS / "monitor_objects.py", "leave").stdout.strip()
            port = int(url.partition("127.0.0.1:")[2].partition("/")[0])

            def is_closed() -> bool:
                with socket.socket() as probe:
                    return probe.connect_ex(("127.0.0.1", port)) != 0

            until(is_closed, "it ends with its program")
            with socket.socket() as taken:
                taken.bind(("127.0.0.1", 0))
                taken.listen()
                number = taken.getsockname()[1]
                said = self.fails(cluster.environ, f"--port={number}")
                self.assertIn(f"cannot listen on port {number}: Address already in use", said)
            self.assertIn(
                "there is no cluster 'lab'", self.fails(cluster.environ, "--cluster-id=lab")
            )

    def test_without_a_cluster_it_says_so_and_creates_nothing(self) -> None:
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        said = self.fails(private_environ(directory))
        self.assertIn(f"there is no cluster in {directory} ", said)
        self.assertIn("ipcluster -n 4", said)
        self.assertEqual([each.name for each in directory.iterdir()], ["tmp"])

    def fails(self, environ: dict[str, str], *options: str) -> str:
        done = subprocess.run(
            [*IPCLUSTER, "monitor", "--no-browser", *options],
            env=environ,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        return done.stderr
