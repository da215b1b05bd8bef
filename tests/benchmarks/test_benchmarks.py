"""The short form of ``scripts/benchmark``, and what it makes of its samples."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from twisted.trial import unittest

from ipython1.daemon import osprocess
from ipython1.testing.folders import temporary_path
from tests.benchmarks import meters, report, results, rounds
from tests.benchmarks.rows import EXTRA_PARTS, PARTS, ROWS


def folder(case: unittest.SynchronousTestCase) -> Path:
    path = Path(temporary_path(case))
    path.mkdir()
    return path


def benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "tests.benchmarks", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


class ShortFormTests(unittest.SynchronousTestCase):
    timeout = 300

    def test_every_row_is_measured(self) -> None:
        """With tiny numbers, on real clusters of two engines."""
        place = folder(self)
        parts = [word for part in (*PARTS, *EXTRA_PARTS) for word in ("--only", part)]
        written = place / "new.json"
        shown = place / "shown"
        done = benchmark(
            *("--quick", "--rounds", "1", *parts),
            *("--json", str(written), "--document", str(shown)),
        )
        self.assertEqual(done.returncode, 0, done.stdout)
        found = results.read(written)
        self.assertEqual([row.name for row in found.rows()], list(ROWS))
        for sample in found:
            self.assertEqual(sample.who, "ipython1")
            self.assertTrue(all(value > 0 for value in sample.values), sample)
        call = found.find("call_one", "ipython1")
        assert call is not None
        self.assertEqual(set(call.cpu), {"client", "controller", "engines"})
        self.assertIn(ROWS["call_one"].title, done.stdout)
        self.assertIn(ROWS["call_one"].title, (shown / "figures.txt").read_text())
        self.assertIn("</svg>", (shown / "sizes.svg").read_text())


def sample(row: str, *values: float, who: str = "ipython1", x: float | None = None) -> Any:
    return {"row": row, "who": who, "x": x, "values": values, "cpu": {}, "instructions": {}}


class ResultsTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.place = folder(self)

    def save(self, name: str, *samples: Any) -> Path:
        contestants = {
            each["who"]: {"version": "1", "note": "", "how": {}, "trouble": ""} for each in samples
        }
        path = self.place / name
        path.write_text(
            json.dumps({"format": 1, "machine": {}, "contestants": contestants, "samples": samples})
        )
        return path

    def test_ratios_to_an_earlier_run(self) -> None:
        """Better and worse follow the unit, and are said only where quartiles do not meet."""
        old = self.save(
            "old.json",
            sample("call_one", 1.0, 1.1, 1.2),
            sample("push_one", 200, 210, 220),
            sample("get_ids", 1.0, 2.0, 3.0),
            sample("push_size", 10, 10, 10, x=1024),
            sample("call_all", 1.0),
        )
        new = self.save(
            "new.json",
            sample("call_one", 0.5, 0.55, 0.6),
            sample("push_one", 100, 105, 110),
            sample("get_ids", 1.0, 1.8, 3.0),
            sample("push_size", 20, 20, 20, x=1024),
            sample("call_one", 1.0, who="ray"),
        )
        done = benchmark("--from", str(new), "--compare", str(old))
        self.assertEqual(done.returncode, 0, done.stdout)
        told = done.stdout.partition("new/old")[2].split("\n")[1:]
        self.assertEqual(
            [" ".join(line.split()) for line in told if line],
            [
                "ipython1 call_one, ms 1.10 0.550 0.50 better",
                "ipython1 push_one, MB/s 210 105 0.50 worse",
                "ipython1 get_ids, ms 2.00 1.80 0.90",
                "ipython1 push_size 1 KB, MB/s 10.00 20.00 2.00 better",
            ],
        )

    def test_files_are_put_together(self) -> None:
        """The samples of several runs count as those of one."""
        one = self.save("one.json", sample("call_one", 1.0, 2.0))
        two = self.save("two.json", sample("call_one", 3.0), sample("call_one", 9.0, who="ray"))
        both = results.read(one, two)
        found = both.find("call_one", "ipython1")
        assert found is not None
        self.assertEqual((found.median, found.quartiles), (2.0, (1.5, 2.5)))
        self.assertEqual(both.contestants(), ["ipython1", "ray"])

    def test_another_file_is_refused(self) -> None:
        """With one line that names it."""
        path = self.place / "other.json"
        for text in ("", "[]", '{"format": 1}', '{"format": 99}'):
            path.write_text(text)
            problem = self.assertRaises(ValueError, results.read, path)
            self.assertIn(str(path), str(problem))
            self.assertNotIn("\n", str(problem))
        done = benchmark("--from", str(path))
        self.assertEqual((done.returncode, done.stdout.count("\n")), (2, 1), done.stdout)
        self.assertIn(str(path), done.stdout)

    def test_the_text_tells_peers_apart(self) -> None:
        """Each contestant has a line with its median and quartiles."""
        path = self.save("one.json", sample("call_one", 1, 2, 3), sample("call_one", 4, who="ray"))
        told = [" ".join(line.split()) for line in report.lines(results.read(path))]
        self.assertIn("ipython1 2.00 1.50–2.50", told)
        self.assertIn("ray 4.00", told)


class ProgramsTests(unittest.SynchronousTestCase):
    def run_code(self, code: str, limit: float) -> tuple[str, int]:
        """Run a program that prints the id of a process that it leaves."""
        place = folder(self)
        start = (
            "import subprocess, sys\n"
            "left = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
            "open('left', 'w').write(str(left.pid))\n"
            "print('some words', flush=True)\n"
        )
        trouble = rounds.run_program(
            [sys.executable, "-P", "-c", start + code], place, uuid.uuid4().hex, limit
        )
        return trouble, int((place / "left").read_text())

    def test_what_a_failed_program_leaves_is_ended(self) -> None:
        trouble, left = self.run_code("sys.exit(3)", 60)
        self.assertIn("status 3", trouble)
        self.assertIn("some words", trouble)
        self.assertFalse(osprocess.is_alive(left))

    def test_a_program_that_does_not_end_is_stopped(self) -> None:
        trouble, left = self.run_code("left.wait()", 3)
        self.assertIn("stopped after 3 s", trouble)
        self.assertFalse(osprocess.is_alive(left))


class MetersTests(unittest.SynchronousTestCase):
    def test_counted_instructions_are_read(self) -> None:
        """From what perf prints, where it counts them."""
        self.assertEqual(meters.read_perf("123456,,instructions,1000,100.00,,\n"), 123456.0)
        self.assertEqual(meters.read_perf("77,,instructions:u,1000,100.00,1.2,insn per cycle"), 77)
        self.assertIsNone(meters.read_perf("<not supported>,,instructions,0,100.00,,\n"))
        self.assertIsNone(meters.read_perf(""))

    def test_processor_time_of_another_process(self) -> None:
        """All that it has used, and nothing for one that is gone."""
        code = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\ninput()"
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            self.assertGreater(meters.processor_seconds(process.pid), 0.19)
            process.communicate("\n")
        self.assertEqual(meters.processor_seconds(process.pid), 0.0)
