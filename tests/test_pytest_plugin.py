"""The pytest plugin, for users who know pytest and nothing else; each test runs pytest in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest as standard_unittest
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import psutil
from twisted.trial import unittest

from tests.programs.doc_examples import find_blocks

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "docs" / "examples" / "testing"
GUIDE = ROOT / "docs" / "source" / "guide" / "testing.txt"
PLUGIN = "ipython1.testing.pytestplugin"
MARK = "IPYTHON1_TEST_RUN"
"""An environment variable by which the processes of a run are found."""

LIMIT = 120.0
"""Seconds that a run may take on a loaded machine."""


def plugin_options() -> list[str]:
    """Load the plugin where the metadata of an older installation do not name it."""
    named = [each.name for each in metadata.entry_points(group="pytest11")]
    return [] if "ipython1" in named else ["-p", PLUGIN]


@standard_unittest.skipIf(find_spec("pytest") is None, "pytest is not installed")
class PluginCase(unittest.SynchronousTestCase):
    """Runs pytest in a folder of its own, and looks at what is left."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="ipython1-plugin-", ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir()
        self.environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(self.temporary),
            MARK: self.folder.name,
        }
        self.environ.pop("IPYTHONDIR", None)

    def write(self, text: str, name: str = "test_it.py") -> None:
        (self.folder / name).write_text(textwrap.dedent(text))

    def start(self, *options: str, where: Path | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *plugin_options()]
        process = subprocess.Popen(
            [*command, "--color=no", *options],
            cwd=where or self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.addCleanup(process.stdout.close)  # type: ignore[union-attr]
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def pytest(self, *options: str, where: Path | None = None, **outcomes: int) -> str:
        """Run pytest; returns what it printed.

        :param outcomes: how many tests have ``passed``, ``failed``, or have ``errors``.
        """
        output = self.start(*options, where=where).communicate(timeout=LIMIT)[0]
        found = {name: int(count) for count, name in _OUTCOME.findall(output.splitlines()[-1])}
        found = {f"{name}s" if name == "error" else name: count for name, count in found.items()}
        self.assertEqual(found, outcomes, output)
        self.nothing_is_left()
        return output

    def nothing_is_left(self, folders: bool = True) -> None:
        """No process of a run is there any more, and no folder of a cluster."""
        limit = time.monotonic() + LIMIT
        while left := self.processes():
            self.assertLess(time.monotonic(), limit, left)
            psutil.wait_procs(left, timeout=0.1)
        if folders:
            self.assertEqual(list(self.temporary.glob("ipython1-*")), [])

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.folder.name:
                    found.append(process)
            except psutil.Error:
                continue
        return found


_OUTCOME = re.compile(r"(\d+) (passed|failed|error|errors|skipped|warnings?)\b")


class FixtureTest(PluginCase):
    def test_the_examples_of_the_guide(self) -> None:
        """With pytest, unittest and trial."""
        self.pytest("-q", str(EXAMPLES), where=EXAMPLES, passed=14)
        for runner, tests in (
            ("unittest", "test_wordcount_unittest"),
            ("twisted.trial", "trial_wordcount"),
        ):
            options = [] if runner == "unittest" else [f"--temp-directory={self.folder / 'trial'}"]
            result = subprocess.run(
                [sys.executable, "-m", runner, *options, tests],
                cwd=EXAMPLES,
                env=self.environ,
                capture_output=True,
                text=True,
                timeout=LIMIT,
                check=False,
            )
            output = result.stdout + result.stderr
            self.assertIn("Ran 4 tests", output)
            self.assertEqual(result.returncode, 0, output)
            self.nothing_is_left()

    def test_the_short_examples_of_the_guide(self) -> None:
        blocks = [each for each in find_blocks(GUIDE.read_text()) if each.language == "python"]
        own = [each.text for each in blocks if not each.argument]
        self.assertTrue(own)
        self.write("\n\n".join(own))
        self.pytest("-q", passed=4)

    def test_a_test_sees_nothing_of_the_ones_before(self) -> None:
        """Not even when they failed, left tasks and commands behind, or lost engines."""
        self.write(
            """
            import os, time
            import pytest
            from ipython1.kernel.client import MapTask, MultiEngineClient

            seen = set()

            def look():
                return os.getcwd(), os.environ.get("CHANGED"), os.getpid()

            @pytest.fixture(autouse=True)
            def as_new(ipython1_cluster):
                mec, tc = ipython1_cluster.multiengine(), ipython1_cluster.task()
                assert mec.get_ids() == [0, 1]
                assert mec.keys() == [[], []]
                assert mec.get_properties() == [{}, {}]
                assert [row["pending"] for _, row in mec.queue_status()] == [None, None]
                assert set(tc.queue_status().values()) == {0}
                assert tc.history() == []
                seen.update(each[:2] for each in mec.apply(look))
                assert len(seen) == 1

            def test_streams(ipython1_engines):
                ipython1_engines.execute("import sys; sys.stdout = sys.stderr = None")

            def test_no_streams_of_others(ipython1_engines):
                assert [each["stdout"] for each in ipython1_engines.execute("print(1)")] == ["1\\n"] * 2

            def test_names(ipython1_engines):
                ipython1_engines.execute("a = 1; import os; os.chdir('/'); os.environ['CHANGED'] = ''")
                ipython1_engines.set_properties({"b": 2})
                assert False

            def test_tasks(ipython1_cluster):
                tc = ipython1_cluster.task()
                tc.run_many([MapTask(time.sleep, [100])] * 10)
                tc.run(MapTask(abs, [-1]))

            def test_commands(ipython1_engines):
                for _ in range(3):
                    ipython1_engines.execute("import time; time.sleep(100)", block=False)

            def test_a_client_of_its_own():
                MultiEngineClient().execute("import time; time.sleep(100)", block=False)

            def test_dead_engines(ipython1_cluster):
                ipython1_cluster.kill_engine(0)
                assert ipython1_cluster.ids == [1]

            def test_engines_that_end(ipython1_engines):
                ipython1_engines.execute("import os; os._exit(1)", block=False)

            def test_more_engines(ipython1_cluster):
                assert ipython1_cluster.add_engines(1) == [2]

            def test_another_controller(ipython1_cluster):
                ipython1_cluster.restart_controller()

            def test_at_last():
                pass
            """
        )
        output = self.pytest("-q", passed=10, failed=1)
        self.assertIn("test_names", output)

    def test_the_number_of_engines(self) -> None:
        self.write("[pytest]\nipython1_engines = 3\n", "pytest.ini")
        self.write(
            """
            import os
            import pytest

            def test_of_the_ini_file(ipython1_in_process, ipython1_cluster):
                assert ipython1_in_process.ids == ipython1_cluster.ids == [0, 1, 2]

            @pytest.mark.ipython1(engines=1)
            class TestMarked:
                def test_of_the_class(self, ipython1_engines, ipython1_in_process):
                    assert ipython1_engines.ids == ipython1_in_process.ids == [0]

                @pytest.mark.ipython1(engines=2)
                def test_of_the_test(self, ipython1_engines):
                    assert ipython1_engines.ids == [0, 1]

            pids = []

            @pytest.mark.ipython1(engines=1)
            def test_the_same_process(ipython1_engines):
                pids.extend(ipython1_engines.apply(os.getpid))

            @pytest.mark.ipython1(engines=1)
            def test_the_same_process_again(ipython1_engines):
                assert ipython1_engines.apply(os.getpid) == pids

            @pytest.mark.ipython1(engines=1, fresh=True)
            def test_another_process(ipython1_engines):
                assert ipython1_engines.apply(os.getpid) != pids
            """
        )
        self.pytest("-q", "--strict-markers", passed=6)

    def test_engines_find_the_modules_of_the_tests(self) -> None:
        """Also those that only pytest finds, with each of its ways of importing."""
        self.write("[pytest]\npythonpath = src\n", "pytest.ini")
        (self.folder / "src").mkdir()
        self.write("def twice(x):\n    return 2 * x\n", "src/mymodule.py")
        self.write(
            """
            import mymodule

            def thrice(x):
                return 3 * x

            def test_it(ipython1_engines, ipython1_cluster):
                assert ipython1_engines.map(mymodule.twice, [1, 2]) == [2, 4]
                assert ipython1_engines.map(thrice, [1, 2]) == [3, 6]
                ipython1_cluster.restart_engine(0)
                assert ipython1_engines.map(thrice, [1, 2]) == [3, 6]
            """
        )
        self.pytest("-q", passed=1)
        self.pytest("-q", "--import-mode=importlib", passed=1)

    def test_workers_of_xdist_have_clusters_of_their_own(self) -> None:
        if find_spec("xdist") is None:
            raise standard_unittest.SkipTest("pytest-xdist is not installed")
        self.write(
            """
            import pytest

            @pytest.mark.parametrize("number", range(4))
            def test_it(ipython1_cluster, number, worker_id):
                mec = ipython1_cluster.multiengine()
                assert mec.keys() == [[], []]
                mec.push({worker_id: number})
            """
        )
        self.pytest("-q", "-n", "2", "--dist=each", passed=8)


class ReportTest(PluginCase):
    def test_the_log_is_in_the_report_of_a_test_that_fails(self) -> None:
        self.write(
            """
            def test_before(ipython1_cluster):
                ipython1_cluster.kill_engine(1)

            def test_that_fails(ipython1_cluster):
                ipython1_cluster.kill_engine(0)
                assert ipython1_cluster.ids == []

            def test_that_passes(ipython1_cluster):
                ipython1_cluster.kill_engine(1)
            """
        )
        output = self.pytest(passed=2, failed=1)
        self.assertEqual(output.count("Captured ipython1 cluster log"), 1)
        log = output.partition("Captured ipython1 cluster log")[2]
        self.assertIn("engine 0 is gone", log)
        self.assertNotIn("engine 1 is gone", log)

    def test_mistakes_are_one_clear_error_each(self) -> None:
        self.write(
            """
            import pytest

            @pytest.mark.ipython1(engines=0)
            def test_none(ipython1_cluster): ...

            @pytest.mark.ipython1(engines="x")
            def test_text(ipython1_in_process): ...

            @pytest.mark.ipython1(2)
            def test_place(ipython1_engines): ...

            @pytest.mark.ipython1(engine=2)
            def test_name(ipython1_engines): ...

            @pytest.mark.ipython1(fresh=1)
            def test_fresh(ipython1_engines): ...

            @pytest.fixture(scope="session")
            def shared(ipython1_cluster): ...

            def test_scope(shared): ...
            """
        )
        output = self.pytest(errors=6)
        for text in (
            "@pytest.mark.ipython1: engines must be a whole number of 1 or more, not 0",
            "@pytest.mark.ipython1: engines must be a whole number of 1 or more, not 'x'",
            "@pytest.mark.ipython1: takes engines=n and fresh=True, and nothing else",
            "@pytest.mark.ipython1: fresh must be True or False, not 1",
            "ScopeMismatch: You tried to access the function scoped fixture ipython1_cluster",
        ):
            self.assertIn(text, output)
        self.assertNotIn("Traceback", output)
        self.assertNotIn("pytestplugin.py:4", output)

    def test_a_wrong_ini_option(self) -> None:
        for wrong in ("0", "x", "-1", "1.5"):
            self.write(f"[pytest]\nipython1_engines = {wrong}\n", "pytest.ini")
            output = self.start().communicate(timeout=LIMIT)[0]
            self.assertEqual(
                output.strip(),
                f"ERROR: ipython1_engines must be a whole number of 1 or more, not {wrong!r}",
            )


class CostTest(PluginCase):
    def test_nothing_is_imported_before_it_is_used(self) -> None:
        self.write(
            """
            import sys

            def test_it():
                loaded = [name for name in sys.modules if name.partition(".")[0] in ("ipython1", "twisted", "foolscap")]
                assert sorted(loaded) == [
                    "ipython1", "ipython1.testing", "ipython1.testing.pytestplugin", "ipython1.version"
                ]
            """
        )
        self.pytest("-q", passed=1)

    def test_the_plugin_is_named_in_the_metadata(self) -> None:
        import tomllib

        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        self.assertEqual(project["entry-points"]["pytest11"], {"ipython1": PLUGIN})


class EndTest(PluginCase):
    """Nothing is left when a run is broken off."""

    def setUp(self) -> None:
        super().setUp()
        self.write(
            """
            from pathlib import Path

            def test_it(ipython1_engines):
                Path("begun").touch()
                ipython1_engines.execute("import time; time.sleep(100)")
            """
        )

    def begin(self) -> subprocess.Popen[str]:
        process = self.start("-q")
        self.wait_for(process, self.folder / "begun")
        return process

    def wait_for(self, process: subprocess.Popen[str], path: Path) -> None:
        limit = time.monotonic() + LIMIT
        while not path.exists():
            self.assertIsNone(process.poll())
            self.assertLess(time.monotonic(), limit)
            time.sleep(0.02)

    def test_ctrl_c(self) -> None:
        process = self.begin()
        self.assertGreater(len(self.processes()), 3)
        os.killpg(process.pid, signal.SIGINT)
        output = process.communicate(timeout=LIMIT)[0]
        self.assertEqual(process.returncode, 2, output)
        self.assertIn("WaitInterrupted", output)
        self.nothing_is_left()

    def test_ctrl_c_while_the_cluster_starts(self) -> None:
        process = self.start("-q")
        limit = time.monotonic() + LIMIT
        while len(self.processes()) < 2:
            self.assertIsNone(process.poll())
            self.assertLess(time.monotonic(), limit)
        os.killpg(process.pid, signal.SIGINT)
        output = process.communicate(timeout=LIMIT)[0]
        self.assertEqual(process.returncode, 2, output)
        self.nothing_is_left()

    def test_kill_9(self) -> None:
        process = self.begin()
        process.kill()
        process.wait()
        self.nothing_is_left(folders=False)
